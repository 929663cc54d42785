"""Regions of slots: convert mask probabilities at the model's size to labels and measures in the input's pixels."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer, UInt8

Box = tuple[int, int, int, int]
"""Left, upper, right and lower edges in pixels."""

OUTSIDE = 255
"""Label of pixels that the model does not see; no slot has this number (`config.MAX_SLOTS`)."""
MAX_SIDE = 1920
"""Maximum side of a label image, in pixels; labels of larger frames are reduced by an integer factor."""


class Region(NamedTuple):
    """A slot's region in one frame, measured in pixels of the input video.

    The frame spans from 0 to its width; the centre of its first pixel is at 0.5.
    """

    label: int
    x: float
    """Horizontal position of the centroid."""
    y: float
    area: float
    """Number of pixels."""
    left: float
    top: float
    right: float
    bottom: float
    confidence: float
    """Mean mask probability over the region, from above 1/K to 1."""


class Labels(NamedTuple):
    """The segmentation of one frame at the resolution of a `Canvas`."""

    slots: UInt8[np.ndarray, "H W"]
    """The most likely slot of every pixel; `OUTSIDE` where the model sees nothing."""
    certainty: Float[np.ndarray, "H W"]
    """The mask probability of that slot, 0 where the model sees nothing."""


class Canvas:
    """Places masks in the full frame of the input.

    Mask probabilities are interpolated linearly between the centres of the model's pixels. Each pixel of the frame
    then takes the most likely slot, so boundaries are smooth between the model's pixels.

    Args:
        size: height and width of the masks.
        box: the part of the frame that the masks cover.
        width: width of the frame, in pixels.
        height: height of the frame, in pixels.
    """

    def __init__(self, size: tuple[int, int], box: Box, width: int, height: int):
        self.scale = -(-max(width, height) // MAX_SIDE)
        """Pixels of the frame, in each direction, per pixel of the labels: 1 for frames up to `MAX_SIDE`."""
        self._frame_size = (width, height)
        self.shape = (-(-height // self.scale), -(-width // self.scale))
        """Height and width of the labels."""
        self._rows, self._from_rows = _interpolation(size[0], box[1::2], height, self.scale)
        self._columns, self._from_columns = _interpolation(size[1], box[::2], width, self.scale)

    @property
    def place(self) -> tuple[slice, slice]:
        """The rows and columns of the labels that the masks cover."""
        return self._rows, self._columns

    def segment(self, masks: Float[np.ndarray, "K h w"]) -> Labels:
        """Return the segmentation of one frame from the slots' mask probabilities."""
        slots = np.full(self.shape, OUTSIDE, np.uint8)
        certainty = np.zeros(self.shape, np.float32)
        self._fill(masks, slots[self.place], certainty[self.place])
        return Labels(slots, certainty)

    def segment_inside(self, masks: Float[np.ndarray, "K h w"]) -> Labels:
        """Return the part of `segment` at `place`."""
        shape = self._rows.stop - self._rows.start, self._columns.stop - self._columns.start
        labels = Labels(np.zeros(shape, np.uint8), np.zeros(shape, np.float32))
        self._fill(masks, *labels)
        return labels

    def _fill(
        self, masks: Float[np.ndarray, "K h w"], inside: UInt8[np.ndarray, "H W"], best: Float[np.ndarray, "H W"]
    ) -> None:
        """Set the most likely slots and their probabilities, which must be 0 initially."""
        for slot, mask in enumerate(masks.astype(np.float32)):  # one by one: K full frames would not fit the cache
            (rows, from_rows), (columns, from_columns) = self._from_rows.of(mask), self._from_columns.of(mask.T)
            probability = from_rows.mix(from_columns.mix(mask.T).T)
            np.copyto(inside[rows, columns], slot, where=probability > best[rows, columns])
            np.maximum(best[rows, columns], probability, out=best[rows, columns])

    def measure(self, labels: Labels) -> dict[int, Region]:
        """Return the regions of the slots that have pixels, by slot; see `regions`."""
        rows, columns = self._rows, self._columns
        left, top, right, bottom = (edge * self.scale for edge in (columns.start, rows.start, columns.stop, rows.stop))
        found = regions(labels.slots[rows, columns], (left, top, right, bottom), labels.certainty[rows, columns])
        width, height = self._frame_size
        return {r.label: r._replace(right=min(r.right, width), bottom=min(r.bottom, height)) for r in found}


