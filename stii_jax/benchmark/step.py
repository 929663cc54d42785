"""The measurement of one training step: its time, its memory, and the speed of the hardware."""

import contextlib
import functools
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from stii_jax.benchmark.kernels import trace_kernels
from stii_jax.data.catalog import resolve_config
from stii_jax.data.pipeline.source import open_dataset
from stii_jax.devices.machine import peak_bytes
from stii_jax.devices.parallel import check_batch_size, data_parallel, process_batch_indices
from stii_jax.models.encoder import PLACES
from stii_jax.models.registry import make_model
from stii_jax.models.stii import STII
from stii_jax.training.checks import check_accumulation
from stii_jax.training.optimizer import make_optimizer
from stii_jax.training.state import TrainState, init_state
from stii_jax.training.step import make_train_step

_PRODUCTS_ON_CPU = 2048, 1  # size of the matrices whose product measures the device, and number of products in a row
_PRODUCTS = 8192, 8  # on accelerators, where a small or single product takes as long to launch as to compute
_TRACED_STEPS = 2
_PIPELINE_SECONDS = 3.0
_PIPELINE_VIDEOS = 2_000  # enough to read from, without building a full dataset


def benchmark(config: ConfigDict, steps: int = 5, pipeline: bool = True, kernels: int = 0) -> dict[str, Any]:
    """Measure the first stage's step and return the output of `--json`. With 0 steps it only compiles.

    `analytic_flops`, for STII and IODINE, counts the multiply-adds (two each) of the step's convolutions and dense
    layers, without recomputation that saves memory. `compiled_flops_loops_once` is XLA's count, in which a loop's body,
    such as the scan over frames, counts once. `matrix_share` is `analytic_flops` per second relative to the measured
    rate of a matrix product in the same type. Besides `temporary_bytes_per_device`, a step needs
    `argument_bytes_per_device`: the state, which is overwritten, and the batch. With `kernels`, two more steps are
    traced; see `summarize_kernels`.
    """
    check_batch_size(config.batch_size, "batch_size")
    check_accumulation(config.train.accumulation, config.batch_size)
    dataset = resolve_config(config.data.dataset, config.data.variant, config.data.options.to_dict())
    model = make_model(config, dataset.image_size)
    optimizer = make_optimizer(**config.optim, num_steps=config.train.num_steps)
    state = init_state(model, optimizer, config.seed)
    step = make_train_step(
        model, optimizer, dataset.max_objects, config.train.parallel, accumulation=config.train.accumulation
    )
    batch = _random_batch(config, dataset.image_size, dataset.max_objects)
    index = process_batch_indices(config.batch_size)

    started = time.monotonic()
    program = step.compiled(state, batch, index)
    compiled = time.monotonic() - started
    compiled_flops, memory = (program.cost_analysis() or {}).get("flops"), program.memory_analysis()
    seconds, loss, state = _time_steps(lambda state: step(state, batch, index), state, steps)
    peak_memory = _peak_memory()
    traced: dict[str, Any] = {}
    if kernels:
        run = functools.partial(_time_steps, lambda state: step(state, batch, index), state, _TRACED_STEPS - 1)
        traced = trace_kernels(run, _TRACED_STEPS, kernels)

    step_seconds = statistics.median(seconds[1:]) if steps else None
    cells = config.batch_size * sum(model.schedule(config.data.num_frames))
    flops = analytic_flops(model, config) if isinstance(model, STII) else None
    matrix_rate = _matrix_rate(config) if steps else None
    return {
        "config": config.to_dict(),
        "device": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "compute_dtype": config.model.compute_dtype,
        "batch_size": config.batch_size,
        "num_frames": config.data.num_frames,
        "num_slots": model.num_slots,
        "num_refinements": config.model.num_refinements,
        # The extra time of the first step counts as compilation.
        "compile_seconds": compiled + (seconds[0] - step_seconds if step_seconds else 0),
        "step_seconds": step_seconds,
        "all_step_seconds": seconds[1:],
        "cells_per_step": cells,
        "cells_per_second": step_seconds and cells / step_seconds,
        "seconds_per_cell": step_seconds and step_seconds / cells,
        "analytic_flops": flops,
        "compiled_flops_loops_once": compiled_flops,
        "matrix_flops_per_second": matrix_rate,
        "matrix_share": flops and step_seconds and matrix_rate and flops / step_seconds / matrix_rate,
        "peak_memory_bytes": peak_memory,
        "temporary_bytes_per_device": memory.temp_size_in_bytes if memory else None,
        "argument_bytes_per_device": memory.argument_size_in_bytes if memory else None,
        "pipeline_clips_per_second": _pipeline_rate(config) if pipeline else None,
        "loss": loss,
        **traced,
    }


