"""The kernels of a training step: their number, their time, and the most expensive ones, from a profiler's trace."""

import collections
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

_CONTAINERS = re.compile(r"^(while|call|conditional)\b")
"""XLA's operations on CPU whose time includes that of the operations inside them."""


class Kernel(NamedTuple):
    """One execution of a kernel."""

    name: str
    start: float
    seconds: float


def trace_kernels(run_steps: Callable[[], object], num_steps: int, count: int) -> dict[str, Any]:
    """Trace `run_steps`, which takes `num_steps` steps and waits for them; return the output of `summarize_kernels`."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run_steps()
        paths = sorted(Path(folder).rglob("*.xplane.pb"))
        profiles = [jax.profiler.ProfileData.from_file(str(path)) for path in paths]
        return summarize_kernels((kernel for profile in profiles for kernel in kernels_of(profile)), num_steps, count)


def kernels_of(profile: jax.profiler.ProfileData) -> list[Kernel]:
    """Return the kernels of all accelerators, or XLA's operations on CPU if there is none.

    On a GPU, these are the events of its streams, including copies of memory.
    """
    devices = [plane for plane in profile.planes if plane.name.startswith("/device:")]
    streams = [line for plane in devices for line in plane.lines if line.name.startswith(("Stream", "XLA Ops"))]
    if streams:
        return [_kernel(event) for line in streams for event in line.events]
    host = [line for plane in profile.planes if plane.name.startswith("/host:CPU") for line in plane.lines]
    events = (event for line in host for event in line.events if any(key == "hlo_op" for key, _ in event.stats))
    return [_kernel(event) for event in events if not _CONTAINERS.match(event.name)]


def summarize_kernels(kernels: Iterable[Kernel], num_steps: int, count: int) -> dict[str, Any]:
    """Return the kernels per step and the `count` most expensive ones.

    `kernel_seconds_per_step` sums all kernels. `kernel_busy_seconds_per_step` is the time in which at least one was
    running. `top_kernels` groups kernels by name without the numbers that XLA adds; `share` is relative to the sum.
    """
    found = list(kernels)
    groups: dict[str, list[float]] = collections.defaultdict(list)
    for kernel in found:
        groups[re.sub(r"([._]\d+)+$", "", kernel.name)].append(kernel.seconds)
    total = sum(kernel.seconds for kernel in found)
    ordered = sorted(groups.items(), key=lambda group: (-sum(group[1]), group[0]))
    return {
        "kernels_per_step": len(found) / num_steps,
        "kernel_seconds_per_step": total / num_steps,
        "kernel_busy_seconds_per_step": _union(found) / num_steps,
        "top_kernels": [
            {"name": name, "share": sum(times) / total if total else 0.0, "per_step": len(times) / num_steps}
            for name, times in ordered[:count]
        ],
    }


def _kernel(event: Any) -> Kernel:
    return Kernel(event.name, event.start_ns * 1e-9, event.duration_ns * 1e-9)


def _union(kernels: list[Kernel]) -> float:
    """Return the time covered by at least one kernel."""
    if not kernels:
        return 0.0
    starts, ends = np.array(sorted((k.start, k.start + k.seconds) for k in kernels)).T
    before = np.maximum.accumulate(np.concatenate([starts[:1], ends[:-1]]))
    return float(np.maximum(ends - np.maximum(starts, before), 0.0).sum())
