"""One small dataset, built once for all tests that only read."""

from pathlib import Path

import pytest

from stii_jax.data import VideoDataset, open_dataset

TINY = {"num_frames": 12, "num_train": 40, "num_validation": 8, "num_test": 10}


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def tiny(tiny_dir: Path) -> VideoDataset:
    return open_dataset("bouncing_balls", "mini", TINY, str(tiny_dir), num_threads=2)
