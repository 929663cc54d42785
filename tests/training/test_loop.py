"""Training: failing steps, stopped and resumed runs, and consecutive stages."""

import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from toy import TIMES, compilations, forget_programs, make_config, use_toy_model

from stii_jax.config import ConfigError, stage_configs
from stii_jax.data.bouncing_balls.builder import BouncingBallsConfig
from stii_jax.devices.parallel import DeviceError
from stii_jax.errors import Preempted
from stii_jax.runs.setup import load_dataset
from stii_jax.storage.checkpoints import CheckpointError, restore_params
from stii_jax.storage.metric_log import read_metrics
from stii_jax.training.checks import check_training
from stii_jax.training.curriculum import CurriculumState, PosteriorCollapse
from stii_jax.training.loop import Trainer, TrainingError
from stii_jax.training.state import init_state, split_params

pytestmark = pytest.mark.usefixtures("quick_compiles")

STAGED = {"train__num_steps": 5, "curriculum__stages": ((3, 4, 6),)}
NEVER = 1000


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def make_trainer(data_dir):
    """Make the trainer of a toy run; a second one with the same workdir resumes it."""

    def make(workdir, **changes):
        config = make_config(data_dir, **changes)
        source = load_dataset(config)
        return Trainer(config, source, source, workdir)

    with pytest.MonkeyPatch.context() as patch:
        use_toy_model(patch)
        yield make


def stop_after(trainer, num_steps):
    """Interrupt the next `run` after so many steps."""
    step, left = trainer._steps[0], iter(range(num_steps))

    def interrupted(*arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return step(*arguments)

    trainer._steps = [interrupted] * len(trainer._steps)


def bits(tree):
    def of_leaf(leaf):
        is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()

    return jax.tree.map(of_leaf, tree)


def logged(workdir):
    """Return all logged values except timings; NaN compares equal as text."""
    return [
        {key: repr(value) for key, value in line.items() if key not in TIMES}
        for line in read_metrics(Path(workdir) / "metrics.jsonl")
    ]


def meta_of(workdir):
    return restore_params(Path(workdir) / "checkpoints")[1]


@pytest.fixture(scope="module")
def straight(make_trainer, tmp_path_factory):
    """An undisturbed run of two stages: its folder and last state."""
    workdir = tmp_path_factory.mktemp("straight")
    return workdir, make_trainer(workdir, **STAGED).run()


def test_lines_of_a_run(straight):
    workdir, state = straight
    lines = read_metrics(workdir / "metrics.jsonl")
    # Every second step, and the last one of each stage.
    assert [line["step"] for line in lines] == [2, 4, 5, 6, 8, 10, 11]
    assert [line["num_frames"] for line in lines] == [2, 2, 2, 3, 3, 3, 3]
    assert {"loss", "grad_norm", "log_likelihood", "kl", "mse", "ari", "f_ari", "learning_rate", *TIMES} <= set(
        lines[0]
    )
    evaluated = [line["step"] for line in lines if "eval_ari" in line]
    assert evaluated == [4, 8]
    expected = {"ari", "f_ari", "mse", "ari_stderr", "num_frames", "num_videos"}
    assert {f"eval_{key}" for key in expected} <= set(lines[1])
    assert (lines[1]["eval_num_frames"], lines[1]["eval_num_videos"]) == (2, 4)
    assert {path.name for path in (workdir / "media").iterdir()} == {"validation_0.png", "validation_0.gif"}
    assert int(state.step) == 11 and int(state.failed_step) == -1


def test_checkpoint_of_a_run(straight):
    workdir, state = straight
    params, meta = restore_params(workdir / "checkpoints")
    assert bits(params) == bits(dict(state.params))
    assert meta["step"] == 11 and meta["model"]["num_slots"] == 2
    assert CurriculumState(**meta["curriculum"])[:2] == (1, 5)
    _, meta = restore_params(workdir / "checkpoints", "best")
    assert meta["step"] in (4, 8)


@pytest.mark.parametrize("stopped", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 9))])
def test_resumes_bit_for_bit(make_trainer, straight, tmp_path, capsys, stopped):
    trainer = make_trainer(tmp_path, **STAGED)
    stop_after(trainer, stopped)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    capsys.readouterr()
    state = make_trainer(tmp_path, **STAGED).run()
    saved = {1: None, 3: 2, 9: 8}[stopped]
    assert ("Resuming from the checkpoint of step " in (out := capsys.readouterr().out)) == bool(saved)
    assert saved is None or f"Resuming from the checkpoint of step {saved}\n" in out
    expected_workdir, expected = straight
    assert bits(split_params(state)) == bits(split_params(expected))
    assert logged(tmp_path) == logged(expected_workdir)


