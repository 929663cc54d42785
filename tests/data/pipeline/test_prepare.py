"""Builds that are killed halfway, truncated files, two processes at once, and read-only folders."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stii_jax.data import DataError, open_dataset
from stii_jax.data.bouncing_balls import BouncingBalls
from stii_jax.data.catalog import prepare
from stii_jax.data.folders import resolve_data_dir

VERSION = str(BouncingBalls.VERSION)
FEW = {"num_frames": 3, "num_train": 5, "num_validation": 2, "num_test": 2}


def prepare_few(data_dir: Path, **more) -> BouncingBalls:
    return prepare("bouncing_balls", "mini", FEW, str(data_dir), **more)


def test_builds_once_and_leaves_nothing_else(tmp_path, capsys):
    folder = Path(prepare_few(tmp_path).data_path)
    assert "Building bouncing_balls/mini" in capsys.readouterr().out
    assert folder == tmp_path / "bouncing_balls" / folder.parent.name / VERSION
    assert {path.name for path in folder.parent.iterdir()} == {VERSION, "build.lock"}
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    prepare_few(tmp_path)
    assert capsys.readouterr().out == ""
    assert written == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    prepare_few(tmp_path, overwrite=True)
    assert "Built" in capsys.readouterr().out
    assert written.keys() == {path for path in folder.iterdir()}


@pytest.mark.slow
def test_a_killed_build_is_no_dataset(tmp_path):
    options = '{"num_train": 4000, "num_frames": 20}'
    command = [
        sys.executable,
        "-m",
        "stii_jax.data.build",
        "--dataset",
        "bouncing_balls",
        "--variant",
        "mini",
    ]
    with subprocess.Popen([*command, "--data_dir", tmp_path, "--options", options]) as process:
        deadline = time.monotonic() + 60
        while not (partial := list(tmp_path.glob("bouncing_balls/*/incomplete.*/*"))):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    folder = partial[0].parent.parent
    assert not (folder / VERSION).exists()

    source = open_dataset("bouncing_balls", "mini", {"num_train": 4000, "num_frames": 20}, str(tmp_path))
    assert Path(source.builder.data_path) == folder / VERSION
    assert not list(folder.glob("incomplete.*"))
    next(source.train_batches(4, 2, 0))


@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "no info", "cut info"])
def test_a_damaged_dataset_is_refused(tmp_path, damage):
    folder = Path(prepare_few(tmp_path).data_path)
    shard = next(folder.glob("*train*"))
    if "info" in damage:
        shard = folder / "dataset_info.json"
    if damage in ("missing", "no info"):
        shard.unlink()
    else:
        os.truncate(shard, 0 if damage == "empty" else shard.stat().st_size // 2)
    with pytest.raises(DataError, match=rf"{shard.name}.*--overwrite"):
        prepare_few(tmp_path)
    prepare_few(tmp_path, overwrite=True)
    prepare_few(tmp_path)


def test_two_builds_at_once(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        folders = {builder.data_path for builder in pool.map(prepare_few, [tmp_path] * 2)}
    assert len(folders) == 1


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write to the data folder .*/file/.*data_dir"):
        prepare_few(tmp_path / "file")


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), errno.ENOSPC),
        (RuntimeError("write() failed: No space left on device"), errno.EIO),
    ],
)
def test_a_full_disk_names_the_folder(tmp_path, monkeypatch, failure, code):
    def full(self, split):
        raise failure
        yield

    monkeypatch.setattr(BouncingBalls, "videos", full)
    message = rf"could not write the dataset to {tmp_path}.*No space left.*Free some space.*data_dir"
    with pytest.raises(OSError, match=message) as error:
        prepare_few(tmp_path)
    assert error.value.errno == code
    assert not list(tmp_path.glob(f"bouncing_balls/*/{VERSION}"))


def test_dataset_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("STII_DATA_DIR", raising=False)
    assert resolve_data_dir("") == tmp_path / ".cache" / "stii_jax"
    monkeypatch.setenv("STII_DATA_DIR", "/elsewhere")
    assert resolve_data_dir("") == Path("/elsewhere")
    assert resolve_data_dir("~/mine") == tmp_path / "mine"


def test_a_dataset_can_be_moved(tmp_path):
    prepare_few(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    source = open_dataset("bouncing_balls", "mini", FEW, str(tmp_path / "there"))
    assert len(list(source.eval_batches("train", 3, 5))) == 1
