"""The benchmark: its counts, and the JSON object that it prints."""

import json

import pytest
from toy import ToyModel, make_config, overrides

from stii_jax import benchmark
from stii_jax.benchmark import step
from stii_jax.models.registry import make_model

pytestmark = pytest.mark.usefixtures("quick_compiles")

PROMISED = {"compile_seconds", "step_seconds", "seconds_per_cell", "cells_per_step", "peak_memory_bytes", "num_frames"}


def test_flops_of_a_step_counted_by_hand(tmp_path):
    config = make_config(tmp_path, model__num_refinements=2, data__num_frames=3)
    # Schedule 2, 1, 1: four refinements and three more decodes. 8x8 pixels, nine taps, four channels throughout.
    decode = 9 * 64 * (3 * 4 * 4 + 4 * 4)
    refine = 9 * 64 * (3 * 4 * 4 + 4 * 11) + 2 * 2 * 4 * 4
    videos_and_slots = 4 * 2
    expected = 2 * videos_and_slots * (3 * 7 * decode + 3 * 4 * refine)
    assert benchmark.analytic_flops(make_model(config, 8), config) == expected


def test_attached_inputs_take_the_decoders_gradients_twice(tmp_path):
    config = make_config(tmp_path)
    model = make_model(config, 8)
    detached = benchmark.analytic_flops(model, config)
    with config.unlocked():
        config.model.detach_refiner_inputs = False
    assert benchmark.analytic_flops(model, config) > detached


@pytest.mark.slow
def test_json_is_one_object_with_what_was_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(step, "make_model", lambda config, size: ToyModel(size))
    changed = overrides(tmp_path, batch_size=8, data__num_frames=3)
    benchmark.main(["--config", "default", "--json", "--steps", "2", *(f"--config.{change}" for change in changed)])
    result = json.loads(capsys.readouterr().out)
    assert result.keys() >= PROMISED | {"device"}
    assert result["num_frames"] == 3
    assert result["cells_per_step"] == 8 * (2 + 1 + 1)
    assert result["seconds_per_cell"] == pytest.approx(result["step_seconds"] / 32)
    assert result["step_seconds"] > 0 and result["peak_memory_bytes"] > 0 and result["matrix_share"] > 0
    assert result["pipeline_clips_per_second"] > 0


def test_without_steps_the_memory_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(step, "make_model", lambda config, size: ToyModel(size))
    changed = [f"--config.{change}" for change in overrides(tmp_path, batch_size=8, train__accumulation=2)]
    benchmark.main(["--config", "default", "--json", "--steps", "0", "--no_pipeline", *changed])
    result = json.loads(capsys.readouterr().out)
    assert result["temporary_bytes_per_device"] > 0 and result["argument_bytes_per_device"] > 0
    assert result["compile_seconds"] > 0 and result["all_step_seconds"] == []
    assert {result[key] for key in ("step_seconds", "seconds_per_cell", "matrix_share", "loss")} == {None}


def test_a_batch_that_cannot_be_cut_is_one_line(tmp_path):
    changed = [f"--config.{change}" for change in overrides(tmp_path, batch_size=8, train__accumulation=4)]
    with pytest.raises(SystemExit, match=r"error: config\.train\.accumulation is 4, expected a divisor of 2, "):
        benchmark.main(["--config", "default", *changed])


def test_a_batch_that_the_devices_cannot_share_is_one_line(tmp_path):
    changed = [f"--config.{change}" for change in overrides(tmp_path, batch_size=3)]
    with pytest.raises(SystemExit, match="error: batch_size=3 cannot be divided by the 4 devices"):
        benchmark.main(["--config", "default", *changed])
