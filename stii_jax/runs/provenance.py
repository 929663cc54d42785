"""The provenance of a run: code, package versions and hardware."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import stii_jax
from stii_jax.devices.machine import cpu_name

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")


def provenance() -> dict[str, Any]:
    """Return commit, versions, devices and CPU, ready for JSON. Initialises JAX's devices.

    `commit` and `dirty` are None unless the package runs from its own checkout.
    """
    commit, dirty = _checkout(Path(stii_jax.__file__).resolve().parents[1])
    devices, cpu, cores = jax.devices(), cpu_name(), os.cpu_count()
    accelerated = devices[0].platform != "cpu"
    return {
        "commit": commit,
        "dirty": dirty,
        "versions": {"stii_jax": stii_jax.__version__} | {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "device": devices[0].device_kind,
        "device_count": len(devices),
        "process_count": jax.process_count(),
        "cpu": cpu,
        "cpu_cores": cores,
        "hardware": f"{len(devices)} x {devices[0].device_kind}" if accelerated else f"{cpu}, {cores} cores",
    }


def _checkout(root: Path) -> tuple[str | None, bool | None]:
    """Return the commit of the checkout at `root`, if it is one, and True if tracked files differ from it."""
    # Git would also find a repository in a parent folder, such as one that holds the virtual environment.
    if not (root / ".git").exists() or not (root / "pyproject.toml").is_file():
        return None, None
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return commit, None if changes is None else bool(changes)


def _git(root: Path, *arguments: str) -> str | None:
    # A Git hook or CI job may have pointed these variables at another repository.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, cwd=root, env=clean, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
