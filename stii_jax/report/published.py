"""The paper's numbers, from `results/published.json`: one row per dataset and model, one number per length."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stii_jax.report.files import read_json
from stii_jax.storage.files import PathLike

Published = Mapping[str, Any]

PUBLISHED_METRICS = {"ari": "ARI", "f_ari": "F-ARI", "mse": "MSE"}


def read_published(results: PathLike) -> Published:
    """Read `published.json` in a folder. Raises `ReportError` if it is missing or invalid."""
    return read_json(Path(results) / "published.json")


def published_score(published: Published, dataset: str, model: str, num_frames: int, metric: str) -> float | None:
    """The paper's score for exactly this dataset, model and length; None if it reports none.

    IODINE infers every frame by itself, so its single number (for 1 frame) applies to all lengths.
    """
    for row in published["rows"]:
        if (row["dataset"], row["model"]) == (dataset, model) and metric in row:
            if row["num_frames"] == [1]:
                return row[metric][0]
            if num_frames in row["num_frames"]:
                return row[metric][row["num_frames"].index(num_frames)]
    return None
