"""The lock of a workdir."""

import json
import os

import pytest

from stii_jax.config import ConfigError
from stii_jax.runs.lock import LOCK, lock_workdir


def test_one_run_at_a_time(tmp_path):
    workdir = tmp_path / "deep" / "run"
    with lock_workdir(workdir):
        assert json.loads((workdir / LOCK).read_text())["process"] == os.getpid()
        with (
            pytest.raises(ConfigError, match=rf"is training in {workdir} \(process {os.getpid()} on .*\): wait"),
            lock_workdir(workdir),
        ):
            pass
        with lock_workdir(tmp_path / "other"):
            pass
    with lock_workdir(workdir):
        pass


def test_a_lock_file_that_tells_nothing(tmp_path):
    (tmp_path / LOCK).write_text("{cut sho")
    with lock_workdir(tmp_path):
        (tmp_path / LOCK).write_text("{cut sho")
        with pytest.raises(ConfigError, match=r"another run is training .*: wait for it"), lock_workdir(tmp_path):
            pass
