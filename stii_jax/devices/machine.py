"""Cores, memory and processor of this machine, on Linux and macOS, and the folder of compiled programs."""

import os
import platform
import subprocess
import sys
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")  # Linux only


def num_cores() -> int:
    """Return the number of cores this process may use, or of all cores if the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Return the memory of the whole machine in bytes; None if the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def peak_bytes() -> int:
    """Return the peak resident memory of this process, in bytes."""
    import resource  # missing on Windows, where this module must still be importable to report it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts kilobytes


def cpu_name() -> str:
    """Return the processor's name, or its architecture if the system does not say."""
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else _cpu_name_of_macos() or platform.processor() or platform.machine()


def _cpu_name_of_macos() -> str:
    if sys.platform != "darwin":
        return ""
    try:
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def compilation_cache_dir() -> Path:
    """Return the folder of compiled programs: `$JAX_COMPILATION_CACHE_DIR`, or `~/.cache/stii_jax/compiled`."""
    return Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or Path.home() / ".cache" / "stii_jax" / "compiled")


def enable_compilation_cache() -> None:
    """Make jax cache compiled programs in `compilation_cache_dir()` between runs. Call it before importing jax."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # an empty one turns the cache off
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(compilation_cache_dir())
