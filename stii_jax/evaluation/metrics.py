"""Metrics of a decomposition: adjusted Rand index, squared error, matched intersection over union, identity switches.

Every metric gives one number per video and is written in plain jnp, so it runs inside `jit`. Segmentations are hard: a
pixel belongs to the slot with the largest mask, or with the largest responsibility if the decomposition has any.
Published conventions differ, hence the names:

    ari, f_ari              clustered per frame, then averaged over frames, as in the paper's tables (section 4)
    video_ari, video_f_ari  clustered over the whole clip, so a slot must keep its object, as in SAVi
    fg_miou, video_fg_miou  objects matched to slots in each frame, or once for the clip
    identity_switches       number of times that an object changes its slot, in the whole clip
    missed_frames, split_frames, merged_frames
                            share of the frames with an object in the background's slot, in two slots, or in another's

The `f_` metrics ignore the pixels whose true label is 0. `ari - video_ari` measures how much slots swap objects;
`identity_switches` counts the swaps, as in tracking. The scores of motion are in `velocities.py`.

Degenerate cases. Two partitions that trivially agree score 1, as in scikit-learn. A frame without foreground has no
foreground score: it is excluded from the mean over frames. A video of only such frames scores NaN, which `summarize`
excludes from the mean and the count. (The paper's code counts such a frame as a perfect 1.) A true label above
`num_objects` makes the label metrics of that video NaN, including `ari`, instead of dropping those pixels.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer
from optax.assignment import hungarian_algorithm

from stii_jax.types import Batch, Decomposition

Over = Literal["frame", "video"]
"""The unit of clustering or matching: each frame on its own, or the whole clip."""

TRACKED_IOU = 0.1
"""Minimum IoU at which an object counts as found in its slot. Trackers use 0.5. But a slot that follows its object may
also hold much background, if ARI is far below F-ARI. It would then count as having lost the object. Without a
threshold, one stray pixel of a lost object would be a switch."""

SPLIT_SHARE = 0.25
"""Share of an object's pixels that two slots must each hold for the object to count as split."""

Fault = Literal["missed", "split", "merged"]
"""A way in which a frame's objects and slots may fail to correspond."""


def contingency_table(
    true: Integer[Array, "*batch N"],
    pred: Integer[Array, "*batch N"],
    num_true: int,
    num_pred: int,
    weights: Bool[Array, "*batch N"],
) -> Float[Array, "*batch {num_true} {num_pred}"]:
    """The number of pixels with each pair of labels, exact up to 2^24. Labels out of range are not counted."""
    # A product of one-hot matrices, not a scatter: with so few bins, atomic adds are slow on an accelerator.
    true_one_hot = jax.nn.one_hot(true, num_true) * weights[..., None]
    return jnp.einsum("...nl,...nk->...lk", true_one_hot, jax.nn.one_hot(pred, num_pred))


def adjusted_rand_index(
    true: Integer[Array, "*batch N"],
    pred: Integer[Array, "*batch N"],
    num_true: int,
    num_pred: int,
    weights: Bool[Array, "*batch N"],
) -> Float[Array, "*batch"]:
    """The agreement of two labellings up to renaming: 1 is perfect, 0 is chance, and worse reaches down to -0.5.

    Args:
      true: labels in 0..num_true-1.
      pred: labels in 0..num_pred-1.
      num_true: number of possible true labels; labels that do not occur have no effect.
      num_pred: number of possible predicted labels.
      weights: the pixels that count. With none, or if both labellings have one cluster, the index is 1.
    """
    table = contingency_table(true, pred, num_true, num_pred, weights)
    of_true, of_pred = table.sum(-1, keepdims=True), table.sum(-2, keepdims=True)
    total = of_true.sum(-2, keepdims=True)

    # Count ordered pairs of pixels by the labellings that join them. The textbook formula subtracts sums near N^2,
    # which float32 cannot hold. Here only exact counts are subtracted, and sums have no negative term.
    def pairs(partners: Float[Array, "*batch L K"]) -> Float[Array, "*batch"]:
        return (table * partners).sum((-2, -1))

    joined_by_both = pairs(table - 1)
    joined_by_true, joined_by_pred = pairs(of_true - table), pairs(of_pred - table)
    joined_by_none = pairs(total - of_true - of_pred + table)

    numerator = 2 * (joined_by_both * joined_by_none - joined_by_true * joined_by_pred)
    denominator = (joined_by_both + joined_by_true) * (joined_by_true + joined_by_none)
    denominator += (joined_by_both + joined_by_pred) * (joined_by_pred + joined_by_none)
    return jnp.where(denominator > 0, numerator / jnp.where(denominator > 0, denominator, 1), 1.0)


