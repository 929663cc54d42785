"""Video datasets, and the batches that training and evaluation read from them.

A dataset is a `VideoBuilder` and one line of `DATASETS`. Its variants are its `BUILDER_CONFIGS`, and options
override their fields:

    source = open_dataset("bouncing_balls", "color4", {"num_train": 1_000})
    batch = next(source.train_batches(num_frames=4, batch_size=32, seed=0))

Each dataset is imported on first use, together with the libraries it needs.
"""

from typing import TYPE_CHECKING

from stii_jax.data.errors import DataError
from stii_jax.lazy import Table, exports

if TYPE_CHECKING:
    from stii_jax.data.builder import VideoBuilder
    from stii_jax.data.catalog import resolve_config
    from stii_jax.data.pipeline.source import VideoDataset, open_dataset
else:
    __getattr__ = exports(
        __name__, dict.fromkeys(("VideoDataset", "open_dataset"), "pipeline.source") | {"resolve_config": "catalog"}
    )

__all__ = ["DATASETS", "NEED_FILES", "DataError", "VideoDataset", "open_dataset", "resolve_config"]

DATASETS: Table["type[VideoBuilder]"] = Table(
    {
        "bouncing_balls": "stii_jax.data.bouncing_balls:BouncingBalls",
        "tabletop": "stii_jax.data.tabletop:Tabletop",
        "shapes": "stii_jax.data.shapes:Shapes",
        "clevrer": "stii_jax.data.clevrer:Clevrer",
        "rnem_balls": "stii_jax.data.rnem_balls:RnemBalls",
        "grand_central": "stii_jax.data.static_camera:GrandCentral",
        "static_camera": "stii_jax.data.static_camera:StaticCamera",
        "video_folder": "stii_jax.data.video_folder:VideoFolder",
    }
)

NEED_FILES = ("clevrer", "rnem_balls", "grand_central")
"""Datasets built from files that the user has to download: those with `MANUAL_DOWNLOAD_INSTRUCTIONS`."""
