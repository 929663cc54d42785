"""The dataset named by a config, checked without its files and without JAX."""

from typing import Any

from ml_collections import ConfigDict

from stii_jax.data.catalog import resolve_config
from stii_jax.data.options import VideoConfig


def describe(config: ConfigDict, *, evaluated: bool = False) -> VideoConfig:
    """Return the variant that the config trains or evaluates on, with its options.

    Raises:
        DataError: an unknown dataset, variant or option, or an option with a bad value.
    """
    return resolve_config(*dataset_of(config, evaluated))


def dataset_of(config: ConfigDict, evaluated: bool) -> tuple[str, str, dict[str, Any]]:
    """Return the dataset's name, variant and options."""
    data, other = config.data, config.eval
    if not evaluated:
        return data.dataset, data.variant, data.options.to_dict()
    return data.dataset, other.variant or data.variant, data.options.to_dict() | other.options.to_dict()
