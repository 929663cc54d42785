"""`--mode doctor` and `--help`: true statements about this machine, and every flag, mode, config and model."""

import shutil
from collections import namedtuple

import av
import jax
import pytest
from absl import flags

import stii_jax
from stii_jax import command_line, main, pretrained
from stii_jax.config import config_names
from stii_jax.runs import doctor

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    monkeypatch.setenv("STII_DATA_DIR", str(tmp_path / "data" / "deep"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(capsys):
    """Return the exit code, and by subject the mark and the rest of each printed line."""
    code, printed = doctor.examine(), {}
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("  "):
            mark, _, rest = line.strip().partition(" ")
            about, _, found = rest.strip().partition(": ")
            printed[about] = (mark, found)
    return code, printed


def test_a_machine_that_is_well(capsys, folders):
    code, printed = lines(capsys)
    assert code == 0 and "MISSING" not in {mark for mark, _ in printed.values()}
    assert printed["stii_jax"][1].startswith(stii_jax.__version__)
    assert f"jax {jax.__version__}" in printed["packages"][1]
    assert printed["devices of jax"][1].startswith("4 x cpu")
    assert printed["a first computation"] == ("ok", "correct")
    assert printed["datasets"][1].startswith(str(folders / "data" / "deep"))
    assert "quickstart" in printed["trained models"][1]
    assert printed["dataset clevrer"][0] == "--" and "docs/datasets.md" in printed["dataset clevrer"][1]
    assert not any(folders.iterdir())


def test_files_that_are_there(capsys, folders):
    files = folders / "data" / "deep" / "manual" / "clevrer"
    files.mkdir(parents=True)
    (files / "video_train.zip").touch()
    assert lines(capsys)[1]["dataset clevrer"] == ("ok", f"files in {files}")


def test_a_requirement_of_every_use_is_missing(capsys, monkeypatch):
    monkeypatch.setattr(pretrained, "names", lambda: [])
    code, printed = lines(capsys)
    assert code == 1 and printed["trained models"] == ("MISSING", "none -> reinstall stii_jax")


def test_a_full_disk(capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1, 1, 5e8))
    code, printed = lines(capsys)
    assert code == 0 and printed["datasets"][0] == "--"
    assert printed["datasets"][1].endswith("0.5 GB free -> free space, or set $STII_DATA_DIR")


def test_a_folder_that_cannot_be_written_to(capsys, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    code, printed = lines(capsys)
    assert code == 1 and printed["datasets"][0] == "MISSING" and "Permission denied" in printed["datasets"][1]


def test_a_gpu_that_jax_does_not_use(capsys, monkeypatch):
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/nvidia-smi" if name == "nvidia-smi" else which(name))
    code, printed = lines(capsys)
    assert code == 0 and printed["GPU"][0] == "--" and "pip install -e '.[cuda]'" in printed["GPU"][1]


def test_no_encoder(capsys, monkeypatch):
    def fail(*_, **__):
        raise av.FFmpegError(1, "no encoder")

    monkeypatch.setattr(av, "open", fail)
    mark, found = lines(capsys)[1]["video files (decompose, video_folder)"]
    assert mark == "--" and "no encoder" in found and "pip install" in found


def test_help_names_everything(capsys):
    with pytest.raises(SystemExit) as stop:
        main._parse(["main.py", "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    own = {flag.name for flag in flags.FLAGS.flags_by_module_dict()["stii_jax.command_line"]}
    assert own == {flag.name for group in command_line.GROUPS.values() for flag in group}
    for name in (*(f"--{flag}" for flag in own), *command_line.MODES, *config_names(), *pretrained.names()):
        assert name in text, name
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--mod", "train"], "--help lists all flags"), (["--mode=trian"], "--help lists all flags")],
)
def test_unknown_flags(arguments, message):
    with pytest.raises(SystemExit, match="error: ") as stop:
        main._parse(["main.py", *arguments])
    assert message in str(stop.value) and "\n" not in str(stop.value)


def test_every_feature_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda _: None)
    printed = lines(capsys)[1]
    assert all("pip install" in printed[feature][1] for feature in doctor._EXTRAS)
    assert set(doctor._EXTRAS) <= set(printed)
