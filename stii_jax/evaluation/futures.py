"""Scores of sampled futures against the true one: the best of them, their mean, and their spread.

Positions are centroids of hard segmentations, and objects are matched to slots once, in the last observed frame; see
`velocities`. A future counts as a whole: its error in a frame is the mean distance of its objects from the true ones,
and the best future is the one with the smallest error in that frame. The best paths of different objects in different
futures are not combined.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from stii_jax.evaluation import metrics
from stii_jax.evaluation.velocities import Positions, match_by_distance, of_objects, positions

SCORES = ("position_error", "best_position_error", "mean_position_error", "futures_distance", "spread")
"""The scores of `future_scores`."""


def future_scores(
    labels: Integer[Array, "B frames H W"], last: Positions, predicted: Positions, futures: Positions, num_objects: int
) -> dict[str, Float[Array, "B T"]]:
    """Score futures per video and predicted frame, in pixels.

    Args:
        labels: true labels of the last observed frame and of the predicted ones.
        last: positions of the slots in the last observed frame, `B K 2`.
        predicted: positions in the frames that the model predicts without sampling, `B T K 2`.
        futures: positions in sampled futures, `N B T K 2`.
        num_objects: the largest true label.

    Returns:
        The distances of the objects from their true centroids, averaged over the objects that are visible in the last
        observed frame and in the scored one: `position_error` of the prediction, `best_position_error` of the best
        future, and `mean_position_error`, the mean over futures. `futures_distance` is the mean distance of an object's
        centroids in two futures, averaged over the same objects: it equals `mean_position_error` if the true future is
        as likely as the sampled ones. `spread` is the standard deviation of an object's centroid over futures: the root
        of the summed variances in x and y, averaged over the same objects. A slot without pixels counts as resting, and
        so does an object without a slot. NaN without an object, or for a video with a label above `num_objects`.
    """
    labels = labels.astype(jnp.int32)
    true = Positions(*(values[:, :, 1:] for values in positions(labels, num_objects + 1)))  # without the background
    first = Positions(*(values[:, 0] for values in true))
    slots = match_by_distance(first, last)
    start = _place(Positions(*(values[:, None] for values in last)), slots, first.centroid[:, None])
    known = labels.max((1, 2, 3)) <= num_objects
    counted = true.visible[:, :1] & true.visible[:, 1:] & known[:, None, None]

    def error(found: Positions) -> Float[Array, "B T"]:
        return _mean(jnp.linalg.norm(_place(found, slots, start) - true.centroid[:, 1:], axis=-1), counted)

    samples = [Positions(*(values[i] for values in futures)) for i in range(len(futures.centroid))]
    errors = jnp.stack([error(sample) for sample in samples])
    places = jnp.stack([_place(sample, slots, start) for sample in samples])
    others = max(len(samples) - 1, 1)
    apart = jnp.linalg.norm(places[:, None] - places, axis=-1).sum(1).mean(0) / others
    spread = jnp.sqrt(jnp.square(places - places.mean(0)).sum((0, -1)) / others)
    errors_of = (error(predicted), errors.min(0), errors.mean(0))
    return dict(zip(SCORES, (*errors_of, _mean(apart, counted), _mean(spread, counted)), strict=True))


class Summary:
    """The scores of batches of videos, to be averaged over the videos."""

    def __init__(self) -> None:
        self._parts: list[Mapping[str, np.ndarray]] = []
        self._valid: list[Bool[np.ndarray, " B"]] = []

    def add(self, scores: Mapping[str, np.ndarray], valid: Bool[np.ndarray, " B"]) -> None:
        """Add the `future_scores` of a batch; `valid` is False for the padding of the last batch."""
        self._parts.append(scores)
        self._valid.append(valid)

    def rows(self) -> list[dict[str, Any]]:
        """Return the means and standard errors over videos: one entry per predicted frame, from 1."""
        joined = {name: np.concatenate([part[name] for part in self._parts]) for name in SCORES}
        valid, num_frames = np.concatenate(self._valid), joined[SCORES[0]].shape[1]
        rows = (metrics.summarize({name: v[:, t] for name, v in joined.items()}, valid) for t in range(num_frames))
        return [{"frame": t, **row} for t, row in enumerate(rows, start=1)]


def _place(found: Positions, slots: Integer[Array, "B L"], start: Float[Array, "B 1 L 2"]) -> Float[Array, "B T L 2"]:
    """The centroid of every object's slot, or its `start` where the slot has no pixel."""
    mine = Positions(*(of_objects(values, slots) for values in found))
    return jnp.where(mine.visible[..., None], mine.centroid, start)


def _mean(values: Float[Array, "B T L"], counted: Bool[Array, "B T L"]) -> Float[Array, "B T"]:
    """The mean over the counted objects; NaN if there is none."""
    count = counted.sum(-1)
    return jnp.where(count > 0, jnp.where(counted, values, 0).sum(-1) / jnp.maximum(count, 1), jnp.nan)
