"""Atomic file writes: a temporary file is renamed, so that a kill leaves either the old or the new file."""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

PathLike = str | os.PathLike[str]
RUN_FOLDERS = ("checkpoints", "media", "tensorboard")
"""The folders of a workdir written by a run."""


def write_results(path: PathLike, results: Mapping[str, Any]) -> None:
    """Write readable JSON atomically. Arrays become lists; NaN and infinity become null."""
    write_atomic(path, (dumps(results, indent=2) + "\n").encode())


def write_atomic(path: PathLike, data: bytes) -> None:
    """Replace a file atomically: readers, even after a kill, find either the whole old or the whole new file."""
    path = Path(path)
    # Each process has its own temporary file, so that two writers of the same file do not collide.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with name_in_errors(path):
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def name_in_errors(path: Path) -> Iterator[None]:
    """Re-raise write errors with the file's name, which they may lack, and advice."""
    try:
        yield
    except OSError as error:
        way_out = "free space there, or give a folder you may write to"
        raise OSError(error.errno, f"cannot write {path} ({error.strerror or error}): {way_out}") from error


def dumps(value: Any, indent: int | None = None) -> str:
    """Return JSON. Arrays become lists; NaN and infinity become null."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    """Return `value` as plain Python numbers and lists, with None for NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "__array__"):  # numpy and jax arrays
        return _plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