def intersection_over_union(
    true: Integer[Array, "*batch N"], pred: Integer[Array, "*batch N"], num_objects: int, num_slots: int
) -> Float[Array, "*batch {num_objects} {num_slots}"]:
    """The IoU of every foreground object (label 1 and up) with every slot; 0 where neither has a pixel."""
    table = contingency_table(true, pred, num_objects + 1, num_slots, jnp.ones(true.shape, bool))
    union = table.sum(-1, keepdims=True) + table.sum(-2, keepdims=True) - table
    return (table / jnp.maximum(union, 1))[..., 1:, :]


def best_match(scores: Float[Array, "*batch L K"]) -> Integer[Array, "*batch L"]:
    """The column of each row in the one-to-one matching with the largest sum of `scores`; -1 for rows without one.

    A row has none only if there are more rows than columns.
    """

    def match(matrix: Float[Array, "L K"]) -> Integer[Array, " L"]:
        rows, columns = hungarian_algorithm(-matrix)
        return jnp.full(matrix.shape[0], -1, columns.dtype).at[rows].set(columns)

    flat = scores.reshape(-1, *scores.shape[-2:])
    return jax.vmap(match)(flat).reshape(scores.shape[:-1])


def matched(scores: Float[Array, "*batch L K"], columns: Integer[Array, "*batch L"]) -> Float[Array, "*batch L"]:
    """The score of each row with its column from `best_match`; 0 for a row without one."""
    picked = jnp.take_along_axis(scores, jnp.maximum(columns, 0)[..., None], axis=-1)[..., 0]
    return jnp.where(columns >= 0, picked, 0)


def mse(decomposition: Decomposition, batch: Batch, num_objects: int) -> Float[Array, " B"]:
    """The mean squared error of the reconstruction per pixel and channel, with colours in [0, 1]."""
    del num_objects  # part of the common signature of all metrics
    video = batch["video"].astype(jnp.float32) / 255
    return jnp.square(decomposition.reconstruction - video).mean(axis=(1, 2, 3, 4))


def plain_mse(batch: Batch) -> Float[Array, " B"]:
    """The mean squared error of each frame's mean colour. The relative error is `mse` divided by this."""
    video = batch["video"].astype(jnp.float32) / 255
    return video.var(axis=(2, 3)).mean(axis=(1, 2))


def slot_shares(decomposition: Decomposition) -> Float[Array, "B K"]:
    """The fraction of the clip's pixels that each slot wins, in descending order, since slots have no order."""
    K = decomposition.masks.shape[2]
    counts = jax.nn.one_hot(decomposition.segmentation, K).mean(axis=(1, 2, 3))
    return -jnp.sort(-counts, axis=-1)


def segmentation_ari(
    decomposition: Decomposition, batch: Batch, num_objects: int, *, over: Over, foreground: bool
) -> Float[Array, " B"]:
    """The adjusted Rand index of the predicted segmentation, averaged over the frames with a counted pixel."""
    true, pred = _label_groups(decomposition, batch, over)
    counted = true > 0 if foreground else jnp.ones(true.shape, bool)
    num_slots = decomposition.masks.shape[2]
    scores = adjusted_rand_index(true, pred, num_objects + 1, num_slots, counted)
    return _mean_over_groups(scores, counted.any(-1), true, num_objects)


