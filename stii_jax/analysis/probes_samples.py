"""The probes' data: codes of slots, and the factors of the objects they are matched to.

The factors come from labels and frames alone, not from the simulator, so every dataset with labels has them. They
describe the visible part: the centroid of a partly hidden ball is that of its visible part.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from stii_jax.evaluation import metrics
from stii_jax.evaluation.evaluator import Evaluator
from stii_jax.evaluation.velocities import positions
from stii_jax.models.baselines.rnem import RNEM
from stii_jax.types import Decomposition, Params

FACTORS = {
    "position": ("x", "y"),
    "velocity": ("velocity_x", "velocity_y"),
    "color": ("red", "green", "blue"),
    "size": ("size",),
}
"""Factors and their components, in the order of `Samples.factors`."""
COMPONENTS = tuple(component for components in FACTORS.values() for component in components)
MIN_IOU = 0.5
"""Minimum overlap of an object with its slot; pairs with less are left out."""


class Samples(NamedTuple):
    """One sample per object, for N objects in many videos."""

    latents: Float[np.ndarray, "N Z"]
    """Posterior mean of the object's slot; for R-NEM, which has no posterior, the hidden state."""
    temporal: Float[np.ndarray, "N D"] | None
    """Temporal state of the slot after the frame; None for a model that has no such state."""
    factors: Float[np.ndarray, "N F"]
    video: Int[np.ndarray, " N"]
    """Number of the object's video."""
    names: tuple[str, ...]
    """Names of the factors' components."""
    num_objects: int
    """Number of candidate objects, matched well enough or not."""
    frame: int
    """Number of the frame in its video."""


def object_factors(
    frame: UInt8[np.ndarray, "B H W C"], segmentation: UInt8[np.ndarray, "B 3 H W"], num_objects: int
) -> tuple[Float[np.ndarray, "B L F"], Bool[np.ndarray, "B L"]]:
    """Return the factors of the objects 1..num_objects in a frame, and their visibility.

    An object counts as visible if it is visible in the frame and in both neighbours.

    Args:
        frame: pixels, 0..255; grey frames have the same colour in all channels.
        segmentation: labels of the previous frame, the frame, and the next frame.
        num_objects: the largest label.

    Returns:
        The factors, in the order of `COMPONENTS`, and a mask of the visible objects. The centroid's x and y run from 0
        to 1 between the frame's edges. Its velocity, in pixels per frame, is half its displacement from the previous to
        the next frame. The colour is the mean in [0, 1], and the size is the share of the frame's pixels.
    """
    height, width = segmentation.shape[2:]
    places = jax.tree.map(np.asarray, _positions(segmentation, num_objects + 1))
    centroid, visible = places.centroid[..., 1:, ::-1], places.visible[..., 1:].all(axis=1)
    masks = (segmentation[:, 1, None] == np.arange(1, num_objects + 1)[:, None, None]).astype(np.float32)
    area = masks.sum((2, 3))[..., None]
    color = np.einsum("blhw,bhwc->blc", masks, frame / np.float32(255)) / np.maximum(area, 1)
    parts = (
        centroid[:, 1] / (width, height),
        (centroid[:, 2] - centroid[:, 0]) / 2,
        np.broadcast_to(color, (*color.shape[:2], 3)),
        area / (height * width),
    )
    return np.concatenate(parts, axis=-1).astype(np.float32), visible


def match_slots(
    decomposition: Decomposition, segmentation: UInt8[np.ndarray, "B H W"], num_objects: int
) -> tuple[Int[np.ndarray, "B L"], Float[np.ndarray, "B L"]]:
    """Match objects in the last frame one-to-one to slots, maximising the sum of IoUs.

    Returns the slot of every object and its IoU, 0 without a slot.
    """
    slots, iou = _match(decomposition, segmentation, num_objects)
    return np.maximum(slots, 0), np.asarray(iou)


_positions = jax.jit(positions, static_argnums=1)


@functools.partial(jax.jit, static_argnums=2)
def _match(decomposition, segmentation, num_objects):
    found = decomposition.segmentation[:, -1].reshape(len(segmentation), -1)
    true = segmentation.astype(jnp.int32).reshape(found.shape)
    iou = metrics.intersection_over_union(true, found, num_objects, decomposition.masks.shape[2])
    slots = metrics.best_match(iou)
    return slots, metrics.matched(iou, slots)


def collect(evaluator: Evaluator, params: Params, num_videos: int, num_frames: int) -> Samples:
    """Decompose the first `num_frames` frames of held-out videos and sample their last frame.

    Args:
        evaluator: evaluator whose `eval.split` is read, at most all its videos.
        params: parameters of its model.
        num_videos: number of videos.
        num_frames: number of frames the model sees, at least 2. One more frame is needed for the velocity.

    Raises:
        ValueError: the videos are too short or have no labels, or there are several processes.
    """
    if jax.process_count() > 1:
        raise ValueError(f"probes run in one process, but there are {jax.process_count()}: start only one")
    split, num_objects = evaluator.settings.split, evaluator.source.num_objects
    longest = evaluator.source.frames_of(split)
    if not 2 <= num_frames < longest:
        raise ValueError(
            f"config.probe.num_frames is {num_frames}, expected 2 to {longest - 1}: the velocity in the last frame is "
            "measured between its neighbours"
        )
    parts: list[tuple[np.ndarray, ...]] = []
    total = 0
    for batch, index in evaluator._batches(split, num_frames + 1, num_videos):
        if "segmentation" not in batch:
            raise ValueError("probes need labels, and these videos have none: change config.data.dataset")
        decomposition, state = evaluator.observe(params, batch["video"][:, :num_frames], index)
        labels = batch["segmentation"][:, -3:]
        factors, visible = object_factors(batch["video"][:, -2], labels, num_objects)
        slots, iou = match_slots(decomposition, labels[:, 1], num_objects)
        visible &= batch["valid"][:, None]
        total += int(visible.sum())
        video, label = np.nonzero(visible & (iou >= MIN_IOU))
        codes = [np.asarray(code)[video, slots[video, label]] for code in _codes(evaluator.model, decomposition, state)]
        parts.append((*codes, factors[video, label], index[video]))
    *codes, factors, videos = (np.concatenate(arrays) for arrays in zip(*parts))
    return Samples(
        codes[0], codes[1] if len(codes) > 1 else None, factors, videos, COMPONENTS, total, frame=num_frames - 1
    )


def _codes(model: Any, decomposition: Decomposition, state: Any) -> list[jax.Array]:
    """Return every slot's latents in the last frame and, if the model has one, the temporal state after it."""
    posterior = decomposition.posterior[:, -1]
    latents = posterior if isinstance(model, RNEM) else jnp.split(posterior, 2, axis=-1)[0]
    temporal = state.temporal.h if hasattr(state, "temporal") else jnp.zeros(())
    return [latents, temporal] if temporal.any() else [latents]  # IODINE's temporal state stays zero
