"""Datasets of videos, and the batches that training and evaluation read from them.

A dataset is a `VideoBuilder` and one line of `DATASETS`. Its variants are its `BUILDER_CONFIGS`; options
change their fields:

    source = open_dataset("bouncing_balls", "color4", {"num_train": 1_000})
    batch = next(source.train_batches(num_frames=4, batch_size=32, seed=0))
"""

from collections.abc import Mapping
from typing import Any

from stii_jax.data.bouncing_balls import BouncingBalls
from stii_jax.data.builder import VideoBuilder
from stii_jax.data.clevrer import Clevrer
from stii_jax.data.errors import DataError, unknown
from stii_jax.data.options import VideoConfig
from stii_jax.data.prepare import build_if_missing, resolve_data_dir, resolve_manual_dir
from stii_jax.data.rnem_balls import RnemBalls
from stii_jax.data.source import Source
from stii_jax.data.static_camera import GrandCentral, StaticCamera
from stii_jax.data.tabletop import Tabletop
from stii_jax.data.video_folder import VideoFolder

__all__ = ["DATASETS", "DataError", "Source", "open_dataset", "prepare", "resolve_config"]

DATASETS: dict[str, type[VideoBuilder]] = {
    "bouncing_balls": BouncingBalls,
    "tabletop": Tabletop,
    "clevrer": Clevrer,
    "rnem_balls": RnemBalls,
    "grand_central": GrandCentral,
    "static_camera": StaticCamera,
    "video_folder": VideoFolder,
}


def resolve_config(dataset: str, variant: str, options: Mapping[str, Any] | None = None) -> VideoConfig:
    """The config of a variant with options applied.

    Raises:
        DataError: an unknown dataset, variant or option, or an option's value that does not do.
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
    """Builds a dataset's files if they are missing, with a message and a progress bar.

    Args:
        dataset: a key of `DATASETS`.
        variant: the name of one of its configs.
        options: fields of the config to change, e.g. `{"image_size": 32}`. Of a `ConfigDict`,
            give the `to_dict()`.
        data_dir: the folder of all datasets; "" is `$STII_DATA_DIR`, or `~/.cache/stii_jax`.
        manual_dir: the folder of the files that a dataset is made from and that you have to fetch; "" is
            `manual/DATASET` in the folder of all datasets.
        overwrite: build anew, even if there are files.

    Returns:
        the tfds builder of the files.

    Raises:
        DataError: an unknown name, a folder that cannot be written to, files that are not whole, or missing or useless
            files to make it from.
        OSError: writing failed, e.g. because the disk is full.
    """
    config = resolve_config(dataset, variant, options)
    folder = resolve_data_dir(data_dir)
    manual = resolve_manual_dir(manual_dir, folder, dataset)
    return build_if_missing(DATASETS[dataset], config, folder, manual, overwrite=overwrite)


def open_dataset(
    dataset: str,
    variant: str,
    options: Mapping[str, Any] | None = None,
    data_dir: str = "",
    manual_dir: str = "",
    *,
    num_threads: int = 4,
) -> Source:
    """Opens a dataset for reading, after building it if it is missing.

    Args:
        dataset: as for `prepare`, like the next four; the errors are the same, too.
        variant: see `prepare`.
        options: see `prepare`.
        data_dir: see `prepare`.
        manual_dir: see `prepare`.
        num_threads: reader threads of each iterator.
    """
    return Source(prepare(dataset, variant, options, data_dir, manual_dir), num_threads)
