"""The lock of a workdir: one process trains in it at a time. The operating system frees it with the process."""

import contextlib
import errno
import fcntl
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from stii_jax.config import ConfigError
from stii_jax.storage.metric_log import read_metrics

LOCK = ".lock"


def check_writable(workdir: Path) -> None:
    """Raise `OSError` if the folder cannot be created or written to; writes nothing."""
    place = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    code = errno.ENOTDIR if not place.is_dir() else errno.EACCES if not os.access(place, os.W_OK | os.X_OK) else 0
    if code:
        raise OSError(code, f"cannot write to {workdir} ({os.strerror(code)}: {place}): give another --workdir")


def holds_run(workdir: Path, checkpoint_every: int) -> bool:
    """True if training reached its first checkpoint, so that there is a run to resume.

    Args:
        workdir: the folder, which may be missing.
        checkpoint_every: steps between two checkpoints, by the settings in the folder. If the log reaches the first
            checkpoint, the run's checkpoints were moved away.

    Raises:
        LogError: `metrics.jsonl` is not a log.
    """
    if has_checkpoint(workdir) or any((workdir / "checkpoints").glob("damaged_*")):
        return True
    return any(line["step"] >= checkpoint_every for line in read_metrics(workdir / "metrics.jsonl"))


def has_checkpoint(workdir: Path) -> bool:
    """True if the workdir, which may be missing, has a checkpoint to resume from."""
    return any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*"))


@contextlib.contextmanager
def lock_workdir(workdir: Path) -> Iterator[None]:
    """Create the folder if it is missing, and lock it against other runs within the context.

    Raises:
        ConfigError: another run is in it.
        OSError: the folder cannot be written to.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ConfigError(
                f"another run is training in {workdir}{_holder(file.read())}: wait for it to end, stop it, or give "
                "another --workdir"
            ) from error
        file.truncate(0)
        file.write(json.dumps({"process": os.getpid(), "host": platform.node()}))
        file.flush()
        yield


def _holder(text: str) -> str:
    """Return the process that holds the lock, if its file names one."""
    try:
        holder = json.loads(text)
        return f" (process {holder['process']} on {holder['host']})"
    except (ValueError, KeyError, TypeError):
        return ""
