"""The beginning of a run: nothing is written before its data is open, and a folder without a run takes any settings."""

import errno

import pytest
from test_loop import bits, stop_after
from toy import make_config, overrides, use_toy_model

from stii_jax.config import ConfigError
from stii_jax.data import DataError
from stii_jax.main import run
from stii_jax.runs import modes
from stii_jax.runs.lock import check_writable, holds_run
from stii_jax.runs.setup import load_dataset, restore
from stii_jax.training.loop import Trainer
from stii_jax.visualization import visualize

pytestmark = pytest.mark.usefixtures("quick_compiles")

NO_EVALUATION = {"train__eval_every": 1000, "eval__periodic_videos": 0}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    use_toy_model(monkeypatch)
    monkeypatch.setattr(modes, "evaluate", lambda *_: None)
    monkeypatch.setattr(visualize, "plot_learning_curve", lambda *_: None)


def stopped_after(monkeypatch, num_steps):
    """Stop training by Ctrl-C after so many steps."""

    class Stopped(Trainer):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            stop_after(self, num_steps)

    monkeypatch.setattr(modes, "Trainer", Stopped)


def broken_videos(folder):
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.mp4").write_bytes(b"\0" * 100)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "there is no folder"),
        (lambda folder: folder.mkdir(), "there are no videos in"),
        (broken_videos, "none of the 3 files"),
    ],
)
def test_videos_that_cannot_be_opened(tmp_path, data_dir, make, message):
    make(tmp_path / "videos")
    workdir = tmp_path / "runs" / "mine"
    own = {"data.dataset": "video_folder", "data.variant": "default", "data.options.folder": tmp_path / "videos"}
    own |= {"data.num_frames": 1, "eval.split": "train", "eval.lengths": (1,), "data.data_dir": tmp_path / "data"}
    settings = [f"{key}={value}" for key, value in own.items()]
    with pytest.raises(DataError, match=message):
        run("train", "default", workdir, settings)
    assert not workdir.parent.exists()
    run("train", "default", workdir, overrides(data_dir, train__num_steps=2, **NO_EVALUATION))


@pytest.mark.parametrize("part", ["make_model", "make_optimizer", "make_train_step"])
def test_a_model_that_cannot_be_made(tmp_path, data_dir, monkeypatch, part):
    def fails(*_, **__):
        raise ConfigError("no such model")

    monkeypatch.setattr(f"stii_jax.training.loop.{part}", fails)
    with pytest.raises(ConfigError, match="no such model"):
        run("train", "default", tmp_path / "run", overrides(data_dir))
    assert not (tmp_path / "run").exists()


def test_a_trainer_writes_nothing_before_it_runs(tmp_path, data_dir):
    config = make_config(data_dir)
    source = load_dataset(config)
    trainer = Trainer(config, source, source, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert trainer.checkpointer.latest_step() is None and (tmp_path / "run").exists()


@pytest.mark.parametrize("num_steps", [0, 3])
def test_before_the_first_checkpoint_other_settings_may_be_given(tmp_path, data_dir, monkeypatch, capsys, num_steps):
    """After three steps there is a line in the log."""
    workdir, every = tmp_path / "run", {"train__checkpoint_every": 4, "train__num_steps": 4, **NO_EVALUATION}
    with monkeypatch.context() as patch:
        stopped_after(patch, num_steps)
        with pytest.raises(KeyboardInterrupt):
            run("train", "default", workdir, overrides(data_dir, **every))
    out = capsys.readouterr().out
    assert "stopped by Ctrl-C: the same command starts over, even with other settings" in out
    other = overrides(data_dir, seed=1, **every)
    run("train", "default", workdir, other)
    note = "has other settings but no checkpoint: training starts anew (seed: saved 0, given 1)"
    assert f"{workdir} {note}\n" in capsys.readouterr().out
    run("train", "default", tmp_path / "straight", other)
    assert (workdir / "config.json").read_text() == (tmp_path / "straight" / "config.json").read_text()
    config = make_config(data_dir, seed=1, **every)
    params = [restore(config, folder).params for folder in (workdir, tmp_path / "straight")]
    assert bits(params[0]) == bits(params[1])


def test_after_the_first_checkpoint_other_settings_are_refused(tmp_path, data_dir, monkeypatch, capsys):
    workdir, every = tmp_path / "run", {"train__checkpoint_every": 2, **NO_EVALUATION}
    stopped_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        run("train", "default", workdir, overrides(data_dir, **every))
    assert "stopped by Ctrl-C: the same command resumes from the checkpoint of step 2\n" in capsys.readouterr().out
    before = (workdir / "config.json").read_text()
    with pytest.raises(ConfigError, match=r"holds a run with other settings \(seed: saved 0, given 1\)"):
        run("train", "default", workdir, overrides(data_dir, seed=1, **every))
    assert (workdir / "config.json").read_text() == before


def test_settings_are_compared_again_once_the_folder_is_locked(tmp_path, data_dir, monkeypatch):
    """Another run may have begun, and ended, while this one opened its data."""
    workdir, every = tmp_path / "run", {"train__num_steps": 2, **NO_EVALUATION}
    opened = modes.load_dataset

    def meanwhile(config, **which):
        if config.seed == 1 and not workdir.exists():
            run("train", "default", workdir, overrides(data_dir, **every))
        return opened(config, **which)

    monkeypatch.setattr(modes, "load_dataset", meanwhile)
    with pytest.raises(ConfigError, match=r"holds a run with other settings \(seed: saved 0, given 1\)"):
        run("train", "default", workdir, overrides(data_dir, seed=1, **every))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda run: None, False),
        (lambda run: (run / "config.json").write_text("{}"), False),
        (lambda run: (run / "checkpoints").mkdir(), False),
        (lambda run: (run / "checkpoints" / "8.orbax-checkpoint-tmp").mkdir(parents=True), False),
        (lambda run: (run / "checkpoints" / "8").mkdir(parents=True), True),
        (lambda run: (run / "checkpoints" / "damaged_8_1").mkdir(parents=True), True),
        (lambda run: (run / "metrics.jsonl").write_text('{"step": 9, "time": 1}\n'), False),
        (lambda run: (run / "metrics.jsonl").write_text('{"step": 10, "time": 1}\n'), True),
    ],
)
def test_a_run_is_recognised_by_its_files(tmp_path, make, expected):
    make(tmp_path)
    assert holds_run(tmp_path, checkpoint_every=10) == expected


def test_folders_that_cannot_be_made(tmp_path):
    check_writable(tmp_path / "deep" / "run")
    assert not (tmp_path / "deep").exists()
    (tmp_path / "file").touch()
    with pytest.raises(
        OSError, match=r"cannot write to .*/file/run \(Not a directory: .*/file\): give another"
    ) as error:
        check_writable(tmp_path / "file" / "run")
    assert error.value.errno == errno.ENOTDIR
