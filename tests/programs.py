"""Compiled programs, shared by test processes and sessions in pytest's cache folder, and released in time.

A program is compiled once for all processes of a session, including those that tests start. Later sessions with the
same jaxlib and kind of CPU reuse it. `pytest --cache-clear` deletes all programs. The key of a program covers all of
its inputs, so a change of the code or of JAX never meets an outdated program.
"""

import hashlib
import os
import platform
from pathlib import Path

import jax
import jaxlib

LIMIT = 2**30
"""Bytes of programs above which a session starts from scratch, because programs of older code pile up."""
MAPPINGS = 20_000
"""Memory mappings of this process above which programs are released. Linux allows 65,530 per process."""
CLEAN = "clean"
"""The file that a session writes at its end. A newer program may have been truncated by a kill."""


def folder_of_this_machine(cache: Path) -> Path:
    """Return the folder of this jaxlib and kind of CPU, because XLA compiles for the CPU's instructions."""
    return cache / f"jaxlib-{jaxlib.__version__}-{hashlib.sha256(_cpu().encode()).hexdigest()[:12]}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.platform() + platform.processor()
    named = ("model name", "flags", "CPU implementer", "CPU part", "Features")
    return platform.machine() + "".join(sorted({line for line in lines if line.startswith(named)}))


def use(folder: Path) -> None:
    """Make JAX keep programs in `folder`, in this process and its children, including small programs.

    Most test programs compile in less than a tenth of a second, but there are thousands.
    """
    for name, value in {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


def start(folder: Path, limit: int = LIMIT) -> None:
    """Remove half-written programs of a killed session, and all programs if there are more than `limit` bytes.

    Otherwise JAX would try to read a truncated program in every session, warn, and compile it again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clean = folder / CLEAN
    finished = clean.stat().st_mtime_ns if clean.exists() else 0
    programs = {path: path.stat() for path in folder.glob("*-cache")}
    if sum(status.st_size for status in programs.values()) > limit:
        finished = 0
    for path, status in programs.items():
        if status.st_mtime_ns > finished:
            path.unlink(missing_ok=True)


def finish(folder: Path) -> None:
    """Note that all programs are complete."""
    (folder / CLEAN).touch()


def release(limit: int = MAPPINGS) -> None:
    """Release all compiled programs if this process has more than `limit` memory mappings; on Linux only.

    JAX keeps every compiled program for as long as its process runs, with a few mappings for each. At Linux's limit
    (`vm.max_map_count`), XLA crashes with a segmentation fault. Released programs are read from the folder if needed.
    """
    try:
        with Path("/proc/self/maps").open("rb") as lines:
            mappings = sum(1 for _ in lines)
    except OSError:
        return
    if mappings > limit:
        jax.clear_caches()
