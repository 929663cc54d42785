"""The messages of a run to the user, and that they do not change the result."""

import os
import signal

import pytest
from test_loop import STAGED, bits, logged
from toy import make_config, use_toy_model

from stii_jax.errors import Preempted
from stii_jax.runs.setup import load_dataset
from stii_jax.storage.metric_log import read_metrics
from stii_jax.training import failures, reporter
from stii_jax.training.loop import Trainer
from stii_jax.training.state import split_params

pytestmark = pytest.mark.usefixtures("quick_compiles")


@pytest.fixture(scope="module")
def make_trainer(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")

    def make(workdir, **changes):
        config = make_config(data_dir, **STAGED, train__checkpoint_every=4, **changes)
        source = load_dataset(config)
        return Trainer(config, source, source, workdir)

    with pytest.MonkeyPatch.context() as patch:
        use_toy_model(patch)
        yield make


@pytest.fixture(scope="module")
def straight(make_trainer, tmp_path_factory):
    """A run without timing: its folder and last state."""
    workdir = tmp_path_factory.mktemp("straight")
    trainer = make_trainer(workdir)
    trainer._programs = [lambda *_: None] * 2
    return workdir, trainer.run()


def test_timing_the_stages_changes_nothing(make_trainer, straight, tmp_path, capsys):
    trainer, called = make_trainer(tmp_path), []
    program = trainer._programs[0]

    def counted(state, batch, index):
        called.append(batch["video"].shape[1])
        return program(state, batch, index)

    trainer._programs = [counted] * 2
    assert bits(split_params(trainer.run())) == bits(split_params(straight[1]))
    assert logged(tmp_path) == logged(straight[0])
    assert sorted(set(called)) == [2, 3] and called.count(2) >= 2 and called.count(3) >= 2
    out = capsys.readouterr().out
    assert "stage 2 of 2: compiling the step, for 4 clips of 3 frames\n2 stages, about " in out
    assert f"first pictures of held-out videos: in about 0 s, in {tmp_path / 'media'}\n" in out


def test_a_stage_that_cannot_be_computed_stops_the_run_at_once(make_trainer, tmp_path):
    trainer, program = make_trainer(tmp_path), make_trainer(tmp_path)._programs[0]

    def too_large(state, batch, index):
        if batch["video"].shape[1] == 3:
            raise MemoryError
        return program(state, batch, index)

    trainer._programs = [too_large] * 2
    with pytest.raises(MemoryError):
        trainer.run()
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_slot_shares_in_a_line(straight):
    for line in read_metrics(straight[0] / "metrics.jsonl"):
        shares = [line["slot_share_1"], line["slot_share_2"]]
        assert sum(shares) == pytest.approx(1) and shares[0] >= shares[1] >= 0
        assert line["relative_error"] > 0 and "plain_mse" not in line


def test_a_preview_after_a_minute_changes_nothing(make_trainer, straight, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reporter, "PREVIEW_AFTER", 0.0)
    assert bits(split_params(make_trainer(tmp_path).run())) == bits(split_params(straight[1]))
    assert logged(tmp_path) == logged(straight[0])
    out = capsys.readouterr().out
    assert f"step 2: pictures of held-out videos are in {tmp_path / 'media'} (validation_0.png, " in out
    assert out.count("pictures of held-out videos are in") == 1


def test_a_preview_that_is_interrupted(make_trainer, straight, tmp_path, monkeypatch):
    monkeypatch.setattr(reporter, "PREVIEW_AFTER", 0.0)
    trainer = make_trainer(tmp_path)
    preview = trainer.evaluator.preview

    def told(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return preview(*arguments)

    trainer.evaluator.preview = told
    with pytest.raises(Preempted, match="after step 3, which is saved"):
        trainer.run()
    assert not (tmp_path / "media").exists()
    assert bits(split_params(make_trainer(tmp_path).run())) == bits(split_params(straight[1]))


def test_a_failure_is_printed_once_and_the_run_goes_on(make_trainer, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(failures, "_EARLIEST", 4)
    monkeypatch.setattr(failures, "_FEWEST_LINES", 2)
    monkeypatch.setattr(failures, "_WINDOW", 3)
    monkeypatch.setattr(failures, "FAILURES", (failures.FAILURES[0]._replace(shows=lambda lines: True),))
    assert int(make_trainer(tmp_path).run().step) == 11
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("warning: step ")]
    assert [line.partition(": for")[0] for line in lines] == [
        f"warning: step {step}: the model draws nothing" for step in (4, 8)
    ]
