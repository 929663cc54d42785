"""A clip of every object: `objects/slot_1.mp4` and so on, cropped from the input at full resolution."""

import csv
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from stii_jax.inference.outputs import TABLE, VideoFile, VideoInfo
from stii_jax.inference.recordings import RecordedFrame

CLIPS = "objects"
MARGIN = 0.1
"""Margin on each side of an object's largest box, as a fraction of the box's longer side."""
MIN_MARGIN = 4
"""Smallest margin around an object, in pixels."""


class _Window(NamedTuple):
    """The size of a clip, and its position until the object is first visible."""

    width: int
    height: int
    x: float
    y: float


def write_clips(folder: Path, frames: Iterable[RecordedFrame], info: VideoInfo) -> None:
    """Write a clip of every object that is visible in any frame.

    A clip has all frames of the input, and the size of the object's largest box with a margin. It follows the centre of
    the box, but stays within the frame. While the object is not visible, the clip shows its last position.

    Args:
        folder: the folder of `trajectories.csv`, with the objects' positions.
        frames: the same frames again.
        info: facts about the whole video.
    """
    windows = _windows(folder / TABLE, info.width, info.height)
    (folder / CLIPS).mkdir()
    files = {slot: VideoFile(folder / CLIPS, info.fps, f"slot_{slot}.mp4") for slot in windows}
    places = {slot: (window.x, window.y) for slot, window in windows.items()}
    whole = False
    try:
        with (folder / TABLE).open(newline="") as table:
            groups = itertools.groupby(csv.DictReader(table), key=lambda row: row["frame"])
            for frame, (_, rows) in zip(frames, groups):
                places |= {slot: _center(box) for slot, box in _boxes(rows)}
                for slot, file in files.items():
                    file.write(_cut(frame.pixels, windows[slot], places[slot]), frame.seconds)
        whole = True
    finally:
        for file in files.values():
            file.close(whole)


def _windows(table: Path, width: int, height: int) -> dict[int, _Window]:
    """Compute the window of every object from the boxes of the whole table."""
    windows: dict[int, _Window] = {}
    with table.open(newline="") as file:
        for slot, (left, top, right, bottom) in _boxes(csv.DictReader(file)):
            margin = 2 * max(MIN_MARGIN, MARGIN * max(right - left, bottom - top))
            old = windows.setdefault(slot, _Window(0, 0, *_center((left, top, right, bottom))))
            # H.264 needs even sides, as far as the frame is large enough.
            sides = [2 * int(np.ceil((side + margin) / 2)) for side in (right - left, bottom - top)]
            largest = max(old.width, min(sides[0], width)), max(old.height, min(sides[1], height))
            windows[slot] = old._replace(width=largest[0], height=largest[1])
    return windows


def _boxes(rows: Iterable[dict[str, str]]) -> Iterable[tuple[int, tuple[float, float, float, float]]]:
    """Yield slot and box of the visible objects in frames of the input."""
    for row in rows:
        if row["visible"] == "1" and row["background"] == row["predicted"] == "0":
            yield int(row["object"]), (float(row["left"]), float(row["top"]), float(row["right"]), float(row["bottom"]))


def _center(box: tuple[float, float, float, float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _cut(frame: UInt8[np.ndarray, "H W 3"], window: _Window, place: tuple[float, float]) -> UInt8[np.ndarray, "h w 3"]:
    height, width, _ = frame.shape
    left = round(min(max(place[0] - window.width / 2, 0), width - window.width))
    top = round(min(max(place[1] - window.height / 2, 0), height - window.height))
    return frame[top : top + window.height, left : left + window.width]
