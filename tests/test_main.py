"""The command line: the files of a run, resuming it, and a clear one-line message for every error."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from toy import overrides, use_toy_model

from stii_jax import main
from stii_jax.config import ConfigError
from stii_jax.data import DataError
from stii_jax.devices.parallel import DeviceError
from stii_jax.main import ERRORS, run
from stii_jax.report import main as report
from stii_jax.report import result_entry
from stii_jax.runs import modes, setup
from stii_jax.runs.settings import open_config
from stii_jax.storage.checkpoints import CheckpointError
from stii_jax.storage.metric_log import read_metrics

pytestmark = pytest.mark.usefixtures("quick_compiles")

RESULTS = {"dataset", "split", "step", "seed", "commit", "num_frames", "num_videos", "seconds", "train_seconds"}
SCORES = {"ari", "f_ari", "video_ari", "video_f_ari", "mse"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):
    """The workdir of a short run with the toy model."""
    workdir = tmp_path_factory.mktemp("runs") / "deep" / "run"
    with pytest.MonkeyPatch.context() as patch:
        use_toy_model(patch, few_metrics=False)
        run("train", "default", workdir, overrides(data_dir))
        yield workdir


def read(path):
    return json.loads(path.read_text())


def command(*arguments, **environment):
    """Run `python -m stii_jax.main` as a user would."""
    done = subprocess.run(
        [sys.executable, "-m", "stii_jax.main", *map(str, arguments)],
        cwd=Path(__file__).resolve().parents[1],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "2", **environment},
        capture_output=True,
        text=True,
        timeout=500,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_run_leaves_everything(finished):
    assert {path.name for path in finished.iterdir()} == {
        *(".lock", "config.json", "provenance.json", "metrics.jsonl", "results.json"),
        *("checkpoints", "media", "tensorboard"),
    }
    assert read(finished / "config.json")["model"]["num_slots"] == 2
    assert read_metrics(finished / "metrics.jsonl")[-1]["step"] == 8
    assert "8" in {path.name for path in (finished / "checkpoints").iterdir()}
    for name in ("validation_0", "test_0"):
        for suffix in (".png", ".gif"):
            with Image.open(finished / "media" / f"{name}{suffix}") as picture:
                assert getattr(picture, "n_frames", 1) == (1 if suffix == ".png" else 5 if name == "test_0" else 2)
    assert (finished / "media" / "curve.png").stat().st_size > 1000


def test_results(finished):
    results = read(finished / "results.json")
    assert results.keys() >= RESULTS | SCORES
    assert (results["dataset"], results["split"]) == ("bouncing_balls/mini", "test")
    assert (results["step"], results["num_frames"], results["num_videos"], results["seed"]) == (8, 5, 6, 0)
    assert [part["num_frames"] for part in results["lengths"]] == [2, 5]
    assert results["seconds"] > 0 and results["train_seconds"] > 0


def test_a_finished_run_is_taken_up_by_the_report(finished):
    entry = result_entry(finished, "a-name")
    assert entry["hardware"].endswith("cores")
    assert entry["model"] == "STII"
    assert [score["num_frames"] for score in entry["scores"]] == [2, 5]


def test_a_finished_run_becomes_a_page(finished, data_dir, tmp_path):
    """Repeating it gives the same bytes, and nothing in the workdir changes."""
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    pages = [tmp_path / "one.html", tmp_path / "two.html"]
    for page in pages:
        assert report(["--html", str(finished), "--output", str(page), "--videos", "1"]) == 0
    text = pages[0].read_text()
    assert text == pages[1].read_text() and before == {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    assert "<title>run " in text and text.count('class="chart"') == 2 and "test videos" in text
    assert str(finished) not in text and str(data_dir) not in text, "no paths of this machine"


def test_evaluate_needs_the_workdir_alone(finished, capsys):
    before = read(finished / "results.json")
    (finished / "results.json").unlink()
    run("evaluate", None, finished, [])
    after = read(finished / "results.json")
    assert before | {"seconds": 0} == after | {"seconds": 0}
    out = capsys.readouterr().out
    assert f"2 frames, 6 videos: ari {after['lengths'][0]['ari']:.4f} +- " in out
    assert str(finished / "results.json") in out


@pytest.mark.slow
def test_evaluations_of_other_videos_lie_beside_the_runs_own(finished):
    own = (finished / "results.json").read_text()
    others = {
        "_num_slots=3_validation": ["eval.split=validation", "eval.num_slots=3"],
        "_num_balls=2-2": ["eval.options.num_balls=(2, 2)"],
    }
    for label, settings in others.items():
        run("evaluate", None, finished, ["eval.num_videos=2", *settings])
        results = read(finished / f"results{label}.json")
        assert results["num_videos"] == 2 and (finished / "media" / f"{results['split']}{label}_0.png").exists()
    assert (results["num_slots"], results["options"]["num_balls"]) == (2, [2, 2])
    assert read(finished / "results_num_slots=3_validation.json")["num_slots"] == 3
    run("evaluate", None, finished, ["eval.num_videos=2"])  # fewer of the same
    assert read(finished / "results.json")["num_videos"] == 2
    (finished / "results.json").write_text(own)
    evaluations = result_entry(finished, "name")["evaluations"]
    assert set(evaluations) == {label[1:] for label in others}


def test_predict(finished, capsys):
    run("predict", None, finished, [])
    prediction = read(finished / "prediction.json")
    assert prediction["observed_frames"] == 3 and prediction["lengths"][0].keys() >= SCORES
    assert [part["num_frames"] for part in prediction["lengths"]] == [2]
    assert (finished / "media" / "prediction_0.gif").exists()
    assert "predicted after 3 frames:\n2 frames, 6 videos: ari" in capsys.readouterr().out
    assert "futures" not in prediction
    run("predict", None, finished, ["eval.futures=3"])
    sampled = read(finished / "prediction.json")
    futures = sampled.pop("futures")
    assert sampled == prediction and futures["num_futures"] == 3
    assert [row["frame"] for row in futures["frames"]] == [1, 2]
    assert "3 futures, in predicted frame 2: position error " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["probe.num_frames=6"], r"config\.probe\.num_frames is 6, expected 2 to 5"),
        (["probe.num_frames=3", "probe.num_videos=4"], r"videos have an object .*: increase config\.probe\.num_videos"),
    ],
)
def test_invalid_settings_for_probes(finished, settings, message):
    with pytest.raises(ConfigError, match=message):
        run("disentangle", None, finished, settings)
    assert not (finished / "probes.json").exists()


def test_the_same_command_goes_on(finished, data_dir, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    run("train", "default", workdir, overrides(data_dir, train__num_steps=12))
    assert "Resuming from the checkpoint of step 8\n" in capsys.readouterr().out
    assert read(workdir / "results.json")["step"] == 12
    assert [line["step"] for line in read_metrics(workdir / "metrics.jsonl")] == [2, 4, 6, 8, 10, 12]


def fails(error, message, mode, config_name, workdir, settings):
    """Assert that `run` stops with a one-line error, which the command line shows without a traceback."""
    assert issubclass(error, ERRORS)
    with pytest.raises(error, match=message) as caught:
        run(mode, config_name, workdir, settings)
    assert "\n" not in str(caught.value)


@pytest.fixture
def nothing_built(monkeypatch):
    """Assert that no dataset is built and no model is made."""

    def must_not(*_, **__):
        raise AssertionError("too late: the error should have come first")

    monkeypatch.setattr(setup, "open_dataset", must_not)
    monkeypatch.setattr(modes, "Trainer", must_not)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model__num_slot": 3}, ConfigError, r"no setting config\.model\.num_slot; nearest: model\.num_slots"),
        ({"model__num_slots": "four"}, ConfigError, r"config\.model\.num_slots is 'four', expected an integer"),
        ({"model__num_slots": 0}, ConfigError, r"config\.model\.num_slots is 0, expected at least 1"),
        ({"model__num_refinements": 0}, ConfigError, r"config\.model\.num_refinements is 0, expected at least 1"),
        ({"data__dataset": "bouncing_bals"}, DataError, "unknown dataset 'bouncing_bals'; did you mean 'bouncing_ball"),
        ({"data__variant": "minni"}, DataError, r"unknown variant of bouncing_balls 'minni'; did you mean 'mini'"),
        ({"eval__variant": "minni"}, DataError, r"unknown variant of bouncing_balls 'minni'"),
        ({"data__options__balls": 2}, DataError, "unknown option of mini 'balls'"),
        ({"data__options__image_size": 10}, ConfigError, "10x10 pixels.* multiple of 4"),
        (
            {"data__options__image_size": 10, "model__architecture": "pyramid"},
            ConfigError,
            "10x10 pixels.* multiple of 4",
        ),
        ({"data__num_frames": 7}, ConfigError, r"data\.num_frames is 7, but the videos have 6 frames"),
        ({"batch_size": 6}, DeviceError, "batch_size=6 cannot be divided by the 4 devices"),
        ({"eval__batch_size": 6}, DeviceError, r"eval\.batch_size=6 cannot be divided"),
        ({"eval__lengths": (7,)}, ConfigError, r"eval\.lengths is \(7,\), but the videos have 6 frames"),
        ({"eval__split": "tset"}, ConfigError, r"eval\.split is 'tset'"),
        ({"train__checkpoint_every": 3}, ConfigError, r"train\.checkpoint_every is 3, expected a multiple"),
        ({"optim__warmup_steps": 8}, ConfigError, r"optim\.warmup_steps is 8, expected less"),
    ],
)
def test_bad_settings_stop_before_anything_is_made(nothing_built, tmp_path, changes, error, message):
    workdir = tmp_path / "run"
    fails(error, message, "train", "default", workdir, overrides(tmp_path, **changes))
    assert not workdir.exists()  # so that the corrected command can use the same folder


def test_evaluation_frames_of_another_size(nothing_built, tmp_path):
    settings = ["data.variant=mini", "eval.variant=color4", "data.num_frames=2"]
    fails(
        ConfigError, r"eval\.variant is 'color4', with frames of 64 .* for 32", "train", "default", tmp_path, settings
    )


def test_unknown_config(tmp_path):
    fails(ConfigError, "no config 'defalt'; nearest: default", "train", "defalt", tmp_path, [])


def test_no_run_to_go_on_with(tmp_path):
    for mode in ("train", "evaluate", "predict"):
        fails(ConfigError, f"no run in {tmp_path}, and no --config", mode, None, tmp_path, [])


def test_nothing_to_evaluate(data_dir, tmp_path):
    workdir = tmp_path / "run"
    for mode in ("evaluate", "predict"):
        fails(CheckpointError, "no checkpoint in .*/run", mode, "default", workdir, overrides(data_dir))
    assert not workdir.exists()


def test_workdir_of_another_run(finished, data_dir):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    message = (
        r"run holds a run with other settings \(model\.num_slots: saved 2, given 3\): use those, or another --work"
    )
    for mode in ("train", "evaluate"):
        fails(ConfigError, message, mode, "default", finished, overrides(data_dir, model__num_slots=3))
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_settings_of_the_machine_may_change(finished, data_dir):
    changes = {"train__parallel": "shard_map", "data__num_threads": 2, "eval__num_pictures": 0, "train__log_every": 1}
    open_config("default", finished, overrides(data_dir, **changes))


def test_checkpoints_of_another_model(finished, data_dir, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished / "checkpoints", workdir / "checkpoints")
    message = r"checkpoints in .* hold a model with other settings \(model\.num_slots: saved 2, given 3\): use those"
    fails(ConfigError, message, "evaluate", "default", workdir, overrides(data_dir, model__num_slots=3))


def test_a_config_that_is_cut_short(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": 0, "mod')
    fails(ConfigError, "config.json.*not valid JSON", "evaluate", None, tmp_path, [])


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    inside = tmp_path / "file" / "folder"  # not even root can create it
    fails(DataError, "cannot write to the data folder", "train", "default", tmp_path / "run", overrides(inside))
    fails(OSError, "Not a directory", "train", "default", inside, overrides(tmp_path))


def test_a_dataset_that_is_not_whole(finished, data_dir, tmp_path):
    broken = tmp_path / "data"
    shutil.copytree(data_dir, broken)
    next(broken.rglob("*-train.array_record*")).unlink()
    message = r"train\.array_record.* is incomplete: 0 of 16 videos can be read\. Delete the folder"
    fails(DataError, message, "train", "default", tmp_path / "run", overrides(broken))
    fails(DataError, message, "evaluate", None, finished, [f"data.data_dir={broken}"])


def test_forecast_longer_than_the_videos(finished):
    fails(ConfigError, "observed_frames is 5 .* the 6 frames", "predict", None, finished, ["eval.observed_frames=5"])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--config", "default"], "error: give --workdir, the folder of the run, e.g. --workdir runs/quickstart"),
        (
            ["--workdir", "RUN", "--config", "default", "--config.data.dataset=none", "--config.batch_size=2"],
            "error: unknown dataset 'none'. Known: bouncing_balls, clevrer",
        ),
        (
            ["--workdir", "RUN", "--config", "default", "--input", "video.mp4", "--predict", "5"],
            "error: --input, --predict would do nothing: give --mode decompose, or leave it out",
        ),
    ],
)
def test_one_line_on_the_command_line(tmp_path, arguments, line):
    code, _, errors = command(*(str(tmp_path / "run") if part == "RUN" else part for part in arguments))
    assert code == 1
    assert errors.splitlines()[-1].startswith(line) and "Traceback" not in errors


def test_an_override_without_a_value():
    with pytest.raises(SystemExit, match=r"^error: --config\.model\.num_slots"):
        main._parse(["main.py", "--config.model.num_slots"])


@pytest.mark.slow
def test_the_real_model_from_the_command_line(data_dir, tmp_path, compiled):
    """It trains, evaluates and predicts, and reopens a finished run."""
    workdir = tmp_path / "run"
    settings = [f"--config.{setting}" for setting in overrides(data_dir, train__num_steps=4, eval__lengths=(2,))]
    kept = {"JAX_COMPILATION_CACHE_DIR": str(compiled), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    begin = ["--config", "default", "--workdir", workdir, *settings]
    code, out, errors = command(*begin, **kept)
    assert code == 0, errors[-2000:]
    assert f"scores: {workdir}/results.json" in out
    assert read(workdir / "results.json").keys() >= RESULTS | SCORES
    assert {"test_0.gif", "test_0.png", "curve.png"} <= {path.name for path in (workdir / "media").iterdir()}

    code, out, errors = command(*begin, **kept)
    assert code == 0 and "Resuming from the checkpoint of step 4" in out, errors[-2000:]

    code, out, errors = command("--mode", "predict", "--workdir", workdir, **kept)
    assert code == 0 and "predicted after 3 frames" in out, errors[-2000:]

    gif, output = workdir / "media" / "test_0.gif", tmp_path / "results"  # any video will do
    files = ["--input", gif, "--output", output, "--predict", "2"]
    code, out, errors = command("--mode", "decompose", "--workdir", workdir, *files, **kept)
    assert code == 0 and "2 frames decomposed and 2 predicted" in out, errors[-2000:]
    assert read(output / "decomposition.json")["num_slots"] == 2 and (output / "overlay.mp4").exists()
