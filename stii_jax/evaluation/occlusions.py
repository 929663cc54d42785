"""Identity through occlusion: does an object that was hidden return in the slot that it had before?"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Integer

from stii_jax.evaluation.metrics import TRACKED_IOU, best_match, intersection_over_union, matched
from stii_jax.types import Batch, Decomposition

KEY = "occlusions"
"""The key in `results.json`."""


class Sightings(NamedTuple):
    """The slot of every object in every frame."""

    visible: Bool[Array, "B T L"]
    """True where the object has a pixel."""
    found: Bool[Array, "B T L"]
    """True where its slot follows it; see `TRACKED_IOU`."""
    slots: Integer[Array, "B T L"]
    """The slot that is matched to it in this frame, as for `fg_miou`; -1 without one."""


def sightings(decomposition: Decomposition, batch: Batch, num_objects: int) -> Sightings:
    """Match objects to slots in every frame. All labels above `num_objects` are ignored."""
    true = batch["segmentation"].astype(jnp.int32)
    true = true.reshape(*true.shape[:2], -1)
    pred = decomposition.segmentation.reshape(true.shape)
    iou = intersection_over_union(true, pred, num_objects, decomposition.masks.shape[2])
    slots = best_match(iou)
    visible = (true[..., None, :] == jnp.arange(1, num_objects + 1)[:, None]).any(-1)
    return Sightings(visible, visible & (matched(iou, slots) >= TRACKED_IOU), slots)


class Summary:
    """Occlusions in batches of videos, counted by their length.

    An occlusion is a run of frames in which an object has no pixel, between two frames in which it is visible. It
    counts if a slot had found the object before it. Afterwards, the object is kept if the next slot that finds it is
    the last one that had found it, before it is hidden again or the video ends. It is swapped if that is another slot,
    and lost if none finds it. Objects that leave the frame and return count as hidden, too.
    """

    def __init__(self) -> None:
        self._counts: defaultdict[int, np.ndarray] = defaultdict(lambda: np.zeros(3, int))

    def add(self, seen: Sightings, valid: Bool[np.ndarray, " B"]) -> None:
        """Count the occlusions of a batch; `valid` is False for the padding of the last batch."""
        visible, found, slots = (np.asarray(values)[np.asarray(valid, bool)] for values in seen)
        for video, label in np.ndindex(visible.shape[0], visible.shape[2]):
            self._add_object(visible[video, :, label], found[video, :, label], slots[video, :, label])

    def _add_object(self, visible: np.ndarray, found: np.ndarray, slots: np.ndarray) -> None:
        shown = np.flatnonzero(visible)
        returns = shown[1:][np.diff(shown) > 1]  # the first frames after an occlusion
        for number, frame in enumerate(returns):
            hidden = int(frame - shown[shown < frame][-1] - 1)
            before = np.flatnonzero(found[:frame])
            until = returns[number + 1] if number + 1 < len(returns) else len(visible)
            after = frame + np.flatnonzero(found[frame:until])
            if len(before):
                outcome = 2 if not len(after) else int(slots[after[0]] != slots[before[-1]])
                self._counts[hidden][outcome] += 1

    def rows(self) -> list[dict[str, Any]]:
        """Return one entry for each length of occlusion in frames: the number of occlusions and their outcomes."""
        names = ("kept", "swapped", "lost")
        rows = ((hidden, self._counts[hidden].tolist()) for hidden in sorted(self._counts))
        return [{"hidden": hidden, "count": sum(found), **dict(zip(names, found))} for hidden, found in rows]


def describe(rows: list[Mapping[str, Any]]) -> str:
    """Describe `Summary.rows` in one line; "" without an occlusion."""
    if not (total := sum(row["count"] for row in rows)):
        return ""
    kept, lost = (sum(row[name] for row in rows) for name in ("kept", "lost"))
    shortest, longest = rows[0]["hidden"], rows[-1]["hidden"]
    frames = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
    return (
        f"objects were hidden {total} times, for {frames} frames: {kept / total:.0%} returned in their slot, "
        f"{lost / total:.0%} were not found again"
    )