def _time_steps(step: Callable, state: TrainState, count: int) -> tuple[list[float], float | None, TrainState]:
    """Time a first step and `count` more; returns the seconds, the last loss and state. With 0, no step is run."""
    seconds, logs = [], None
    for _ in range(count + 1 if count else 0):
        started = time.monotonic()
        state, logs = step(state)
        jax.block_until_ready((state, logs))
        seconds.append(time.monotonic() - started)
    return seconds, float(logs["loss"]) if logs else None, state


def analytic_flops(model: STII, config: ConfigDict) -> float:
    """Count the multiply-adds, two each, of a training step's convolutions and large dense layer.

    A decode and a refinement cost three passes each: forward, and the gradients of input and kernel. With
    `detach_refiner_inputs=false` the decoder's two gradients are computed twice.
    """
    settings, observed = config.model, model.num_observed(config.data.num_frames)
    predicted, schedule = config.data.num_frames - observed, model.schedule(observed)
    decode, refine = _PRODUCTS_OF[settings.architecture](model.frame_shape, settings)
    refinements = sum(schedule) + predicted
    decodes = refinements + len(schedule)
    passes = 3 if settings.detach_refiner_inputs else 5
    return 2.0 * config.batch_size * settings.num_slots * (passes * decodes * decode + 3 * refinements * refine)


def _paper_products(frame_shape: tuple[int, int, int], settings: ConfigDict) -> tuple[int, int]:
    """Return the multiplications of a decode and of a refinement of one slot, with the paper's layers."""
    height, width, channels = frame_shape
    decoder, refiner, pixels = settings.decoder_channels, settings.refiner_channels, height * width
    decode = 9 * pixels * (3 * decoder**2 + decoder * (channels + 1))
    refine = 9 * pixels * (3 * refiner**2 + refiner * (2 * channels + 5))
    return decode, refine + pixels // 16 * refiner * settings.feature_dim


def _pyramid_products(frame_shape: tuple[int, int, int], settings: ConfigDict) -> tuple[int, int]:
    """Return the same for the pyramid, whose layers are at half and at a quarter of the resolution."""
    height, width, channels = frame_shape
    decoder, refiner = settings.decoder_channels, settings.refiner_channels
    half, quarter = height * width // 4, height * width // 16
    decode = 9 * (quarter * decoder**2 + half * (decoder**2 + 4 * decoder * (channels + 1)))
    refine = 9 * (half * 4 * refiner * (2 * channels + 5) + quarter * 2 * refiner**2)
    return decode, refine + PLACES**2 * refiner * settings.feature_dim


_PRODUCTS_OF = {"paper": _paper_products, "pyramid": _pyramid_products}


def _random_batch(config: ConfigDict, image_size: int, num_objects: int) -> dict[str, np.ndarray]:
    shape = (config.batch_size // jax.process_count(), config.data.num_frames, image_size, image_size)
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    return {"video": video, "segmentation": rng.integers(0, num_objects + 1, shape, dtype=np.uint8)}


def _matrix_rate(config: ConfigDict) -> float:
    """Measure the multiply-adds, two each, per second over all devices in large matrix products of the compute type."""
    side, count = _PRODUCTS_ON_CPU if jax.default_backend() == "cpu" else _PRODUCTS

    def multiply(matrix, ones):
        product = lax.fori_loop(0, count, lambda _, total: matrix @ total, matrix)
        return ones * product.mean(dtype=jnp.float32)  # use the whole product, or XLA would skip a part

    products = data_parallel(multiply, shared_outputs=False)
    # Random numbers, since zeros and ones draw less power and run faster; scaled so that products keep their size.
    matrix = jax.random.normal(jax.random.key(0), (side, side), config.model.compute_dtype) / side**0.5
    ones = np.ones(jax.local_device_count(), np.float32)
    seconds = []
    for _ in range(4):
        started = time.monotonic()
        jax.block_until_ready(products(matrix, ones))
        seconds.append(time.monotonic() - started)
    return 2.0 * count * side**3 * jax.device_count() / min(seconds[1:])


def _peak_memory() -> int:
    """Return the total peak bytes of the accelerators, or those of this process on CPU."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats) and all("peak_bytes_in_use" in s for s in stats if s):
        return sum(s["peak_bytes_in_use"] for s in stats if s)
    return peak_bytes()


def _pipeline_rate(config: ConfigDict) -> float:
    """Measure the clips per second of the data pipeline while nothing else runs."""
    data, options = config.data, config.data.options.to_dict()
    if resolve_config(data.dataset, data.variant, options).num_train > _PIPELINE_VIDEOS:
        options |= {"num_train": _PIPELINE_VIDEOS, "num_validation": 1, "num_test": 1}
    with contextlib.redirect_stdout(sys.stderr):  # building a dataset prints messages, and standard output is for JSON
        source = open_dataset(data.dataset, data.variant, options, data.data_dir, num_threads=data.num_threads)
    batches = source.train_batches(data.num_frames, config.batch_size, seed=0)
    next(batches)
    count, started = 0, time.monotonic()
    while (elapsed := time.monotonic() - started) < _PIPELINE_SECONDS:
        count += len(next(batches)["video"])
    return count / elapsed
