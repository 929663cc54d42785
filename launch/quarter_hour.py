"""A quarter of an hour on one GPU: train `balls:mixture` for eight minutes in bfloat16, then benchmark both models.

    python launch/quarter_hour.py --output quarter
    python launch/quarter_hour.py --output quarter --toy      # a rehearsal of a few seconds per part, on any machine

All parts together, start-up and compilation included, end within `--minutes`. A part that fails or takes too long is
stopped and noted in OUTPUT/summary.json, and everything written so far stays.

Training takes the stages of `balls:mixture` by the clock. A step of each stage is timed; a stage then gets the share of
the time that its steps would take. The learning rate follows the config's warm-up and cosine over the planned steps, so
it reaches zero at the end whatever the speed. Batches are eight times the config's, whose 2 to 8 videos would leave the
GPU idle most of the time. Larger ones would fit into its memory, but leave too few steps. The learning rate grows with
the square root of that factor, but at most twofold. If the batches do not fit into the card's memory, they are halved.

OUTPUT/minute-N.safetensors   the parameters after N minutes of training, with the batch factor and the steps per stage
OUTPUT/final.safetensors      the last parameters
OUTPUT/training.jsonl         the logged metrics, one line per second or so
OUTPUT/benchmark-NAME.json    the output of `python -m stii_jax.benchmark --json`
OUTPUT/summary.json           the seconds and the outcome of each part

To score the parameters later, on any machine:

    python -m stii_jax.main --model quarter/final.safetensors --mode evaluate --workdir runs/quarter
"""

import argparse
import functools
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stii_jax.config import load_config, stage_configs
from stii_jax.data.catalog import prepare
from stii_jax.devices.machine import enable_compilation_cache, num_cores
from stii_jax.runs.dataset import dataset_of
from stii_jax.storage.files import dumps, write_results

BATCH_FACTOR = 8
MOST_LEARNING_RATE = 2.0
"""Limit of the factor of the learning rate."""
BENCHMARK_SECONDS, EXPORT_GRACE = 75.0, 10.0
"""Time kept for each benchmark at the end, and for the last export before them."""
LOG_SECONDS, EXPORT_SECONDS = 1.0, 60.0
AHEAD = 3
"""Number of steps queued on the device."""
BFLOAT16 = "model.compute_dtype=bfloat16"
BENCHMARKS = {"paper": "balls:color", "pyramid": "balls:mixture"}
OF_BENCHMARKS = (BFLOAT16, "batch_size=32", "data.num_frames=4")
TOY_MODEL = (
    *("model.latent_dim=4", "model.hidden_dim=8", "model.feature_dim=8", "model.prior_dim=8"),
    *("model.decoder_channels=4", "model.refiner_channels=4", "model.num_refinements=2", "model.num_slots=3"),
    *("data.options.image_size=32", "data.options.num_train=16"),
    *("data.options.num_validation=4", "data.options.num_test=4", "eval.num_videos=2", "eval.restarts=1"),
    *("eval.lengths=(2,)", "eval.batch_size=2"),
)


class Plan(NamedTuple):
    """The settings of a run of this script."""

    output: Path
    train_seconds: float
    last_step: float
    """Time of the last training step at the latest, in seconds since the epoch."""
    toy: bool

    def config(self, factor: int) -> ConfigDict:
        """Return the training's config with batches multiplied by `factor`."""
        base = load_config("balls:mixture", [BFLOAT16, *(TOY_MODEL if self.toy else ())])
        half = "data.options.image_size=32"
        settings = [
            [s.replace(half, half[:-2] + "16") if self.toy else s for s in stage[3:]] for stage in stages_of(base)
        ]
        first, *rest = [
            (t, 1 if self.toy else b * factor, n, *s) for (t, b, n, *_), s in zip(stages_of(base), settings)
        ]
        rate = base.optim.learning_rate * min(math.sqrt(factor), MOST_LEARNING_RATE)
        changes = [f"batch_size={first[1]}", f"curriculum.first={tuple(first[3:])}", f"curriculum.stages={tuple(rest)}"]
        changes += [f"optim.learning_rate={rate}", f"data.num_threads={num_cores()}"]
        return load_config(base, changes)


