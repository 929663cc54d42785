"""The paper's numbers, from `results/published.json`: a row a dataset and model, a number a length."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stii_jax.report.files import read_json
from stii_jax.storage.files import PathLike

Published = Mapping[str, Any]

PUBLISHED_METRICS = {"ari": "ARI", "f_ari": "F-ARI", "mse": "MSE"}


def read_published(results: PathLike) -> Published:
    """The content of `published.json` in a folder; raises `ReportError` where it is missing or broken."""
    return read_json(Path(results) / "published.json")


def published_score(published: Published, dataset: str, model: str, num_frames: int, metric: str) -> float | None:
    """What the paper reports for the very dataset, model and length; None where it reports nothing.

    IODINE takes every frame by itself, and its one number (of 1 frame) stands for all lengths.
    """
    for row in published["rows"]:
        if (row["dataset"], row["model"]) == (dataset, model) and metric in row:
            if row["num_frames"] == [1]:
                return row[metric][0]
            if num_frames in row["num_frames"]:
                return row[metric][row["num_frames"].index(num_frames)]
    return None