def segmentation_miou(
    decomposition: Decomposition, batch: Batch, num_objects: int, *, over: Over
) -> Float[Array, " B"]:
    """The mean IoU of true objects with their slots under the best matching, in [0, 1].

    The mean is over the objects that occur in the frame (or clip), then over the frames with any object. All slots take
    part, so the background's slot is simply one that matches no object.
    """
    true, pred = _label_groups(decomposition, batch, over)
    iou = intersection_over_union(true, pred, num_objects, decomposition.masks.shape[2])
    num_present = (true[..., None, :] == jnp.arange(1, num_objects + 1)[:, None]).any(-1).sum(-1)
    # An absent object has IoU 0 with every slot, so it never takes a slot that a present object wants.
    scores = matched(iou, best_match(iou)).sum(-1) / jnp.maximum(num_present, 1)
    return _mean_over_groups(scores, num_present > 0, true, num_objects)


def identity_switches(decomposition: Decomposition, batch: Batch, num_objects: int) -> Float[Array, " B"]:
    """The number of times that an object's slot differs from its last slot, over all objects and frames of a video.

    Objects and slots are matched in every frame, as for `fg_miou`. A matched object counts as found from an IoU of
    `TRACKED_IOU`. Frames in which it is hidden or lost are skipped: it is a switch if the object is found in another
    slot after them. An object that is never found is not a switch, so read this score together with `video_fg_miou`. If
    the background's slot takes over an object, it is lost if small, and switched if its IoU with that slot suffices. If
    two matchings of a frame are equally good, the order of the slots decides.
    """
    true, pred = _label_groups(decomposition, batch, "frame")
    # Written as in segmentation_miou, so that the compiler merges the two matchings.
    iou = intersection_over_union(true, pred, num_objects, decomposition.masks.shape[2])
    slots = best_match(iou)
    found = matched(iou, slots) >= TRACKED_IOU

    B, T, _ = found.shape
    last_found = jax.lax.cummax(jnp.where(found, jnp.arange(T)[:, None], -1), axis=1)
    before = last_found[:, :-1]  # up to the previous frame, for every frame but the first
    last_slots = jnp.take_along_axis(slots, jnp.maximum(before, 0), axis=1)
    switches = found[:, 1:] & (before >= 0) & (slots[:, 1:] != last_slots)

    has_foreground = (true > 0).any((-2, -1))
    count = switches.sum((1, 2)).astype(jnp.float32)
    return _mean_over_groups(count[:, None], has_foreground[:, None], true.reshape(B, 1, -1), num_objects)


def faulty_frames(decomposition: Decomposition, batch: Batch, num_objects: int, *, fault: Fault) -> Float[Array, " B"]:
    """The share of frames with at least one object that is missed, split or merged, among the frames with an object.

    The background's slot is the one with the most background pixels in the frame, or every one with as many. An object
    is missed if such a slot holds more than half of its pixels. It is split if two other slots each hold at least
    `SPLIT_SHARE` of its pixels. Objects are merged if one other slot holds more than half of the pixels of each.
    """
    true, pred = _label_groups(decomposition, batch, "frame")
    num_slots = decomposition.masks.shape[2]
    table = contingency_table(true, pred, num_objects + 1, num_slots, jnp.ones(true.shape, bool))
    background, objects = table[..., :1, :], table[..., 1:, :]
    is_background = (background > 0) & (background == background.max(-1, keepdims=True))
    num_pixels = objects.sum(-1, keepdims=True)
    mostly = objects > num_pixels / 2
    match fault:
        case "missed":
            faulty = (mostly & is_background).any((-2, -1))
        case "split":
            large = (objects >= SPLIT_SHARE * num_pixels) & (num_pixels > 0) & ~is_background
            faulty = (large.sum(-1) > 1).any(-1)
        case "merged":
            faulty = ((mostly & ~is_background).sum(-2) > 1).any(-1)
    return _mean_over_groups(faulty.astype(jnp.float32), (num_pixels > 0).any((-2, -1)), true, num_objects)


