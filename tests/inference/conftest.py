"""Fixtures for tests of inference."""

import jax
import pytest
from toy import ToyModel, save_run


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """The workdir of a run of the toy model, which sees 8x8 pixels."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    save_run(folder, ToyModel(8).init(jax.random.key(0)))
    return folder
