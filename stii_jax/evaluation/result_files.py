"""The files that an evaluation writes to a workdir: scores with their provenance, and figures."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from stii_jax.config import flatten
from stii_jax.devices.processes import is_first, print_on_first
from stii_jax.evaluation.evaluator import Evaluator, Picture
from stii_jax.models.registry import model_settings
from stii_jax.storage.files import write_results
from stii_jax.storage.metric_log import MetricWriter

_OTHER_EVALUATION = (
    *("variant", "split", "system", "num_slots", "clamp", "predictor"),
    *("num_refinements", "restarts", "reseeds", "reseed_every", "slot_cost", "schedule"),
    *("first_noise", "segmentation"),
)
"""Settings of `config.eval`, besides `options`, that distinguish an evaluation from the run's own."""


def label(trained: ConfigDict, config: ConfigDict) -> str:
    """Return a suffix for file names that lists the settings that differ from `trained`; "" if none does."""
    own, settings = flatten(trained.eval), flatten(config.eval)
    label = ""
    for key, value in sorted(settings.items()):
        name = key.removeprefix("options.")
        if (key in _OTHER_EVALUATION or name != key) and own.get(key) != value:
            shown = re.sub(r"[^\w.]+", "-", str(value)).strip("-")
            label += f"_{shown}" if isinstance(value, str) and shown else f"_{name}={shown or 'own'}"
    return label


def write_pictures(
    evaluator: Evaluator, workdir: Path, step: int, pictures: list[Picture], name: str, num_observed: int | None = None
) -> None:
    """Write strips and animations of videos to `media`, with their trajectories if frames are predicted."""
    writer = MetricWriter(workdir, enabled=is_first())
    evaluator.draw(writer, step, pictures, name, num_observed)
    if num_observed is not None:
        evaluator.draw_trajectories(writer, step, pictures, num_observed)
    writer.close()


def write_scores(config: ConfigDict, workdir: Path, name: str, results: dict, made_by: Mapping[str, Any]) -> None:
    """Write scores with their provenance: the settings and the facts of the trained model."""
    if not is_first():
        return
    facts = {
        "dataset": f"{config.data.dataset}/{config.eval.variant or config.data.variant}",
        "options": config.data.options.to_dict() | config.eval.options.to_dict(),
        "split": config.eval.split,
        "system": config.eval.system or config.system,
        "num_slots": config.eval.num_slots or model_settings(config)["num_slots"],
    }
    workdir.mkdir(parents=True, exist_ok=True)
    write_results(workdir / name, {**facts, **made_by, **results})


def print_futures(frames: Sequence[dict], num_futures: int) -> None:
    """Print the scores of sampled futures, in pixels, in the last predicted frame."""
    last = frames[-1]
    names = {"position_error": "of the prediction", "best_position_error": "best future", "mean_position_error": "mean"}
    errors = ", ".join(f"{shown} {last[name]:.2f}" for name, shown in names.items())
    print_on_first(
        f"{num_futures} futures, in predicted frame {last['frame']}: position error {errors}; "
        f"spread {last['spread']:.2f} pixels"
    )


def print_scores(lengths: Sequence[dict]) -> None:
    """Print one line per length. Scores of a single video have no standard error."""
    for scores in lengths:
        shown = []
        for name in (name.removesuffix("_stderr") for name in scores if name.endswith("_stderr")):
            error = scores[f"{name}_stderr"]
            shown.append(f"{name} {scores[name]:.4f}" + (f" +- {error:.4f}" if math.isfinite(error) else ""))
        videos = f"{scores['num_videos']} video{'s' * (scores['num_videos'] != 1)}"
        print_on_first(f"{scores['num_frames']} frames, {videos}: {', '.join(shown)}")
