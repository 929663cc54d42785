"""Find objects in single frames without learning: OpenCV's foreground, and its connected components."""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

Grey = UInt8[np.ndarray, "H W"]
_HEAD, _SAMPLED = 100, 20
"""Number of first frames, and of samples among them, for Otsu's threshold."""


class Detected(NamedTuple):
    """The components of a frame."""

    labels: Int[np.ndarray, "H W"]
    """1 to N for the components, 0 elsewhere."""
    centroids: Float[np.ndarray, "N 2"]
    """Positions in pixels; the centre of the first pixel is at 0.5."""


class Setting(NamedTuple):
    """Settings of a detector."""

    min_area: int
    """Minimum number of pixels per object."""
    max_objects: int
    """Maximum number of components, of which the largest are kept."""
    opening: int
    """Side of the square for a morphological opening, which removes specks and thin bridges; 1: none."""
    sensitivity: float = 16.0
    """MOG2 only: squared Mahalanobis distance from which a pixel is foreground."""
    history: int = 500
    """MOG2 only: number of frames in the background model's memory."""


def mog2(frames: Iterable[Grey], setting: Setting) -> Iterator[Detected]:
    """Detect pixels that differ from a mixture model of the background."""
    model = cv2.createBackgroundSubtractorMOG2(setting.history, setting.sensitivity, detectShadows=False)
    for frame in frames:
        yield components(model.apply(frame) > 0, setting)


def threshold(frames: Iterable[Grey], setting: Setting) -> Iterator[Detected]:
    """Detect pixels on one side of Otsu's threshold of the first frames: the bright or the dark ones, if fewer."""
    rest = iter(frames)
    head = list(itertools.islice(rest, _HEAD))
    sample = np.concatenate(head[:: max(1, len(head) // _SAMPLED)])
    level, _ = cv2.threshold(sample, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    bright = bool((sample > level).mean() <= 0.5)
    for frame in itertools.chain(head, rest):
        yield components((frame > level) == bright, setting)


DETECTORS = {"mog2": mog2, "threshold": threshold}


def grey(frame: UInt8[np.ndarray, "H W 3"]) -> Grey:
    """Return the luminance of a frame."""
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)


def components(foreground: np.ndarray, setting: Setting) -> Detected:
    """Return the largest connected components of a mask."""
    mask = foreground.astype(np.uint8)
    if setting.opening > 1:
        square = np.ones((setting.opening, setting.opening), np.uint8)
        mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, square), np.uint8)
    _, labels, stats, centroids = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    order = 1 + np.argsort(-areas[1:], kind="stable")[: setting.max_objects]
    kept = order[areas[order] >= setting.min_area]
    renamed = np.zeros(len(areas), np.int32)
    renamed[kept] = np.arange(1, len(kept) + 1)
    return Detected(renamed[labels], centroids[kept] + 0.5)


def grid(name: str, num_pixels: int, num_objects: int) -> Iterator[Setting]:
    """Yield the settings to try for a detector, the default ones first.

    Args:
        name: a key of `DETECTORS`.
        num_pixels: number of pixels per frame.
        num_objects: maximum number of objects in a frame.
    """
    own = itertools.product((16.0, 40.0), (500, 100)) if name == "mog2" else [(16.0, 500)]
    for (sensitivity, history), opening, share in itertools.product(own, (3, 1), (0.002, 0.0005, 0.008)):
        yield Setting(max(4, int(share * num_pixels)), num_objects, opening, sensitivity, history)
