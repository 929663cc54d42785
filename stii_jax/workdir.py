"""A workdir has one run at a time: whoever trains in it holds its lock, which the system frees with the process."""

import contextlib
import fcntl
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from stii_jax.config import ConfigError

LOCK = ".lock"


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Makes the folder if it is missing, and keeps every other run out of it meanwhile.

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
                f"another run trains in {workdir}{_holder(file.read())}: wait for its end, stop it, or give another "
                "--workdir"
            ) from error
        file.truncate(0)
        file.write(json.dumps({"process": os.getpid(), "host": platform.node()}))
        file.flush()
        yield


def _holder(text: str) -> str:
    """Who holds the lock, if its file says so."""
    try:
        holder = json.loads(text)
        return f" (process {holder['process']} on {holder['host']})"
    except (ValueError, KeyError, TypeError):
        return ""
