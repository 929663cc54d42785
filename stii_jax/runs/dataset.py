"""The dataset that a config names, checked without its files and without jax."""

from typing import Any

from ml_collections import ConfigDict

from stii_jax.data.catalog import resolve_config
from stii_jax.data.options import VideoConfig


def describe(config: ConfigDict, *, evaluated: bool = False) -> VideoConfig:
    """The variant that the config trains on, or evaluates on, with its options.

    Raises:
        DataError: an unknown dataset, variant or option, or an option with a bad value.
    """
    return resolve_config(*dataset_of(config, evaluated))


def dataset_of(config: ConfigDict, evaluated: bool) -> tuple[str, str, dict[str, Any]]:
    """Name, variant and options."""
    data, other = config.data, config.eval
    if not evaluated:
        return data.dataset, data.variant, data.options.to_dict()
    return data.dataset, other.variant or data.variant, data.options.to_dict() | other.options.to_dict()
