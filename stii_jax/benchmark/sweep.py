"""The execution of a sweep: one process per point, and a results file written after each."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stii_jax.benchmark.points import Machine, Point
from stii_jax.devices.machine import num_cores
from stii_jax.errors import UserError
from stii_jax.storage.files import write_results

Measured = dict[str, Any]
"""A point of the results file: the fields of `Point`, and either `result`, from `benchmark`, or `error`."""

_ASK = (
    "import json, jax; from stii_jax.runs import provenance; "
    "print(json.dumps([jax.default_backend(), provenance.provenance()]))"
)
_ERROR_LINES = 3


class SweepError(UserError, RuntimeError):
    """A sweep cannot continue; the message is one line."""


def describe_machine() -> Machine:
    """Describe this machine. A separate process asks jax, so that accelerators stay free for the points."""
    environment = {key: value for key, value in os.environ.items() if key != "JAX_NUM_CPU_DEVICES"}
    done = subprocess.run([sys.executable, "-c", _ASK], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SweepError(f"jax finds no devices: {_last_lines(done.stderr)}")
    backend, made_by = json.loads(done.stdout.splitlines()[-1])
    count = made_by["device_count"]
    if backend == "cpu":
        count = num_cores()
    return Machine(backend, count, made_by["hardware"], made_by["commit"])


def measure(point: Point, steps: int, machine: Machine) -> Measured:
    """Measure a point in a separate process, with its own memory peak and devices.

    Raises:
        SweepError: the process failed, for example for lack of memory.
    """
    command = [sys.executable, "-m", "stii_jax.benchmark", "--json", "--no_pipeline", f"--steps={steps}"]
    command += ["--config", point.config, *(f"--config.{override}" for override in point.overrides)]
    # No cache: the compilation is measured too.
    environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    environment |= _only(point.values["devices"], machine)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SweepError(f"exit code {done.returncode}: {_last_lines(done.stderr)}")
    return json.loads(done.stdout.splitlines()[-1])


def measure_points(points: Sequence[Point], output: Path, steps: int, machine: Machine) -> list[Measured]:
    """Measure the points missing from `output` and print one line for each; returns all points in order.

    A failed point is kept with its error and retried by the next call.

    Raises:
        SweepError: the file does not hold a sweep, or is from another machine.
    """
    known = read_sweep(output, machine)
    waiting = [point for point in points if not _is_known(known.get(_key(point), {}), steps)]
    print(f"{len(waiting)} of {len(points)} points to measure", flush=True)
    started = time.monotonic()
    for number, point in enumerate(waiting, 1):
        try:
            outcome: Measured = {"result": measure(point, steps, machine)}
        except SweepError as error:
            outcome = {"error": str(error)}
        known[_key(point)] = point._asdict() | {"commit": machine.commit} | outcome
        write_results(output, {"hardware": machine.hardware, "points": list(known.values())})
        seconds = time.monotonic() - started
        left = seconds / number * (len(waiting) - number)
        print(f"[{number}/{len(waiting)}] {name_of(point._asdict())}: {_summary(outcome)} ", end="")
        print(f"({seconds / 60:.1f} min so far, {left / 60:.1f} left)", flush=True)
    return [known[_key(point)] for point in points]


def read_sweep(path: Path, machine: Machine) -> dict[str, Measured]:
    """Read the points measured by earlier calls."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
        hardware, points = content["hardware"], {_key(point): point for point in content["points"]}
    except (ValueError, KeyError, TypeError) as error:
        raise SweepError(f"{path} is not the file of a sweep ({error!r}): give another --output") from error
    if hardware != machine.hardware:
        raise SweepError(f"{path} was measured on {hardware}, and this is {machine.hardware}: give another --output")
    return points


def name_of(point: Mapping[str, Any]) -> str:
    """Return a point's name, such as `balls:color, frames 20`."""
    changed = point["changed"]
    return f"{point['config']}, {f'{changed} ' + str(point['values'][changed]) if changed else 'base'}"


def _key(point: Point | Mapping[str, Any]) -> str:
    """Return a key that identifies a measurement. Bases that differ in a factor have different keys."""
    fields = point._asdict() if isinstance(point, Point) else point
    return json.dumps([fields["config"], fields["overrides"], fields["values"]], sort_keys=True)


def _is_known(point: Mapping[str, Any], steps: int) -> bool:
    return "result" in point and (steps == 0 or point["result"]["step_seconds"] is not None)


def _only(count: int, machine: Machine) -> dict[str, str]:
    """Return the environment variables that limit jax to `count` devices."""
    if machine.backend == "cpu":
        return {"JAX_NUM_CPU_DEVICES": str(count)}
    if machine.backend == "gpu":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(machine.num_devices)))
        return {"CUDA_VISIBLE_DEVICES": ",".join(visible.split(",")[:count])}
    return {}


def _summary(outcome: Measured) -> str:
    if "error" in outcome:
        return f"FAILED, {outcome['error']}"
    result = outcome["result"]
    step = "" if result["step_seconds"] is None else f"{result['step_seconds']:.3g} s per step, "
    memory = result["temporary_bytes_per_device"]
    return f"{step}{'?' if memory is None else f'{memory / 1e6:.0f}'} MB, {result['compile_seconds']:.0f} s to compile"


def _last_lines(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-_ERROR_LINES:])
