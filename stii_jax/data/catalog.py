"""Look up a dataset by name, and build its files. Needs no jax."""

from collections.abc import Mapping
from typing import Any

from stii_jax.data import DATASETS
from stii_jax.data.builder import VideoBuilder
from stii_jax.data.errors import unknown
from stii_jax.data.folders import resolve_data_dir, resolve_manual_dir
from stii_jax.data.options import VideoConfig
from stii_jax.data.pipeline.prepare import build_if_missing


def resolve_config(dataset: str, variant: str, options: Mapping[str, Any] | None = None) -> VideoConfig:
    """The config of a variant with options applied.

    Raises:
        DataError: an unknown dataset, variant or option, or an invalid value of an option.
    """
    if dataset not in DATASETS:
        raise unknown("dataset", dataset, DATASETS)
    variants = {config.name: config for config in DATASETS[dataset].BUILDER_CONFIGS}
    if variant not in variants:
        raise unknown(f"variant of {dataset}", variant, variants)
    return variants[variant].with_options(options or {})


def prepare(
    dataset: str,
    variant: str,
    options: Mapping[str, Any] | None = None,
    data_dir: str = "",
    manual_dir: str = "",
    *,
    overwrite: bool = False,
) -> VideoBuilder:
    """Build a dataset's files if they are missing, with a message and a progress bar.

    Args:
        dataset: a key of `DATASETS`.
        variant: the name of one of its configs.
        options: fields of the config to change, e.g. `{"image_size": 32}`. Call `to_dict()` on a `ConfigDict` first.
        data_dir: the folder of all datasets; "" is `$STII_DATA_DIR`, or `~/.cache/stii_jax`.
        manual_dir: the folder of the files that you have to download for this dataset; "" is `manual/DATASET` in
            the folder of all datasets.
        overwrite: rebuild the dataset if it exists.

    Returns:
        the TFDS builder of the files.

    Raises:
        DataError: an unknown name, a folder that cannot be written to, an incomplete dataset, or missing or unusable
            source files.
        OSError: writing failed, e.g. because the disk is full.
    """
    config = resolve_config(dataset, variant, options)
    folder = resolve_data_dir(data_dir)
    manual = resolve_manual_dir(manual_dir, folder, dataset)
    return build_if_missing(DATASETS[dataset], config, folder, manual, overwrite=overwrite)
