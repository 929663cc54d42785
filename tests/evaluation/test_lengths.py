"""Short videos: the configs for own videos adapt to their length, and train."""

import json

import pytest
from sample_recordings import write_raw
from test_video_folder import noise
from toy import use_toy_model

from stii_jax.config import ConfigError, load_config
from stii_jax.data import DataError
from stii_jax.main import run
from stii_jax.runs.setup import check, load_dataset
from stii_jax.training.loop import Trainer

pytestmark = pytest.mark.usefixtures("quick_compiles")


@pytest.fixture
def settings(tmp_path):
    """Overrides for a run of a few steps on the videos in `videos`."""
    small = {"batch_size": 4, "train.num_steps": 2, "curriculum.stages": "((4, 4, 2), (16, 4, 2))"}
    small |= {"optim.warmup_steps": 1, "train.log_every": 2, "train.checkpoint_every": 2, "train.eval_every": 4}
    small |= {"data.options.image_size": 8, "data.options.folder": tmp_path / "videos", "data.data_dir": tmp_path}
    return [f"{key}={value}" for key, value in small.items()]


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    use_toy_model(monkeypatch)


def write(tmp_path, *lengths):
    for number, length in enumerate(lengths):
        write_raw(tmp_path / "videos" / f"{number}.avi", noise(length, 32, 32))


@pytest.mark.parametrize(
    ("videos", "frames", "lengths", "forecast"),
    [
        ((3,), (1, 1, 1), (1,), (10, 6)),  # a single frame has nothing to predict
        ((5,), (1, 2, 2), (2,), (1, 1)),
        ((10,), (1, 4, 5), (5,), (4, 1)),
        ((16,), (1, 4, 8), (8,), (5, 3)),
        ((20,), (1, 4, 10), (8, 10), (7, 3)),
        ((5, 5), (1, 4, 5), (5,), (4, 1)),
        ((16, 20), (1, 4, 16), (8, 16), (10, 6)),
    ],
)
def test_lengths_fit_the_videos(tmp_path, settings, videos, frames, lengths, forecast):
    write(tmp_path, *videos)
    config = load_config("video_folder:small", settings)
    check(config, "train")
    source = load_dataset(config)
    trainer = Trainer(config, source, source, tmp_path / "run")
    assert tuple(stage.num_frames for stage in trainer.curriculum.stages) == frames
    fit = trainer.evaluator.settings
    assert (fit.lengths, (fit.observed_frames, fit.predict_frames)) == (lengths, forecast)
    assert config == load_config("video_folder:small", settings), "the run's own settings stay as they are"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_on_short_videos(tmp_path, settings, capsys):
    write(tmp_path, 5, 5)
    workdir = tmp_path / "run"
    run("train", "video_folder:small", workdir, settings)
    out = capsys.readouterr().out
    assert (
        "the videos give clips of 5 frames: curriculum.stages is ((4, 4, 2), (5, 4, 2)) instead of ((4, 4, 2), (16"
        in out
    )
    results = json.loads((workdir / "results.json").read_text())
    assert [part["num_frames"] for part in results["lengths"]] == [5]
    run("predict", None, workdir, [])
    assert json.loads((workdir / "prediction.json").read_text())["lengths"][0]["num_frames"] == 1
    run("train", "video_folder:small", workdir, settings)  # the same command resumes
    assert "Resuming from the checkpoint of step 6\n" in capsys.readouterr().out


def test_lengths_that_no_video_can_have_are_errors(tmp_path, settings):
    """The message gives the whole command, and that command works."""
    write(tmp_path, 40, 40)
    given = [*settings, "curriculum.stages=((4, 4, 2), (32, 4, 2))"]
    with pytest.raises(ConfigError, match=r"stages\[1\]: num_frames is 32, .* have 16 frames: give (.*), or") as caught:
        run("train", "video_folder:small", tmp_path / "run", given)
    assert "give --config.curriculum.stages='((4,4,2),(16,4,2))', or" in str(caught.value)
    config = load_config("video_folder:small", [*settings, "curriculum.stages=((4,4,2),(16,4,2))"])
    check(config, "train")


def test_a_clip_length_that_was_asked_for(tmp_path, settings):
    write(tmp_path, 5, 5)
    workdir = tmp_path / "run"
    with pytest.raises(DataError, match=r"a clip takes 12 \(omit --config\.data\.options\.num_frames to fit clips"):
        run("train", "video_folder:small", workdir, [*settings, "data.options.num_frames=12", "curriculum.stages=()"])
    assert not workdir.exists()
    config = load_config("video_folder:small", settings)
    source = load_dataset(config)
    assert Trainer(config, source, source, workdir).curriculum.stages[-1].num_frames == 5


def test_a_video_of_one_frame(tmp_path, settings):
    write(tmp_path, 1)
    hint = r"no validation videos: .* with --config\.eval\.periodic_videos=0 --config\.eval\.split=train$"
    with pytest.raises(ConfigError, match=hint):
        run("train", "video_folder:small", tmp_path / "run", settings)
    config = load_config("video_folder:small", [*settings, "eval.periodic_videos=0", "eval.split=train"])
    check(config, "train")
    source = load_dataset(config)
    Trainer(config, source, source, tmp_path / "run")
