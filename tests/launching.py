"""Runs started by the scripts of `launch/`, with the toy model instead of the real one."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from toy import overrides

HERE = Path(__file__).parent
LAUNCH = HERE.parent / "launch"

# The interpreter of the script: `-m stii_jax.main` runs `toy_main.py`, and everything else is plain Python.
_PYTHON = f"""#!/bin/sh
if [ "$1" = -m ]; then shift 2; exec {sys.executable} {HERE / "toy_main.py"} "$@"; fi
exec {sys.executable} "$@"
"""


class Launcher:
    """A launcher of runs that share datasets, compiled programs and an interpreter in one folder."""

    def __init__(self, folder: Path, compiled: Path):
        self.folder, self.compiled = folder, compiled
        self._started: list[subprocess.Popen] = []
        self.python = folder / "python"
        self.python.write_text(_PYTHON)
        self.python.chmod(0o755)

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a process: few threads, fast compilation, only the given devices."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "XLA_", "SLURM_"))}
        return clean | {
            "PYTHON": str(self.python),
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
            "JAX_COMPILATION_CACHE_DIR": str(self.compiled),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            **more,
        }

    def start(
        self, workdir: Path, processes: int = 1, *arguments: str, environment: dict[str, str] | None = None, **changes
    ) -> subprocess.Popen:
        """Start `launch/local.sh` for a toy run with `changes`, with one device per process if there are several."""
        settings = [f"--config.{override}" for override in overrides(self.folder / "data", **changes)]
        several = ["--processes", str(processes)] if processes > 1 else []
        script = [str(LAUNCH / "local.sh"), *several, "--config", "default", "--workdir", str(workdir)]
        process = subprocess.Popen(
            [*script, *settings, *arguments],
            env=self.environment(**(environment or {})),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def stop(self) -> None:
        """Kill processes left by a failed test, with their children."""
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def run(self, workdir: Path, processes: int = 1, *arguments: str, expect: int = 0, **settings) -> str:
        """Run it to its end with this exit code; return its output."""
        process = self.start(workdir, processes, *arguments, **settings)
        try:
            output, _ = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise
        assert process.returncode == expect, output[-3000:]
        return output


def order_of(folder: Path) -> dict[tuple[int, int], str]:
    """Return the fingerprint of the video at each step and place in the batch, as all processes recorded it.

    A stopped run may have read ahead of its last checkpoint. Batches that it reads twice must be the same.
    """
    found: dict[tuple[int, int], str] = {}
    for line in "".join(path.read_text() for path in sorted(folder.iterdir())).splitlines():
        step, number, look = line.split()
        assert found.setdefault((int(step), int(number)), look) == look
    return found


def bits_of(tree: Any) -> list[bytes]:
    """Return the bytes of every leaf."""
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]
