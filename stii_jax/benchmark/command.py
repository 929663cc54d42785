"""The command line of the benchmark; see the package."""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from stii_jax.benchmark import sweep
from stii_jax.benchmark.points import FACTORS, SIZES, plan
from stii_jax.config import load_config, split_overrides
from stii_jax.errors import UserError, check_platform
from stii_jax.storage.files import write_atomic

ERRORS = (UserError, OSError)
"""Errors shown as one line, without a traceback."""

_CONFIG_HELP = "as for stii_jax.main; settings by --config.x.y=value. A sweep plots several configs together"
_SIZE_HELP = (
    "base of the sweep. small: 2 videos of 10 frames at 32x32, 16 channels, for CPUs; paper: 32 videos of 10 frames at "
    "64x64, the config's own model, for accelerators"
)


def main(arguments: Sequence[str], before_jax: Callable[[Sequence[int]], None] = lambda _: None) -> None:
    """Run the command line. `before_jax` is called with the batch sizes before jax looks for devices."""
    try:
        check_platform()
        overrides, rest = split_overrides(arguments)
        options = _parse(rest)
        if options.sweep:
            _sweep(options, overrides)
        else:
            _one(options, overrides, before_jax)
    except ERRORS as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped: the same command resumes the sweep" if "--sweep" in arguments else "stopped")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stii_jax.benchmark", description="Measure the cost of a training step."
    )
    parser.add_argument("--config", required=True, nargs="+", help=_CONFIG_HELP)
    parser.add_argument("--steps", type=int, default=5, help="steps to time after the first; 0 only compiles")
    one = parser.add_argument_group("one step")
    one.add_argument("--json", action="store_true", help="print one JSON object to standard output")
    one.add_argument("--no_pipeline", action="store_true", help="skip the data pipeline")
    one.add_argument(
        "--kernels", type=int, default=0, metavar="N", help="trace two steps; list the N costliest kernels"
    )
    many = parser.add_argument_group("a sweep: the base, and one factor at a time, each in its own process")
    many.add_argument("--sweep", action="store_true", help="measure how the cost grows")
    many.add_argument("--output", type=Path, help="JSON file, with .md and .png beside it; its points are kept")
    many.add_argument("--size", choices=SIZES, default="small", help=_SIZE_HELP)
    many.add_argument("--factors", nargs="+", choices=FACTORS, default=list(FACTORS), help="vary only these factors")
    many.add_argument("--list", action="store_true", help="show the points and exit")
    options = parser.parse_args(arguments)
    if options.steps < 0:
        parser.error(f"--steps is {options.steps}, expected 0 or more")
    if options.kernels < 0 or (options.kernels and (options.sweep or not options.steps)):
        parser.error(f"--kernels is {options.kernels}, expected 0 or more, and 0 with --sweep or --steps 0")
    if options.sweep and not options.list and (options.output is None or options.output.suffix != ".json"):
        parser.error(f"--output is {options.output}, expected a .json file for the sweep")
    if not options.sweep and len(options.config) > 1:
        parser.error(f"--config has {len(options.config)} names, expected one without --sweep")
    return options


def _one(options: argparse.Namespace, overrides: Sequence[str], before_jax: Callable[[Sequence[int]], None]) -> None:
    config = load_config(options.config[0], overrides)
    before_jax([config.batch_size])

    from stii_jax.benchmark.step import benchmark

    result = benchmark(config, options.steps, not options.no_pipeline, options.kernels)
    if options.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        if key == "top_kernels":
            for kernel in value:
                print(f"{kernel['share']:6.1%} of the kernels' time, {kernel['per_step']:g} per step: {kernel['name']}")
        elif key not in ("config", "all_step_seconds"):
            print(f"{key:28} {value:.6g}" if isinstance(value, float) else f"{key:28} {value}")


def _sweep(options: argparse.Namespace, overrides: Sequence[str]) -> None:
    from stii_jax.benchmark import pictures

    machine = sweep.describe_machine()
    points = plan(options.config, options.size, options.factors, overrides, machine)
    if options.list:
        print("\n".join(sweep.name_of(point._asdict()) for point in points))
        return
    options.output.parent.mkdir(parents=True, exist_ok=True)
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        measured = sweep.measure_points(points, options.output, options.steps, machine)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    table = pictures.table(measured)
    write_atomic(options.output.with_suffix(".md"), f"{table}\n".encode())
    write_atomic(options.output.with_suffix(".png"), pictures.figure(measured))
    print(f"\n{table}")
    if failed := [sweep.name_of(point) for point in measured if "error" in point]:
        raise sweep.SweepError(f"{len(failed)} failed: {'; '.join(failed)}. The same command retries them")


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt
