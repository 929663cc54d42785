"""The benchmark: its counts, and the JSON object that it prints."""

import json

import jax
import jax.numpy as jnp
import pytest
from toy import ToyModel, make_config, overrides

from stii_jax import benchmark
from stii_jax.benchmark import step
from stii_jax.benchmark.kernels import Kernel, kernels_of, summarize_kernels, trace_kernels
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


def test_flops_of_the_pyramid_counted_by_hand(tmp_path):
    changes = {"model__architecture": "pyramid", "data__num_frames": 3, "model__num_refinements": 2}
    config = make_config(tmp_path, **changes)
    # Four channels, 8x8 pixels: 16 at half of the resolution and 4 at a quarter. The dense layer sees an 8x8 grid.
    decode = 9 * (4 * 4 * 4 + 16 * (4 * 4 + 4 * 16))
    refine = 9 * (16 * 44 * 4 + 4 * 2 * 4 * 4) + 8 * 8 * 4 * 4
    expected = 2 * 4 * 2 * (3 * 7 * decode + 3 * 4 * refine)
    assert benchmark.analytic_flops(make_model(config, 8), config) == expected


def test_kernels_are_grouped_and_their_time_is_not_counted_twice():
    """Two steps: three kernels of one name, two of which overlap, and a cheaper one."""
    found = [Kernel("fusion_3", 0.0, 2.0), Kernel("fusion.1", 1.0, 3.0), Kernel("copy", 6.0, 0.5)]
    found.append(Kernel("fusion", 5.0, 1.0))
    summary = summarize_kernels(found, num_steps=2, count=1)
    assert summary == {
        "kernels_per_step": 2.0,
        "kernel_seconds_per_step": 3.25,
        "kernel_busy_seconds_per_step": 2.75,
        "top_kernels": [{"name": "fusion", "share": 6 / 6.5, "per_step": 1.5}],
    }
    assert summarize_kernels([], 2, 5)["top_kernels"] == []


def test_kernels_of_a_gpu_are_the_events_of_its_streams():
    """The operations on the host and the other lines of the device do not count."""
    events = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "/device:GPU:0"}},
        {"ph": "M", "pid": 2, "name": "process_name", "args": {"name": "/host:CPU"}},
        {"ph": "M", "pid": 1, "tid": 7, "name": "thread_name", "args": {"name": "Stream #7(Compute)"}},
        {"ph": "M", "pid": 1, "tid": 8, "name": "thread_name", "args": {"name": "Steps"}},
        {"ph": "X", "pid": 1, "tid": 7, "name": "gemm", "ts": 2.0, "dur": 500_000.0},
        {"ph": "X", "pid": 1, "tid": 8, "name": "step 1", "ts": 0.0, "dur": 9.0},
        {"ph": "X", "pid": 2, "tid": 7, "name": "add", "ts": 1.0, "dur": 4.0, "args": {"hlo_op": "add"}},
        {"ph": "X", "pid": 2, "tid": 7, "name": "while.3", "ts": 1.0, "dur": 4.0, "args": {"hlo_op": "while.3"}},
        {},
    ]
    (kernel,) = kernels_of(events)
    assert kernel.name == "gemm" and kernel.seconds == pytest.approx(0.5)
    assert [kernel.name for kernel in kernels_of(events[1:])] == ["add"], "without a device"


def test_kernels_of_a_trace():
    product = jax.jit(lambda x: jnp.sin(x @ x).sum())
    ones = jnp.ones((100, 100))
    jax.block_until_ready(product(ones))
    summary = trace_kernels(lambda: [jax.block_until_ready(product(ones)) for _ in range(2)], 2, 5)
    assert summary["kernels_per_step"] >= 1 and summary["kernel_seconds_per_step"] > 0
    assert 0 < summary["kernel_busy_seconds_per_step"] <= summary["kernel_seconds_per_step"] + 1e-9
    assert sum(kernel["share"] for kernel in summary["top_kernels"]) <= 1 + 1e-9


@pytest.mark.parametrize("useless", [["--kernels=-1"], ["--kernels=5", "--steps=0"], ["--kernels=5", "--sweep"]])
def test_kernels_need_a_step(useless):
    with pytest.raises(SystemExit):
        benchmark.main(["--config", "quickstart", *useless])


@pytest.mark.slow
def test_json_is_one_object_with_what_was_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(step, "make_model", lambda config, size: ToyModel(size))
    changed = overrides(tmp_path, batch_size=8, data__num_frames=3)
    benchmark.main(
        ["--config", "default", "--json", "--steps", "2", "--kernels=3", *(f"--config.{c}" for c in changed)]
    )
    result = json.loads(capsys.readouterr().out)
    assert result.keys() >= PROMISED | {"device"}
    assert result["num_frames"] == 3
    assert result["cells_per_step"] == 8 * (2 + 1 + 1)
    assert result["seconds_per_cell"] == pytest.approx(result["step_seconds"] / 32)
    assert result["step_seconds"] > 0 and result["peak_memory_bytes"] > 0 and result["matrix_share"] > 0
    assert result["pipeline_clips_per_second"] > 0
    assert result["kernels_per_step"] >= len(result["top_kernels"]) == 3


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