def _label_groups(
    decomposition: Decomposition, batch: Batch, over: Over
) -> tuple[Integer[Array, "B G N"], Integer[Array, "B G N"]]:
    """The true and predicted labels, with the pixels that are scored together on the last axis."""
    B, T, *_ = batch["segmentation"].shape
    num_groups = T if over == "frame" else 1
    true = batch["segmentation"].astype(jnp.int32).reshape(B, num_groups, -1)
    return true, decomposition.segmentation.reshape(B, num_groups, -1)


def _mean_over_groups(
    scores: Float[Array, "B G"], valid: Bool[Array, "B G"], true: Integer[Array, "B G N"], num_objects: int
) -> Float[Array, " B"]:
    """The mean over the valid groups; NaN if there is none, or if a label is out of range."""
    mean = jnp.where(valid, scores, 0).sum(-1) / jnp.maximum(valid.sum(-1), 1)
    defined = valid.any(-1) & (true.max((-2, -1)) <= num_objects)
    return jnp.where(defined, mean, jnp.nan)


Metric = Callable[[Decomposition, Batch, int], Float[Array, " B"]]
"""(decomposition, batch, num_objects) -> one value per video. `num_objects` is the largest true label."""

METRICS: dict[str, Metric] = {
    "ari": partial(segmentation_ari, over="frame", foreground=False),
    "f_ari": partial(segmentation_ari, over="frame", foreground=True),
    "video_ari": partial(segmentation_ari, over="video", foreground=False),
    "video_f_ari": partial(segmentation_ari, over="video", foreground=True),
    "mse": mse,
    "fg_miou": partial(segmentation_miou, over="frame"),
    "video_fg_miou": partial(segmentation_miou, over="video"),
    "identity_switches": identity_switches,
    "missed_frames": partial(faulty_frames, fault="missed"),
    "split_frames": partial(faulty_frames, fault="split"),
    "merged_frames": partial(faulty_frames, fault="merged"),
}
UNLABELLED_METRICS = ("mse",)
"""The metrics that need no segmentation."""
MASK_METRICS = ("ari", "f_ari", "video_ari", "video_f_ari")
"""The metrics that are also computed from the masks when responsibilities decide the segmentation."""


def evaluate_video(decomposition: Decomposition, batch: Batch, num_objects: int) -> dict[str, Float[Array, " B"]]:
    """Compute every metric of every video; only `UNLABELLED_METRICS` for a batch without `segmentation`.

    If responsibilities decide the segmentation, `MASK_METRICS` of the masks are added as `mask_ari` and so on.
    """
    if "segmentation" not in batch:
        return {name: METRICS[name](decomposition, batch, num_objects) for name in UNLABELLED_METRICS}
    scores = {name: metric(decomposition, batch, num_objects) for name, metric in METRICS.items()}
    if decomposition.responsibilities is None:
        return scores
    of_masks = decomposition._replace(responsibilities=None)
    return scores | {f"mask_{name}": METRICS[name](of_masks, batch, num_objects) for name in MASK_METRICS}


def summarize(values: Mapping[str, np.ndarray], valid: np.ndarray) -> dict[str, float | int]:
    """Reduce per-video values on the host to `name`, `name_stderr` and `name_count`.

    Args:
      values: per-video values of every metric, each of shape [N].
      valid: [N] bool, False for the padding of the last batch.

    Returns:
      Mean, standard error of the mean (NaN with fewer than two videos) and number of averaged videos. NaN values, such
      as the F-ARI of a video without foreground, are excluded. The mean of no values is NaN.
    """
    summary: dict[str, float | int] = {}
    for name, per_video in values.items():
        kept = np.asarray(per_video, np.float64)[np.asarray(valid, bool)]
        kept = kept[~np.isnan(kept)]
        count = len(kept)
        summary[name] = float(kept.mean()) if count else float("nan")
        summary[f"{name}_stderr"] = float(kept.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
        summary[f"{name}_count"] = count
    return summary
