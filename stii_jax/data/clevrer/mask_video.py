"""Turn mask videos, in which every object has a colour, into labels.

Compression shifts colours a little and mixes them along edges, where a mixture may look like another object's colour.
So colours are learned from the flat parts of the clip, and pixels on an edge get one of the labels beside it.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8, UInt16

from stii_jax.data.errors import DataError

_FLAT = 8  # maximum difference between neighbours in a flat part, in any channel
_DISTANCE = 40.0  # colours closer than this in RGB are the same
_FEWEST = 50  # minimum number of flat pixels of a colour in the clip
_EDGE = 2  # pixels over which an edge is blurred, to either side
EXTRA = "colours of mask videos beyond the number of objects"
MISSING = "objects without a colour in their mask video"


class Segmented(NamedTuple):
    """The labels from a mask video."""

    labels: UInt8[np.ndarray, "T H W"]
    """Labels in order of the colours' frequency; 0 is the background, the most frequent one."""
    notes: dict[str, int]


def segment(frames: UInt8[np.ndarray, "T H W 3"], num_objects: int) -> Segmented:
    """Return the label images of a mask video. A colour has the same label throughout.

    Args:
        frames: frames of the clip.
        num_objects: number of objects in the scene; rarer colours are treated as noise.

    Raises:
        DataError: the video has only one colour.
    """
    bins = _bins(frames)
    colors, num_extra = _palette(bins[_flat(frames)], num_objects + 1)
    if len(colors) < 2:
        raise DataError("the mask video shows only one colour")
    distances = np.linalg.norm(_colors(np.arange(1 << 15, dtype=np.uint16))[None] - colors[:, None], axis=-1)
    labels = _mend_edges(distances.argmin(axis=0).astype(np.uint8)[bins], bins, distances)
    return Segmented(labels, {EXTRA: num_extra, MISSING: num_objects + 1 - len(colors)})


def _bins(frames: UInt8[np.ndarray, "*S 3"]) -> UInt16[np.ndarray, "*S"]:
    """Quantize colours to five bits per channel, packed in one number."""
    red, green, blue = (frames[..., channel].astype(np.uint16) >> 3 for channel in range(3))
    return red << 10 | green << 5 | blue


def _colors(bins: UInt16[np.ndarray, " N"]) -> np.ndarray:
    """Return the colours `N 3` at the centres of bins."""
    return np.stack([bins >> 10, bins >> 5 & 31, bins & 31], axis=-1) * 8.0 + 4.0


def _palette(bins: UInt16[np.ndarray, " N"], most: int) -> tuple[np.ndarray, int]:
    """Return the most frequent colours `C 3`, most frequent first, and the number of other colours."""
    counts = np.bincount(bins, minlength=1 << 15)
    frequent = np.flatnonzero(counts >= _FEWEST)
    candidates = _colors(frequent[np.argsort(-counts[frequent], kind="stable")].astype(np.uint16))
    chosen: list[np.ndarray] = []
    for color in candidates:
        if all(np.linalg.norm(color - other) > _DISTANCE for other in chosen):
            chosen.append(color)
    return np.array(chosen[:most]).reshape(-1, 3), max(0, len(chosen) - most)


def _flat(frames: UInt8[np.ndarray, "T H W 3"]) -> Bool[np.ndarray, "T H W"]:
    """True where a pixel is similar to those beside, above and below it."""
    flat = np.ones(frames.shape[:3], bool)
    for axis in (1, 2):
        smooth = np.abs(np.diff(frames.astype(np.int16), axis=axis)).max(axis=-1) <= _FLAT
        _and_beside(flat, smooth, axis)
    return flat


def _and_beside(target: np.ndarray, same: np.ndarray, axis: int) -> None:
    """Keep pixels of `target` where `same` holds on both sides; `same` refers to pairs of neighbours along `axis`."""
    before, after = (slice(None),) * axis + (slice(1, None),), (slice(None),) * axis + (slice(None, -1),)
    target[before] &= same
    target[after] &= same


def _mend_edges(
    labels: UInt8[np.ndarray, "T H W"], bins: UInt16[np.ndarray, "T H W"], distances: np.ndarray
) -> UInt8[np.ndarray, "T H W"]:
    """Relabel pixels near an edge: they get the label of the nearby area with the most similar colour."""
    inside = np.ones(labels.shape, bool)
    for axis in (1, 2):
        _and_beside(inside, np.diff(labels, axis=axis) == 0, axis)
    for _ in range(_EDGE - 1):
        inside = ~_grow(~inside)
    edge = ~inside
    best = np.full(int(edge.sum()), np.inf)
    mended = labels[edge]  # unchanged where no area is nearby
    for label in range(len(distances)):
        close = inside & (labels == label)
        for _ in range(_EDGE + 1):
            close = _grow(close)
        distance = np.where(close[edge], distances[label][bins[edge]], np.inf)
        mended[distance < best] = label
        best = np.minimum(best, distance)
    labels = labels.copy()
    labels[edge] = mended
    return labels


def _grow(area: Bool[np.ndarray, "T H W"]) -> Bool[np.ndarray, "T H W"]:
    grown = area.copy()
    grown[:, 1:] |= area[:, :-1]
    grown[:, :-1] |= area[:, 1:]
    grown[:, :, 1:] |= area[:, :, :-1]
    grown[:, :, :-1] |= area[:, :, 1:]
    return grown
