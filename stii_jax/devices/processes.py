"""Runs of several processes, on one machine or many: their connection, and work done by the first one only."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from stii_jax.errors import UserError

HEARTBEAT_SECONDS = 60
"""Time without a heartbeat after which a process counts as dead and the others stop."""
_MESSAGE_BYTES = 2_000
_SEEN_WITHIN = 30.0  # seconds: network file systems show new files late


class ProcessError(UserError, RuntimeError):
    """Processes cannot connect, or one has stopped; the message says what to do."""


def initialize(
    coordinator: str | None, num_processes: int | None, process_id: int | None, *, detect: bool = False
) -> None:
    """Connect the processes of a run. Call it before jax looks for devices; a run of one process needs nothing.

    Args:
        coordinator: `host:port` on which process 0 listens.
        num_processes: number of processes of the run.
        process_id: number of this process, from 0.
        detect: True to detect missing arguments from the cluster: Slurm, Open MPI, TPU pods, Kubernetes.

    Raises:
        ProcessError: an argument is missing or wrong, or the others do not connect.
    """
    given = {"--coordinator_address": coordinator, "--num_processes": num_processes, "--process_id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if not detect and len(missing) == len(given):
        return
    if not detect and missing:
        raise ProcessError(f"give {', '.join(missing)} as well, or --distributed to detect it from the cluster")
    _restrict_cpu()
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            # With all three given there is nothing to detect.
            cluster_detection_method=None if missing else "deactivate",
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError, TypeError, OSError, KeyError) as error:
        raise ProcessError(
            f"the processes of the run cannot connect ({' '.join(str(error).split())[:300]}): give "
            "--coordinator_address, --num_processes and --process_id; only the last differs between processes"
        ) from error


def is_distributed() -> bool:
    """True if this process belongs to a run of several processes, or was started as one of several."""
    return jax.distributed.is_initialized()


def _restrict_cpu() -> None:
    """Use one device per process on CPU: with more, collectives across processes can block each other."""
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", 1)


def is_first() -> bool:
    """True in the process that writes the run's files and prints its messages."""
    return jax.process_index() == 0


def print_on_first(text: str) -> None:
    """Print in the first process only."""
    if is_first():
        print(text, flush=True)


def run_on_first(function: Callable[[], None]) -> None:
    """Call the function in the first process only; the others wait for it, and fail if it fails.

    Raises:
        ProcessError: in the other processes, with the first one's message.
    """
    if jax.process_count() == 1:
        function()
        return
    error: Exception | None = None
    if is_first():
        try:
            function()
        except Exception as caught:  # raised below, once the others have been informed
            error = caught
    text = f"{type(error).__name__}: {error}".encode()[:_MESSAGE_BYTES] if error else b""
    told = multihost_utils.broadcast_one_to_all(np.frombuffer(text.ljust(_MESSAGE_BYTES, b"\0"), np.uint8))
    if error:
        raise error
    if message := np.asarray(told).tobytes().rstrip(b"\0").decode(errors="replace"):
        raise ProcessError(f"process 0 stopped: {message}")


def check_shared(path: Path) -> None:
    """Raise `ProcessError` if this process cannot see a file that the first one has written."""
    until = time.monotonic() + _SEEN_WITHIN
    while not path.exists():
        if time.monotonic() > until:
            raise ProcessError(
                f"process {jax.process_index()} of {jax.process_count()} does not see {path}, which process 0 has "
                "written: --workdir must be on a file system that all machines of the run share"
            )
        time.sleep(0.1)


def check_same(value: int, what: str) -> None:
    """Raise `ProcessError` in a process whose value differs from the first one's."""
    if jax.process_count() > 1:
        first = int(multihost_utils.broadcast_one_to_all(np.int32(value)))
        if value != first:
            raise ProcessError(
                f"process {jax.process_index()} resumes from {what} {value}, process 0 from {first}: restart all "
                "processes, and check that they read the same --workdir"
            )


def explain(error: Exception) -> str:
    """Return a one-line message for a jax error in a run of several processes; "" for any other error."""
    if not (is_distributed() and isinstance(error, jax.errors.JaxRuntimeError)):
        return ""
    text = " ".join(str(error).split())
    return (
        f"process {jax.process_index()} of {jax.process_count()} cannot continue ({text[:200]}). If another process "
        "has stopped, its own messages say why. Restart all processes: training resumes from the last checkpoint"
    )
