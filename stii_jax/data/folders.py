"""The folders of datasets. This module imports nothing heavy."""

import os
from pathlib import Path


def resolve_data_dir(data_dir: str) -> Path:
    """`data_dir`, or `$STII_DATA_DIR`, or `~/.cache/stii_jax`: the first that is not empty."""
    return Path(data_dir or os.environ.get("STII_DATA_DIR") or "~/.cache/stii_jax").expanduser().absolute()


def resolve_manual_dir(manual_dir: str, data_dir: Path, dataset: str) -> Path:
    """`manual_dir`, or else `manual/DATASET` in the folder of all datasets."""
    return Path(manual_dir).expanduser().absolute() if manual_dir else data_dir / "manual" / dataset