def stages_of(config: ConfigDict) -> list[tuple]:
    """Return all stages as tuples: frames, videos, steps, and their own settings."""
    first = (config.data.num_frames, config.batch_size, config.train.num_steps, *config.curriculum.first)
    return [first, *config.curriculum.stages]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all parts, each in its own process; see the module's docstring."""
    began = time.time()
    parser = argparse.ArgumentParser(description="Train and benchmark within a quarter of an hour.")
    parser.add_argument("--output", type=Path, required=True, help="folder of everything that is written")
    parser.add_argument("--minutes", type=float, default=14.0, help="minutes of all parts together (14)")
    parser.add_argument("--train_minutes", type=float, default=8.0, help="minutes of training steps, at most (8)")
    parser.add_argument("--toy", action="store_true", help="a tiny model: a rehearsal for any machine")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    if any(options.output.iterdir()):
        parser.error(f"--output {options.output} is not empty: give a new folder")
    enable_compilation_cache()
    end = began + 60 * options.minutes
    reserve = BENCHMARK_SECONDS * min(options.minutes / 14, 1)
    last_step = end - reserve * len(BENCHMARKS) - EXPORT_GRACE
    plan = Plan(options.output.resolve(), 60 * options.train_minutes, last_step, options.toy)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    benchmarks = {f"benchmark-{name}": functools.partial(benchmark, name) for name in BENCHMARKS}
    parts = {"training": functools.partial(in_process, train), **benchmarks}
    summary: dict[str, Any] = {"minutes": options.minutes, "toy": options.toy}
    for number, (name, part) in enumerate(parts.items(), 1):
        started, outcome = time.time(), "stopped"
        try:
            part(plan, end - reserve * (len(parts) - number))
            outcome = "done"
        except Exception as error:  # the next parts run, whatever happens
            outcome = f"failed: {error}"
        finally:
            summary[name] = {"outcome": outcome, "seconds": time.time() - started}
            write_results(plan.output / "summary.json", summary)
            print(f"{name}: {outcome} after {time.time() - started:.0f} s, {end - time.time():.0f} s left", flush=True)


