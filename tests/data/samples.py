"""A small instance of every dataset, in its real file format: one line per dataset, as in `DATASETS`.

Each function writes files to a folder, and returns the variant, the options and the folder for `manual_dir` ("" if
there is nothing to download).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sample_clevrer import make_clevrer
from sample_recordings import make_grand_central, make_rnem_balls, make_static_camera, make_video_folder

from stii_jax.data import DATASETS
from stii_jax.data.options import GeneratedConfig

Sample = tuple[str, dict[str, Any], str]


def generated(variant: str, **options: Any) -> Callable[[Path], Sample]:
    """Return a dataset that is generated without files."""
    few = {"num_frames": 9, "num_train": 6, "num_validation": 2, "num_test": 3} | options
    return lambda folder: (variant, few, "")


SAMPLES: dict[str, Callable[[Path], Sample]] = {
    "bouncing_balls": generated("mini"),
    "tabletop": generated("mini", num_test6=2),
    "shapes": generated("mini"),
    "clevrer": make_clevrer,
    "rnem_balls": make_rnem_balls,
    "grand_central": make_grand_central,
    "static_camera": make_static_camera,
    "video_folder": make_video_folder,
}

GENERATED = {name for name, builder in DATASETS.items() if isinstance(builder.BUILDER_CONFIGS[0], GeneratedConfig)}
"""Names of the datasets that are generated without files."""
