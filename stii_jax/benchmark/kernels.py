"""The kernels of a training step: their number, their time, and the most expensive ones, from a profiler's trace."""

import collections
import gzip
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
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
        # The trace is read as JSON, because jax.profiler.ProfileData aborts the process with jaxlib 0.12.
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            run_steps()
        paths = sorted(Path(folder).rglob("perfetto_trace.json.gz"))
        traces = [json.loads(gzip.decompress(path.read_bytes())) for path in paths]
    found = (kernel for trace in traces for kernel in kernels_of(trace["traceEvents"]))
    return summarize_kernels(found, num_steps, count)


def kernels_of(events: Sequence[Mapping[str, Any]]) -> list[Kernel]:
    """Return the kernels of all accelerators, or XLA's operations on CPU if there is none.

    On a GPU, these are the events of its streams, including copies of memory.

    Args:
        events: a trace in Chrome's format.
    """
    devices, streams = set[int](), set[tuple[int, int]]()
    for event in events:
        name = event.get("args", {}).get("name", "")
        if event.get("name") == "process_name" and name.startswith("/device:"):
            devices.add(event["pid"])
        if event.get("name") == "thread_name" and name.startswith(("Stream", "XLA Ops")):
            streams.add((event["pid"], event["tid"]))
    done = [event for event in events if event.get("ph") == "X"]
    if found := [e for e in done if e["pid"] in devices and (e["pid"], e["tid"]) in streams]:
        return [_kernel(event) for event in found]
    host = (event for event in done if "hlo_op" in event.get("args", {}))
    return [_kernel(event) for event in host if not _CONTAINERS.match(event["name"])]


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


def _kernel(event: Mapping[str, Any]) -> Kernel:
    return Kernel(event["name"], event["ts"] * 1e-6, event["dur"] * 1e-6)


def _union(kernels: list[Kernel]) -> float:
    """Return the time covered by at least one kernel."""
    if not kernels:
        return 0.0
    starts, ends = np.array(sorted((k.start, k.start + k.seconds) for k in kernels)).T
    before = np.maximum.accumulate(np.concatenate([starts[:1], ends[:-1]]))
    return float(np.maximum(ends - np.maximum(starts, before), 0.0).sum())
