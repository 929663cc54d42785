"""Scores of predicted motion: direction and speed against the ground truth, as in DDPAE (Hsieh et al., 2018).

The decomposition of a forecast holds the last observed frame and then the predicted ones. A velocity is the
displacement of an object from one frame to the next, in pixels. (DDPAE's code uses two frames, where the rounding to
whole pixels weighs half as much.) Published conventions differ, hence two kinds:

    velocity_cosine, speed_error          of centroids, as in DDPAE
    velocity_cosine_box, speed_error_box  of the centres of bounding boxes, as in the STII paper

The papers leave these choices open:

- Positions come from hard segmentations, true and predicted: a pixel belongs to the slot with the largest mask. With
  soft masks, small values all over the background would pull the centroid to the middle of the frame.
- Objects are matched to slots once, one-to-one, in the first frame, by the smallest sum of squared distances between
  centroids. The future has no influence, so a slot that swaps its object later is wrong. The background's slot is not
  special: it normally remains unmatched. (DDPAE's code takes the nearest component over all observed frames, and skips
  videos in which two objects have the same one.)
- The ground truth alone decides which pairs of an object and a step count, so no model can avoid the hard ones. The
  object is visible in the first frame and before and after the step, and moves by `MIN_SPEED` or more. A slot without
  pixels before or after the step counts as standing still, and so does an object without a slot. (An object that the
  model has lost may get the background's slot, which hardly moves.)
- Standing still has a speed error of 1 and, without a direction, a cosine of 0. (DDPAE's code skips this case.)

The true position of a partly occluded object is that of its visible part.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer, Shaped

from stii_jax.evaluation.metrics import best_match, matched
from stii_jax.types import Batch, Decomposition

MIN_SPEED = 0.1
"""Speed in pixels per frame below which a true object counts as at rest. The speed is a divisor, and the flip of one
pixel on the rim of a small ball moves a centroid by as much."""


TURN = 0.5
"""Change of a true velocity, in pixels per frame, above which an object was pushed or bounced off a wall."""


class Positions(NamedTuple):
    """The positions of the labels 0..num_labels-1 in pixels; zeros for a label without a pixel."""

    centroid: Float[Array, "*batch L 2"]
    """Mean y and x of the pixels."""
    box: Float[Array, "*batch L 2"]
    """Centre (y, x) of the bounding box."""
    visible: Bool[Array, "*batch L"]
    """True if the label has a pixel."""


def positions(labels: Integer[Array, "*batch H W"], num_labels: int) -> Positions:
    """The position of every label in every frame. The frame begins at 0, so its first pixel has its centre at 0.5."""
    one_hot = jax.nn.one_hot(labels, num_labels)
    centroids, boxes = [], []
    for other_axis in (-2, -3):  # counting along x leaves y, and vice versa
        counts = one_hot.sum(other_axis)  # ... H L, or ... W L
        size = counts.shape[-2]
        place = jnp.arange(size)[:, None] + 0.5
        centroids.append((counts * place).sum(-2) / jnp.maximum(counts.sum(-2), 1))
        first = jnp.where(counts > 0, place, size).min(-2)
        last = jnp.where(counts > 0, place, 0).max(-2)
        boxes.append((first + last) / 2)
    visible = one_hot.any((-3, -2))
    centroid, box = (jnp.stack(axes, -1) * visible[..., None] for axes in (centroids, boxes))
    return Positions(centroid, box, visible)


def match_by_distance(true: Positions, found: Positions) -> Integer[Array, "B L"]:
    """Match the objects of one frame to slots by the smallest sum of squared centroid distances; -1 means no slot.

    Only visible objects and slots are matched. A hidden object gets no slot, nor does any object beyond the number of
    visible slots.
    """
    squared = jnp.square(true.centroid[:, :, None] - found.centroid[:, None]).sum(-1)
    # Scores are positive, but 0 without a position, so that a hidden label never displaces a visible pair.
    closeness = squared.max((1, 2), keepdims=True, initial=0) + 1 - squared
    scores = jnp.where(true.visible[:, :, None] & found.visible[:, None], closeness, 0)
    slots = best_match(scores)
    return jnp.where(matched(scores, slots) > 0, slots, -1)


def velocity_scores(decomposition: Decomposition, batch: Batch, num_objects: int) -> dict[str, Float[Array, " B"]]:
    """Per-video scores of frame-to-frame displacements; see the module's docstring.

    Args:
        decomposition: the last observed frame, then predicted ones.
        batch: `segmentation` of the same frames.
        num_objects: the largest true label.

    Returns:
        `velocity_cosine`, the cosine of the angle between true and predicted velocity, in [-1, 1], and `speed_error`,
        `| |predicted| / |true| - 1 |`; also both for box centres. Each is the mean over the counted pairs of an object
        and a step. `position_error` is the distance between true and predicted centroid in the last frame, in pixels,
        over the objects that are visible in the first and the last frame. `position_error_turned` is the same over
        those whose velocity changed by `TURN` or more on the way. A slot without pixels counts as resting, and so does
        an object without a slot. Scores are NaN for a video without such an object, or with a label above
        `num_objects`.
    """
    labels = batch["segmentation"].astype(jnp.int32)
    true = Positions(*(values[:, :, 1:] for values in positions(labels, num_objects + 1)))  # without the background
    found = positions(decomposition.segmentation, decomposition.masks.shape[2])
    slots = match_by_distance(*(Positions(*(values[:, 0] for values in all_frames)) for all_frames in (true, found)))
    found = Positions(*(of_objects(values, slots) for values in found))

    seen = true.visible[:, :1] & true.visible[:, :-1] & true.visible[:, 1:]
    followed = found.visible[:, :-1] & found.visible[:, 1:]
    known = labels.max((1, 2, 3)) <= num_objects
    scores = {}
    for ending, here, there in (("", true.centroid, found.centroid), ("_box", true.box, found.box)):
        velocity = jnp.diff(here, axis=1)
        predicted = jnp.diff(there, axis=1) * followed[..., None]
        speed, predicted_speed = jnp.linalg.norm(velocity, axis=-1), jnp.linalg.norm(predicted, axis=-1)
        counted = seen & (speed >= MIN_SPEED)
        cosine = (velocity * predicted).sum(-1) / jnp.maximum(speed * predicted_speed, 1e-9)  # 0 where standing still
        error = jnp.abs(predicted_speed / jnp.maximum(speed, MIN_SPEED) - 1)
        scores[f"velocity_cosine{ending}"] = _mean(cosine, counted, known)
        scores[f"speed_error{ending}"] = _mean(error, counted, known)
    return scores | _position_errors(true, found, known)


def _position_errors(true: Positions, found: Positions, known: Bool[Array, " B"]) -> dict[str, Float[Array, " B"]]:
    """Distances in the last frame, of all objects and of those that turned."""
    velocity = jnp.diff(true.centroid, axis=1)
    shown = true.visible[:, :-1] & true.visible[:, 1:]
    change = jnp.linalg.norm(velocity - velocity[:, :1], axis=-1)
    turned = ((change >= TURN) & shown & shown[:, :1]).any(axis=1, keepdims=True)
    start = jnp.where(found.visible[:, :1, :, None], found.centroid[:, :1], true.centroid[:, :1])
    there = jnp.where(found.visible[:, -1:, :, None], found.centroid[:, -1:], start)
    distance = jnp.linalg.norm(there - true.centroid[:, -1:], axis=-1)
    counted = true.visible[:, :1] & true.visible[:, -1:]
    return {
        "position_error": _mean(distance, counted, known),
        "position_error_turned": _mean(distance, counted & turned, known),
    }


def of_objects(values: Shaped[Array, "B T K *rest"], slots: Integer[Array, "B L"]) -> Shaped[Array, "B T L *rest"]:
    """The values of each object's slot; zeros, which means not visible, for an object without a slot."""
    index = slots.reshape(slots.shape[0], 1, -1, *(1,) * (values.ndim - 3))
    picked = jnp.take_along_axis(values, jnp.maximum(index, 0), axis=2)
    return jnp.where(index >= 0, picked, jnp.zeros_like(picked))


def _mean(values: Float[Array, "B S L"], counted: Bool[Array, "B S L"], known: Bool[Array, " B"]) -> Float[Array, " B"]:
    """The mean over the counted steps and objects; NaN if there is none, or if a label is unknown."""
    count = counted.sum((1, 2))
    mean = jnp.where(counted, values, 0).sum((1, 2)) / jnp.maximum(count, 1)
    return jnp.where((count > 0) & known, mean, jnp.nan)
