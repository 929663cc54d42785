"""Set up for every test: checked shapes, several devices, the sample files."""

import os
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

# Before jax looks for its devices, and before the package is imported.
jax.config.update("jax_num_cpu_devices", 4)
install_import_hook("stii_jax", "beartype.beartype")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of real sample files: `$STII_SAMPLES`, or `../shared/data` beside the checkout."""
    folder = Path(os.environ.get("STII_SAMPLES") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no sample files: set STII_SAMPLES to their folder")
    return folder
