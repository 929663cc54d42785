"""A module that a test runs as a program still runs as one in other processes."""

import os
import subprocess
import sys

import as_main
import pytest


def test_other_processes_load_no_bytecode_of_the_import_hook(tmp_path, monkeypatch):
    """With bytecode of the hook, the second program would end with a `KeyError`."""
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    with pytest.raises(SystemExit) as stop:
        as_main.run("stii_jax.data.pipeline.simulate", "--help")
    assert stop.value.code == 0
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "stii_jax.data.pipeline.simulate", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr
