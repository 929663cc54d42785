"""`--mode doctor`: check this machine and list what is missing for which feature."""

import importlib.util
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

import stii_jax
from stii_jax import pretrained
from stii_jax.config import config_names
from stii_jax.data import NEED_FILES
from stii_jax.data.folders import resolve_data_dir, resolve_manual_dir
from stii_jax.data.video import pyav
from stii_jax.devices.machine import compilation_cache_dir, cpu_name, memory_bytes, num_cores
from stii_jax.runs.provenance import PACKAGES, provenance

_LEAST_FREE = 1e9
"""Free disk space in bytes below which a dataset or a run may not fit."""
_EXTRAS = {
    "notebooks (colabs/)": ("ipywidgets", "pip install -e '.[notebooks]'"),
    "scores of point tracks (evaluate --tracks)": ("trackeval", "pip install 'trackeval>=1.3'"),
    "reading curves in TensorBoard": ("tensorboard", "pip install tensorboard"),
    "running the tests": ("pytest", "pip install -e '.[dev]'"),
}


class Finding(NamedTuple):
    """The result of one check."""

    about: str
    found: str
    remedy: str = ""
    """The remedy; "" if nothing is wrong."""
    needed: bool = False
    """True if nothing works without it."""


def examine() -> int:
    """Print all findings. Returns 1 if something is missing that every use needs, else 0."""
    broken = 0
    for title, findings in (("Versions", _versions()), ("Machine", _machine()), ("Features", _features())):
        print(f"{title}")
        for finding in findings:
            mark = "ok" if not finding.remedy else "MISSING" if finding.needed else "--"
            print(f"  {mark:8}{finding.about}: {finding.found}" + (f" -> {finding.remedy}" if finding.remedy else ""))
            broken += bool(finding.remedy and finding.needed)
    return 1 if broken else 0


def _versions() -> Iterator[Finding]:
    made = provenance()
    commit = f", commit {made['commit'][:9]}{' with changes' * made['dirty']}" if made["commit"] else ""
    yield Finding("stii_jax", f"{stii_jax.__version__}{commit}, in {Path(stii_jax.__file__).parent}")
    yield Finding("Python", f"{platform.python_version()} on {platform.platform()}")
    yield Finding("packages", ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES))


def _machine() -> Iterator[Finding]:
    devices = jax.local_devices()
    kinds = f"{len(devices)} x {devices[0].device_kind}"
    if memory := (devices[0].memory_stats() or {}).get("bytes_limit"):
        kinds += f", {_size(memory)} each"
    yield Finding("devices of jax", kinds)
    if devices[0].platform == "cpu" and shutil.which("nvidia-smi"):
        remedy = "pip install -e '.[cuda]' (with older drivers '.[cuda12]')"
        yield Finding("GPU", "present, but JAX does not use it", remedy)
    memory_of_all = memory_bytes()
    size = f", {_size(memory_of_all)} of memory" if memory_of_all else ""
    yield Finding("CPU", f"{cpu_name()}, {num_cores()} cores{size}")
    yield _computes()
    yield from _folder("datasets", resolve_data_dir(""), "$STII_DATA_DIR")
    yield from _folder("compiled programs", compilation_cache_dir(), "$JAX_COMPILATION_CACHE_DIR")
    yield from _folder("this folder", Path.cwd(), "another folder for --workdir")


def _features() -> Iterator[Finding]:
    yield Finding("training", f"configs {', '.join(config_names())}")
    shipped = ", ".join(pretrained.names())
    yield Finding("trained models", shipped or "none", "" if shipped else "reinstall stii_jax", needed=True)
    yield _video()
    for feature, (package, remedy) in _EXTRAS.items():
        there = importlib.util.find_spec(package) is not None
        yield Finding(feature, f"{package} is {'installed' if there else 'not installed'}", "" if there else remedy)
    for name in NEED_FILES:
        folder = resolve_manual_dir("", resolve_data_dir(""), name)
        there = folder.is_dir() and any(folder.iterdir())
        remedy = "" if there else "download them (docs/datasets.md), or give --config.data.manual_dir"
        yield Finding(f"dataset {name}", f"{'files' if there else 'no files'} in {folder}", remedy)


def _computes() -> Finding:
    """Compile and run a product of two matrices."""
    try:
        ones = jnp.ones((64, 64))
        right = bool((jax.jit(jnp.matmul)(ones, ones) == 64).all())
        return Finding("a first computation", "correct" if right else "wrong", "" if right else "reinstall jax", True)
    except jax.errors.JaxRuntimeError as error:
        cause = " ".join(str(error).split())[:200]
        return Finding("a first computation", f"failed ({cause})", "reinstall jax, or check the GPU's driver", True)


def _video() -> Finding:
    """Encode a frame and decode it again."""
    if failure := pyav.self_test():
        return Finding("video files (decompose, video_folder)", failure, "pip install --force-reinstall av")
    return Finding("video files (decompose, video_folder)", f"H.264 read and written by PyAV {pyav.VERSION}")


def _folder(use: str, folder: Path, setting: str) -> Iterator[Finding]:
    """Check that a folder, or its nearest existing parent, is writable and has free space."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
        remedy = f"free space, or set {setting}" if free < _LEAST_FREE else ""
        yield Finding(use, f"{folder}, {_size(free)} free", remedy)
    except OSError as error:
        yield Finding(use, f"{folder} cannot be written to ({error.strerror})", f"set {setting}", needed=True)


def _size(count: float | int) -> str:
    return f"{count / 1e9:.1f} GB"
