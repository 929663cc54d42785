"""Latent traversals: each dimension of a slot's latents is changed alone, and the frame is decoded again.

The slot's latents are its posterior means. A dimension is shifted in units of its standard deviation over objects,
which are all slots but the background (the slot with most pixels). Everything else stays fixed: the temporal state of
the frame, and the other slots' latents. Masks compete for pixels, so the other slots adapt where the slot grows or
disappears.

Two points matter for reading the pictures. In STII the decoder also sees the temporal state, which holds much of the
information about the object; latents add the rest. Correlated dimensions are changed one at a time, so far from the
middle the decoder may receive inputs unlike any in training.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt8

from stii_jax.evaluation.evaluator import Evaluator
from stii_jax.models.stii import STII
from stii_jax.models.video_model import EVALUATION_SEED, VideoModel, example_keys
from stii_jax.types import Params
from stii_jax.visualization.visualize import OUTSIDE, Color, rgb, segmentation_colors

OFFSETS = tuple(np.linspace(-2, 2, 13).tolist())
"""Shifts of a dimension, in standard deviations; their number is odd, so that one of them is 0."""


class ObservedFrame(NamedTuple):
    """One frame of several videos, with the masks and latents that the model inferred for it."""

    frame: Float[Array, "B H W C"]
    masks: Float[Array, "B K H W"]
    posterior: Float[Array, "B K Z2"]
    prior: Float[Array, "B K Z2"]
    h: Float[Array, "B K D"]
    """The temporal state before the frame."""
    time: int
    """Number of the frame in its video."""
    present: Bool[Array, "B K"] | None = None
    """False for absent slots; None if all are present."""


class LatentStatistics(NamedTuple):
    """Statistics of every latent dimension over objects."""

    scale: Float[np.ndarray, " Z"]
    """Standard deviation of posterior means."""
    kl: Float[np.ndarray, " Z"]
    """Mean KL divergence of posterior from prior, in nats."""
    num_objects: int


class Traversal(NamedTuple):
    """The traversal of one slot in one frame: N dimensions, one per row, with V values each."""

    latents: Float[np.ndarray, "N V K Z"]
    frames: UInt8[np.ndarray, "N V H W 3"]
    """Reconstructions of the whole frame."""
    alone: UInt8[np.ndarray, "N V H W 3"]
    """The slot's part of the frame; grey elsewhere."""
    seen: UInt8[np.ndarray, "H W 3"]
    """The input frame."""
    time: int
    """Number of the frame in the video."""
    slot: int
    dimensions: tuple[int, ...]
    kl: tuple[float, ...]
    """KL of the dimensions; see `LatentStatistics`."""
    offsets: tuple[float, ...]
    """Offsets from the posterior mean, in standard deviations over objects."""
    color: Color
    """Colour of the slot, as in other pictures."""

    @property
    def middle(self) -> int:
        """Index of the posterior mean among the values."""
        return self.offsets.index(0.0)


def check_traversable(model: VideoModel) -> STII:
    """Return the model; raises `ValueError` for one that does not decode latents with a temporal state."""
    if not isinstance(model, STII):
        raise ValueError(
            f"{type(model).__name__} decodes no latents with a temporal state, which a traversal needs: expected a run "
            "with config.system 'stii', 'iodine' or 'seq_iodine'"
        )
    return model


def observe_frame(
    model: STII, params: Params, video: Float[Array, "B T H W C"], keys: Key[Array, " B"], frame: int
) -> ObservedFrame:
    """Decompose videos up to frame `frame`; later frames are not used.

    Raises:
        ValueError: there is no such frame.
    """
    if not 0 <= frame < video.shape[1]:
        raise ValueError(f"frame is {frame}, expected 0 to {video.shape[1] - 1}, the last frame of the videos")

    @jax.jit
    def observe(params, video, keys):
        before = model.initial_state(params, video.shape[0])
        if frame:
            _, before = model.decompose(params, video[:, :frame], keys)
        now, after = model.decompose(params, video[:, frame:], keys, before, frame)
        h = before.temporal.h
        return now.masks[:, 0], now.posterior[:, 0], model.elbo.prior_parameters(params, h), h, after.present

    masks, posterior, prior, h, present = observe(params, video[:, : frame + 1], keys)
    return ObservedFrame(video[:, frame], masks, posterior, prior, h, frame, present)


def latent_statistics(observed: ObservedFrame) -> LatentStatistics:
    """Compute the statistics of the latents over the objects of several videos.

    Raises:
        ValueError: fewer than two objects, which have no standard deviation.
    """
    areas = _areas(observed)
    is_object = (areas > 0) & (np.arange(areas.shape[1]) != areas.argmax(1)[:, None])
    if (count := int(is_object.sum())) < 2:
        raise ValueError(f"{count} slots show an object, expected at least 2 to measure their spread: give more videos")
    mean, log_scale = np.split(np.asarray(observed.posterior)[is_object], 2, axis=-1)
    prior_mean, prior_log_scale = np.split(np.asarray(observed.prior)[is_object], 2, axis=-1)
    ratio, distance = np.exp(2 * (log_scale - prior_log_scale)), (mean - prior_mean) * np.exp(-prior_log_scale)
    kl = 0.5 * (ratio + np.square(distance) - 1) + prior_log_scale - log_scale
    return LatentStatistics(mean.std(axis=0), kl.mean(axis=0), count)


