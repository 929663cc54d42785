"""The same seed gives the same bits: in two runs, and after a stop at any step, also during a stall."""

import random

import pytest
from test_loop import bits, logged, stop_after
from toy import make_config, use_toy_model

from stii_jax.runs.setup import load_dataset
from stii_jax.storage.metric_log import read_metrics
from stii_jax.training.loop import Trainer
from stii_jax.training.state import split_params

pytestmark = pytest.mark.usefixtures("quick_compiles")

NEVER = 1000
HUNDRED = {"train__num_steps": 100, "train__log_every": 5, "train__checkpoint_every": 50, "train__eval_every": NEVER}
# Only a stage's first line counts as an improvement, so a stage ends `patience` steps after it.
STALLED = {"curriculum__patience": 6, "curriculum__min_improvement": 1e9, "curriculum__stages": ((3, 4, 40),)}
STALLED |= {"train__num_steps": 40, "train__eval_every": NEVER}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def toy(monkeypatch):
    use_toy_model(monkeypatch)


def make_trainer(data_dir, workdir, **changes):
    config = make_config(data_dir, **changes)
    source = load_dataset(config)
    return Trainer(config, source, source, workdir)


def everything(state, workdir):
    """Return bits of parameters, optimiser, key and counters, and all logged values except timings."""
    return bits(split_params(state)), logged(workdir)


def run_for(trainer, num_steps):
    stop_after(trainer, num_steps)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()


def check_a_hundred_steps(data_dir, tmp_path, **changes):
    first = everything(make_trainer(data_dir, tmp_path / "first", **HUNDRED, **changes).run(), tmp_path / "first")
    assert len(first[1]) == 20
    again = everything(make_trainer(data_dir, tmp_path / "again", **HUNDRED, **changes).run(), tmp_path / "again")
    assert again == first
    stop = random.SystemRandom().randrange(1, 100)
    run_for(make_trainer(data_dir, tmp_path / "resumed", **HUNDRED, **changes), stop)
    resumed = everything(make_trainer(data_dir, tmp_path / "resumed", **HUNDRED, **changes).run(), tmp_path / "resumed")
    assert resumed == first, f"stopped after {stop} steps"
    other = everything(
        make_trainer(data_dir, tmp_path / "other", seed=1, **HUNDRED, **changes).run(), tmp_path / "other"
    )
    assert other[1] != first[1]


@pytest.mark.slow
def test_a_hundred_steps_twice_and_across_a_stop(toy, data_dir, tmp_path):
    check_a_hundred_steps(data_dir, tmp_path)


@pytest.mark.slow
def test_a_hundred_steps_of_the_real_model(data_dir, tmp_path):
    check_a_hundred_steps(data_dir, tmp_path)


@pytest.mark.slow
def test_a_stall_is_counted_on_across_a_stop(toy, data_dir, tmp_path):
    """Stages end at the same steps, although the stop was within the patience."""
    straight = everything(make_trainer(data_dir, tmp_path / "straight", **STALLED).run(), tmp_path / "straight")
    lines = read_metrics(tmp_path / "straight" / "metrics.jsonl")
    # The first line of a stage is at its second step, and the end is six steps later.
    assert [line["step"] for line in lines if line["num_frames"] == 2] == [2, 4, 6, 8]
    assert [line["step"] for line in lines if line["num_frames"] == 3] == [10, 12, 14, 16]

    run_for(make_trainer(data_dir, tmp_path / "stopped", **STALLED), 13)
    trainer = make_trainer(data_dir, tmp_path / "stopped", **STALLED)
    state, progress, _ = trainer.restore()
    losses = [line["loss"] for line in lines[4:6]]
    assert (int(state.step), progress.stage, progress.stage_start, progress.best_step) == (12, 1, 8, 10)
    assert progress.best_loss == losses[0]
    assert progress.smoothed_loss == pytest.approx(0.9 * losses[0] + 0.1 * losses[1], rel=1e-12)
    assert everything(trainer.run(), tmp_path / "stopped") == straight


@pytest.mark.slow
def test_a_stalled_held_out_error_is_counted_on_across_a_stop(toy, data_dir, tmp_path, capsys):
    held_out = STALLED | {"curriculum__patience": 0, "curriculum__held_out_patience": 6, "train__eval_every": 4}
    straight = everything(make_trainer(data_dir, tmp_path / "straight", **held_out).run(), tmp_path / "straight")
    lines = read_metrics(tmp_path / "straight" / "metrics.jsonl")
    # Each stage's first evaluation is its fourth step. The first line six steps later ends it.
    assert [line["step"] for line in lines if line["num_frames"] == 2] == [2, 4, 6, 8, 10]
    assert [line["step"] for line in lines if line["num_frames"] == 3] == [12, 14, 16, 18]
    assert "step 10: stage 1/2 ends early, as it no longer improves" in capsys.readouterr().out

    run_for(make_trainer(data_dir, tmp_path / "stopped", **held_out), 9)
    trainer = make_trainer(data_dir, tmp_path / "stopped", **held_out)
    state, progress, _ = trainer.restore()
    assert (int(state.step), progress.stage, progress.best_error_step) == (8, 0, 4)
    assert progress.best_error == lines[1]["eval_mse"]
    assert everything(trainer.run(), tmp_path / "stopped") == straight