def regions(
    labels: Integer[np.ndarray, "H W"], box: Box, certainty: Float[np.ndarray, "H W"] | None = None
) -> Iterator[Region]:
    """Measure the region of every label that has pixels.

    Args:
        labels: non-negative labels.
        box: the part of the frame that the labels cover.
        certainty: the pixels' weights in the centroid, above 0 in every region; None: equal weights, confidence 1.
    """
    height, width = labels.shape
    scale = np.array([(box[2] - box[0]) / width, (box[3] - box[1]) / height])
    counts = np.bincount(labels.ravel())
    for label in np.flatnonzero(counts):
        inside = labels == label
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        weights = inside[top:bottom, left:right].astype(np.float32)
        if certainty is not None:
            weights *= certainty[top:bottom, left:right]
        total = weights.sum(dtype=np.float64)
        x = weights.sum(axis=0, dtype=np.float64) @ (np.arange(left, right) + 0.5) / total
        y = weights.sum(axis=1, dtype=np.float64) @ (np.arange(top, bottom) + 0.5) / total
        points = np.array([[x, y], [left, top], [right, bottom]]) * scale + box[:2]
        area = counts[label] * scale[0] * scale[1]
        (x, y), (left, top), (right, bottom) = points.tolist()
        yield Region(int(label), x, y, float(area), left, top, right, bottom, float(total / counts[label]))


class _Interpolation(NamedTuple):
    """Linear interpolation along one axis, from the pixels of a mask to those of a canvas.

    It gathers rows. A matrix product would be slower here, because its threads wait for those of the model.
    """

    before: Int[np.ndarray, " N"]
    after: Int[np.ndarray, " N"]
    share: Float[np.ndarray, "N 1"]
    """Weight of the pixel `after`."""

    def of(self, mask: Float[np.ndarray, "size L"]) -> tuple[slice, "_Interpolation"]:
        """Return the pixels of the canvas to which a mask's nonzero rows contribute, and their interpolation."""
        shown = np.any(mask, axis=1)
        places = np.flatnonzero(shown[self.before] | shown[self.after])
        part = slice(places[0], places[-1] + 1) if len(places) else slice(0)
        return part, _Interpolation(self.before[part], self.after[part], self.share[part])

    def mix(self, rows: Float[np.ndarray, "size L"]) -> Float[np.ndarray, "N L"]:
        """Interpolate linearly between rows."""
        mixed = rows[self.after] * self.share
        mixed += rows[self.before] * (1 - self.share)
        return mixed


def _interpolation(size: int, interval: tuple[int, ...], length: int, scale: int) -> tuple[slice, _Interpolation]:
    """Place a mask along one axis of a canvas.

    Args:
        size: pixels of the mask.
        interval: the part of the frame that the mask covers.
        length: length of the frame; the canvas may end in a pixel that is only partly in the frame.
        scale: pixels of the frame per pixel of the canvas.

    Returns:
        The pixels of the canvas whose centres lie in the interval, and their interpolation from the mask.
    """
    start, stop = interval
    first, last = (int(np.ceil(edge / scale - 0.5)) for edge in (start, stop))
    if stop == length:
        last = -(-length // scale)
    centers = (np.arange(first, last) + 0.5) * scale
    place = np.clip((centers - start) / (stop - start) * size - 0.5, 0, size - 1)
    before = np.floor(place).astype(int)
    share = (place - before).astype(np.float32)[:, None]
    return slice(first, last), _Interpolation(before, np.minimum(before + 1, size - 1), share)