def largest_object(observed: ObservedFrame, index: int) -> int:
    """Return the slot with most pixels in video `index`, except for the background."""
    return int(np.argsort(-_areas(observed)[index], kind="stable")[1])


def traverse(
    model: STII,
    params: Params,
    observed: ObservedFrame,
    statistics: LatentStatistics,
    *,
    index: int = 0,
    slot: int | None = None,
    num_dims: int = 8,
    offsets: tuple[float, ...] = OFFSETS,
) -> Traversal:
    """Traverse the `num_dims` dimensions of a slot with the highest KL divergence, or all if there are fewer.

    Args:
        model: the model that observed the frame.
        params: the model's parameters.
        observed: a frame from `observe_frame`.
        statistics: statistics from `latent_statistics`, for the same frame or for one of more videos.
        index: index of the video in the batch.
        slot: number of the slot; None selects that of the largest object.
        num_dims: number of dimensions, which are the rows of the pictures.
        offsets: offsets in standard deviations over objects, ascending; one of them is 0.

    Raises:
        ValueError: there is no such slot, or no 0 among the offsets.
    """
    num_slots = observed.masks.shape[1]
    slot = largest_object(observed, index) if slot is None else slot
    if not 0 <= slot < num_slots:
        raise ValueError(f"slot is {slot}, expected 0 to {num_slots - 1}, as the model has {num_slots} slots")
    if 0.0 not in offsets:
        raise ValueError(f"offsets are {offsets}, expected 0 among them, for the unchanged picture")
    dimensions = np.argsort(-statistics.kl, kind="stable")[:num_dims]
    mean = np.split(np.asarray(observed.posterior[index]), 2, axis=-1)[0]
    latents = np.tile(mean, (len(dimensions), len(offsets), 1, 1))
    for row, dimension in enumerate(dimensions):
        latents[row, :, slot, dimension] += np.asarray(offsets, np.float32) * statistics.scale[dimension]

    present = None if observed.present is None else jnp.tile(observed.present[index], (len(offsets), 1))

    @jax.jit
    def decode(params, latents, h):
        decoded = model.elbo.decode(params, latents, jnp.broadcast_to(h, (len(offsets), *h.shape)), present)
        parts = decoded.masks[..., None] * decoded.means
        return parts.sum(1), parts[:, slot] + (1 - decoded.masks[:, slot, ..., None]) * OUTSIDE / 255

    rows = [decode(params, of_row, observed.h[index]) for of_row in latents]
    frames, alone = (to_rgb(np.stack(images)) for images in zip(*rows))
    return Traversal(
        latents=latents,
        frames=frames,
        alone=alone,
        seen=to_rgb(np.asarray(observed.frame[index])),
        time=observed.time,
        slot=slot,
        dimensions=tuple(dimensions.tolist()),
        kl=tuple(statistics.kl[dimensions].tolist()),
        offsets=offsets,
        color=tuple(segmentation_colors(num_slots)[slot].tolist()),
    )


def traverse_held_out(
    evaluator: Evaluator,
    params: Params,
    num_pictures: int,
    *,
    num_frames: int = 10,
    num_dims: int = 8,
    reach: float = 2.0,
) -> list[Traversal]:
    """Traverse the largest objects of the first held-out videos, in the last of `num_frames` frames.

    The spread of latents is measured over one batch of `eval.batch_size` videos, of which `num_pictures` are drawn.

    Raises:
        ValueError: the model cannot be traversed (see `check_traversable`), or the videos have fewer frames.
    """
    observed = observe_held_out(evaluator, params, num_frames)
    statistics, model = latent_statistics(observed), check_traversable(evaluator.model)
    offsets = tuple(np.linspace(-reach, reach, len(OFFSETS)).tolist())
    return [
        traverse(model, params, observed, statistics, index=i, num_dims=num_dims, offsets=offsets)
        for i in range(min(num_pictures, len(observed.frame)))
    ]


def observe_held_out(evaluator: Evaluator, params: Params, num_frames: int) -> ObservedFrame:
    """Observe frame number `num_frames`, counted from 1, in the first batch of held-out videos.

    Raises:
        ValueError: the model cannot be traversed (see `check_traversable`), or the videos have fewer frames.
    """
    model = check_traversable(evaluator.model)
    split, size = evaluator.settings.split, evaluator.settings.batch_size
    if not 1 <= num_frames <= (longest := evaluator.source.frames_of(split)):
        raise ValueError(f"config.probe.num_frames is {num_frames}, expected 1 to {longest}, the frames of the videos")
    batch, index = next(evaluator._batches(split, num_frames, size))
    valid = batch["valid"]
    video = jnp.asarray(batch["video"][valid], jnp.float32) / 255
    keys = example_keys(jax.random.key(EVALUATION_SEED), jnp.asarray(index[valid]))
    return observe_frame(model, params, video, keys, num_frames - 1)


def _areas(observed: ObservedFrame) -> np.ndarray:
    """Count the pixels of each slot in each video."""
    masks = np.asarray(observed.masks)
    slots = masks.argmax(axis=1)
    return np.stack([(slots == k).sum((1, 2)) for k in range(masks.shape[1])], axis=1)


def to_rgb(values: np.ndarray) -> np.ndarray:
    """Convert colours from [0, 1] to bytes in three channels."""
    return rgb((np.clip(values, 0, 1) * 255).round().astype(np.uint8))