def in_process(function: Callable[[Plan], None], plan: Plan, by: float) -> None:
    """Run a function in a new process, so that its memory is freed; stop it `by` a time."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=(plan,))
    process.start()
    try:
        process.join(max(by - time.time(), 1))
    finally:
        for stop, grace in ((process.terminate, 10), (process.kill, 5)):
            if process.is_alive():
                stop()
                process.join(grace)
    if process.exitcode:
        raise RuntimeError(f"exit code {process.exitcode}")


def benchmark(name: str, plan: Plan, by: float) -> None:
    """Benchmark one architecture, with the five most expensive kernels."""
    changes = [*OF_BENCHMARKS, *((*TOY_MODEL, "batch_size=2") if plan.toy else ())]
    command = [sys.executable, "-m", "stii_jax.benchmark", "--config", BENCHMARKS[name], "--json", "--no_pipeline"]
    command += ["--steps=2" if plan.toy else "--steps=10", "--kernels=5", *(f"--config.{change}" for change in changes)]
    root = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, timeout=max(by - time.time(), 1))
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}")
    write_results(plan.output / f"benchmark-{name}.json", json.loads(done.stdout.splitlines()[-1]))


def build(spec: tuple) -> None:
    """Build a dataset, unless it exists."""
    prepare(*spec)


class Run:
    """The training: its datasets, and per stage a model and a compiled step."""

    def __init__(self, plan: Plan, factor: int):
        import jax.numpy as jnp
        import optax

        from stii_jax.devices.parallel import process_batch_indices
        from stii_jax.models.registry import make_model
        from stii_jax.runs.provenance import provenance
        from stii_jax.runs.setup import open_stages
        from stii_jax.training.state import init_state
        from stii_jax.training.step import make_train_step

        self.plan, self.config = plan, plan.config(factor)
        self.stages, self.sources = stage_configs(self.config), open_stages(self.config)
        # The learning rate is part of the state, so that the clock can set it.
        rate = optax.inject_hyperparams(optax.scale_by_learning_rate)(learning_rate=jnp.float32(0))
        optimizer = optax.chain(optax.clip_by_global_norm(self.config.optim.clip_norm), optax.scale_by_adam(), rate)
        models = [make_model(stage, source.image_size) for stage, source in zip(self.stages, self.sources)]
        self.state = init_state(models[-1], optimizer, self.config.seed)
        num_objects = max(source.num_objects for source in self.sources)
        self.steps = [make_train_step(model, optimizer, num_objects) for model in models]
        self.indices = [process_batch_indices(stage.batch_size) for stage in self.stages]
        self.facts = provenance() | {"seed": self.config.seed, "batch_factor": factor}

    def batches(self, number: int):
        """Return the endless batches of a stage."""
        stage = self.stages[number]
        return self.sources[number].train_batches(stage.data.num_frames, stage.batch_size, self.config.seed + number)

    def time_steps(self) -> list[float]:
        """Compile all stages at the same time, and return the seconds per step of each."""
        import jax

        from stii_jax.training.progress import time_calls

        batches = [next(self.batches(number)) for number in range(len(self.stages))]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda s, b, i: s.compiled(self.state, b, i), self.steps, batches, self.indices))

        def call(number):
            copy = jax.tree.map(jax.numpy.copy, self.state)  # a step overwrites its input
            return jax.block_until_ready(self.steps[number](copy, batches[number], self.indices[number]))

        return [time_calls(lambda n=number: call(n)).step for number in range(len(self.stages))]

    def export(self, name: str, facts: Mapping[str, Any]) -> None:
        """Write the parameters to OUTPUT/NAME.safetensors."""
        from stii_jax.pretrained.trained import Trained, save

        facts = self.facts | facts | {"step": int(self.state.step)}
        save(self.plan.output / f"{name}.safetensors", Trained(self.config, self.state.params, facts))


def prepare_run(plan: Plan) -> tuple[Run, list[float]]:
    """Build the datasets, compile, and time the steps, with half the batch if the memory is too small."""
    specs = {repr(spec): spec for spec in (dataset_of(stage, False) for stage in stage_configs(plan.config(1)))}
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(build, specs.values()))
    factor = BATCH_FACTOR
    while True:
        try:
            run = Run(plan, factor)
            return run, run.time_steps()
        except RuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or factor == 1:
                raise
            factor //= 2
            print(f"out of memory: trying batches of {factor} times the config's", flush=True)


def train(plan: Plan) -> None:
    """Train by the clock, and export the parameters every minute and at the end."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    run, seconds = prepare_run(plan)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    planned = [stage.train.num_steps for stage in run.stages]
    total = max(min(plan.train_seconds, plan.last_step - time.time()), 0.1)
    costs = [steps * cost for steps, cost in zip(planned, seconds)]
    shares = [total * cost / sum(costs) for cost in costs]
    print(f"{total:.0f} s of training; seconds per step: {', '.join(f'{s:.3g}' for s in seconds)}", flush=True)
    started = exported = logged = time.time()
    taken = [0] * len(planned)
    facts: dict[str, Any] = {"planned_seconds": shares, "seconds_per_step": seconds, "steps_per_stage": taken}
    warmup = run.config.optim.warmup_steps / sum(planned)
    with (plan.output / "training.jsonl").open("w") as log:
        try:
            for number, share in enumerate(shares):
                batches, pending = run.batches(number), []
                begins = started + sum(shares[:number])
                while not stopped and ((now := time.time()) < begins + share or not taken[number]):
                    within = min((now - begins) / share, 1.0)
                    progress = (sum(planned[:number]) + within * planned[number]) / sum(planned)
                    rate = run.config.optim.learning_rate * learning_rate(progress, warmup)
                    optimizer = optax.tree_utils.tree_set(run.state.optimizer, learning_rate=jnp.float32(rate))
                    state = run.state._replace(optimizer=optimizer)
                    run.state, logs = run.steps[number](state, next(batches), run.indices[number])
                    taken[number] += 1
                    pending.append(logs)
                    jax.block_until_ready(pending[-AHEAD:][0])
                    if now - logged >= LOG_SECONDS or taken[number] == 1:
                        means = {key: float(np.mean([logs[key] for logs in pending])) for key in pending[0]}
                        line = {"step": int(run.state.step), "time": now - started, "stage": number + 1}
                        log.write(dumps(line | {"learning_rate": rate} | means) + "\n")
                        log.flush()
                        logged, pending = now, []
                        if int(run.state.failed_step) >= 0:
                            raise RuntimeError(
                                f"step {int(run.state.failed_step) + 1} is not finite: see training.jsonl"
                            )
                    if now - exported >= EXPORT_SECONDS:
                        exported = now
                        run.export(f"minute-{round((now - started) / 60)}", facts | {"train_seconds": now - started})
        finally:
            run.export("final", facts | {"train_seconds": time.time() - started})


def learning_rate(progress: float, warmup: float) -> float:
    """Return the learning rate relative to its maximum: linear warm-up, then half a cosine down to zero."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


if __name__ == "__main__":
    main()