@pytest.mark.parametrize("stopped", [5, 11, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3, 4, 9))])
def test_sigterm_saves_at_once_and_loses_nothing(make_trainer, straight, tmp_path, stopped):
    trainer = make_trainer(tmp_path, **STAGED)
    step = trainer._steps[0]

    def told(state, *arguments):
        if int(state.step) == stopped - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(state, *arguments)

    trainer._steps = [told] * len(trainer._steps)
    with pytest.raises(Preempted, match=f"after step {stopped}, which is saved"):
        trainer.run()
    assert trainer.checkpointer.latest_step() == stopped
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    state = make_trainer(tmp_path, **STAGED).run()
    expected_workdir, expected = straight
    assert bits(split_params(state)) == bits(split_params(expected))
    assert logged(tmp_path) == logged(expected_workdir)
    assert meta_of(tmp_path) == meta_of(expected_workdir)


@pytest.mark.parametrize("meta", [{"curriculum": 3}, {}, {"curriculum": {"stage": 0}, "pending": [5]}])
def test_a_checkpoint_of_something_else(make_trainer, tmp_path, meta):
    trainer = make_trainer(tmp_path)
    state = init_state(trainer.model, trainer.optimizer, seed=0)
    trainer.checkpointer.save(4, *split_params(state), meta)
    with pytest.raises(CheckpointError, match=r"was not written by this program .*: change --workdir"):
        trainer.run()


