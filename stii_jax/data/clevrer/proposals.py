"""CLEVRER's mask proposals: a detector's output in each frame, without object ids and with occasional errors."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from stii_jax.data.clevrer import rle
from stii_jax.data.clevrer.annotations import Attributes, read_attributes
from stii_jax.data.clevrer.fields import field, load
from stii_jax.data.errors import DataError


class Detection(NamedTuple):
    """An object detected in a frame."""

    attributes: Attributes
    score: float
    """Confidence of the detector, up to 1."""
    mask: Bool[np.ndarray, "H W"]


def read_detections(data: bytes, name: str, window: range, size: tuple[int, int]) -> list[list[Detection]]:
    """Read the detections in each frame of a window.

    Args:
        data: content of the JSON file.
        name: name of the file, for messages.
        window: numbers of the wanted frames.
        size: required height and width of the masks.

    Raises:
        DataError: the file is malformed, or lacks one of these frames. The message names the place and the key.
    """
    found: dict[int, list[Detection]] = {}
    for number, frame in enumerate(field(load(data, name), "frames", list, name)):
        place = f"{name}: frames[{number}]"
        index = field(frame, "frame_index", int, place)
        if index in found:
            raise DataError(f"{place} has the frame_index {index} of another frame")
        if index in window:
            objects = field(frame, "objects", list, place)
            found[index] = [_detection(seen, f"{place}.objects[{i}]", size) for i, seen in enumerate(objects)]
    missing = [index for index in window if index not in found]
    if missing:
        raise DataError(f"{name} has no frame {missing[0]}, but needs frames {window.start} to {window.stop - 1}")
    return [found[index] for index in window]


def _detection(seen: Any, place: str, size: tuple[int, int]) -> Detection:
    attributes = read_attributes(seen, place)
    score = field(seen, "score", float, place)
    mask = field(seen, "mask", dict, place)
    given = field(mask, "size", list, f"{place}.mask")
    if given != list(size):
        raise DataError(f"{place}.mask has a 'size' other than {list(size)}")
    counts = field(mask, "counts", str, f"{place}.mask")
    try:
        return Detection(attributes, score, rle.decode(counts, *size))
    except DataError as error:
        raise DataError(f"{place}.mask: 'counts': {error}") from error