def test_sigterm_cuts_an_evaluation_short(make_trainer, straight, tmp_path):
    trainer = make_trainer(tmp_path, **STAGED, eval__periodic_videos=8)
    observe = trainer.evaluator.observe

    def told(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return observe(*arguments)

    trainer.evaluator.observe = told
    with pytest.raises(Preempted, match="after step 4, which is saved"):
        trainer.run()
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [2]
    state = make_trainer(tmp_path, **STAGED).run()
    assert bits(split_params(state)) == bits(split_params(straight[1]))
    assert logged(tmp_path) == logged(straight[0])


def test_sigterm_after_a_failed_step_saves_nothing(make_trainer, tmp_path):
    trainer = make_trainer(tmp_path, train__log_every=8, train__eval_every=8, train__checkpoint_every=8)
    step = trainer._steps[0]

    def poisoned(state, batch, index):
        if int(state.step) == 1:
            batch = batch | {"video": np.full(batch["video"].shape, np.nan, np.float32)}
            os.kill(os.getpid(), signal.SIGTERM)
        return step(state, batch, index)

    trainer._steps = [poisoned] * len(trainer._steps)
    with pytest.raises(TrainingError, match=r"step 2: .* not finite"):
        trainer.run()
    assert trainer.checkpointer.latest_step() is None


def test_a_finished_run_stays_as_it_is(make_trainer, straight):
    workdir, expected = straight
    before = (workdir / "metrics.jsonl").read_text()
    trainer = make_trainer(workdir, **STAGED)
    stop_after(trainer, 0)
    assert bits(split_params(trainer.run())) == bits(split_params(expected))
    assert (workdir / "metrics.jsonl").read_text() == before


def test_more_steps_for_a_finished_run(make_trainer, straight, tmp_path):
    changes = STAGED | {"curriculum__stages": ((3, 4, 3),)}
    assert int(make_trainer(tmp_path, **changes).run().step) == 8
    state = make_trainer(tmp_path, **STAGED).run()
    assert bits(split_params(state)) == bits(split_params(straight[1]))


def test_one_compilation_a_stage(make_trainer, tmp_path):
    forget_programs()
    trainer = make_trainer(tmp_path, **STAGED, train__eval_every=NEVER, train__checkpoint_every=NEVER)
    with compilations() as names:
        trainer.run()
    assert names.count("jit(_fun)") == 2  # pmap's name for a program


def test_nothing_is_read_back_between_the_lines_of_the_log(make_trainer, tmp_path, monkeypatch):
    """Reading a value waits for its step, and keeps the device waiting for the host.

    `jax.transfer_guard` detects nothing on CPU, where a read copies nothing. So reads are counted inside JAX.
    """
    trainer = make_trainer(tmp_path, train__log_every=4, train__checkpoint_every=8, train__eval_every=NEVER)
    step, kind, events = trainer._steps[0], type(jax.numpy.zeros(1)), []
    read = kind._value.fget

    def counted_step(*arguments):
        events.append("step")
        return step(*arguments)

    def counted_read(array):
        events.append("read")
        return read(array)

    trainer._steps = [counted_step] * len(trainer._steps)
    monkeypatch.setattr(kind, "_value", property(counted_read))
    trainer.run()
    monkeypatch.undo()
    first, *lines = "".join(event[0] for event in events).replace("ssss", "|").split("|")
    assert "s" not in first and len(lines) == 2  # four steps in a row, twice
    assert all(set(line) == {"r"} for line in lines)


def test_loss_falls(make_trainer, tmp_path):
    make_trainer(tmp_path, train__num_steps=30, train__eval_every=NEVER, train__checkpoint_every=30).run()
    losses = [line["loss"] for line in read_metrics(tmp_path / "metrics.jsonl")]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("bad_step", [1, 6])
def test_a_loss_that_is_not_finite_stops_the_run(make_trainer, tmp_path, bad_step):
    every = {"train__log_every": 4, "train__eval_every": NEVER, "train__checkpoint_every": 4}
    trainer = make_trainer(tmp_path, **every)
    step, states = trainer._steps[0], []

    def poisoned(state, batch, index):
        if int(state.step) == bad_step - 1:
            batch = batch | {"video": np.full(batch["video"].shape, np.nan, np.float32)}
        state, logs = step(state, batch, index)
        states.append(jax.device_get(state.params))
        return state, logs

    trainer._steps = [poisoned] * len(trainer._steps)
    last_good = {1: "none", 6: "step 4"}[bad_step]
    with pytest.raises(
        TrainingError,
        match=f"step {bad_step}: when repeated, everything is finite.* not finite .* checkpoint is {last_good}",
    ):  # the batch was corrupted on its way to the devices
        trainer.run()
    assert (tmp_path / f"failed_step_{bad_step}.npz").is_file()
    # The steps up to the reporting line change nothing, and nothing of them is kept.
    assert len(states) == {1: 4, 6: 8}[bad_step]
    start = init_state(trainer.model, trainer.optimizer, seed=0).params
    before = [start, *states][bad_step - 1]
    assert all(bits(params) == bits(before) for params in states[bad_step - 1 :])
    assert trainer.checkpointer.latest_step() == {1: None, 6: 4}[bad_step]
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == {1: [], 6: [4]}[bad_step]


def test_a_collapsed_posterior_stops_the_run(make_trainer, tmp_path):
    changes = {"curriculum__collapse_kl": 1e9, "curriculum__collapse_patience": 4, "train__eval_every": NEVER}
    trainer = make_trainer(tmp_path, **changes)
    with pytest.raises(PosteriorCollapse, match="step 6: the posterior has collapsed"):
        trainer.run()
    assert trainer.checkpointer.latest_step() == 4


def test_no_periodic_evaluation(make_trainer, tmp_path):
    trainer = make_trainer(tmp_path, eval__periodic_videos=0)
    trainer.evaluator = None
    trainer.run()
    assert not any("eval_ari" in line for line in read_metrics(tmp_path / "metrics.jsonl"))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batch_size": 6}, DeviceError, "batch_size=6 cannot be divided by the 4 devices"),
        ({"curriculum__stages": ((3, 2, 5),)}, DeviceError, r"curriculum\.stages\[0\]: batch_size=2 cannot"),
        ({"data__num_frames": 7}, ConfigError, r"config\.data\.num_frames is 7, but the videos have 6 frames"),
        ({"curriculum__stages": ((6, 4, 5), (9, 4, 5))}, ConfigError, r"curriculum\.stages\[1\]: num_frames is 9, but"),
        ({"train__checkpoint_every": 3}, ConfigError, r"train\.checkpoint_every is 3, expected a multiple of .*\(2\)"),
        ({"train__eval_every": 1}, ConfigError, r"train\.eval_every is 1, expected a multiple of .*log_every \(2\)"),
        ({"batch_size": 12, "train__accumulation": 2}, ConfigError, r"accumulation is 2, .* of 3, .*=1$"),
        (
            {"batch_size": 16, "train__accumulation": 4, "curriculum__stages": ((3, 8, 5),)},
            ConfigError,
            r"accumulation is 4, .* of 2, .* per device of curriculum\.stages\[0\]: batch_size=8: .* --config\.\S+=2$",
        ),
        (
            {"curriculum__held_out_patience": 20, "eval__periodic_videos": 0},
            ConfigError,
            r"held_out_patience is 20, but no videos are held out: give --config\.eval\.periodic_videos=4",
        ),
        ({"optim__warmup_steps": 8}, ConfigError, r"optim\.warmup_steps is 8, expected less than the run's 8 steps"),
    ],
)
def test_settings_that_cannot_be_trained(tmp_path, changes, error, message):
    videos = BouncingBallsConfig(name="toy", image_size=8, num_frames=6)
    check_training(make_config(tmp_path), [videos])
    with pytest.raises(error, match=message) as caught:
        config = make_config(tmp_path, **changes)
        check_training(config, [videos] * len(stage_configs(config)))
    assert "\n" not in str(caught.value)


def test_a_run_without_late_frames_says_so(make_trainer, tmp_path, capsys):
    make_trainer(tmp_path, data__num_frames=1, train__num_steps=2, train__eval_every=NEVER).run()
    assert "warning: clips of at most 1 frames" in capsys.readouterr().err
