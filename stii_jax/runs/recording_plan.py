"""Look at a recording with a trained model, to choose the settings for training on it."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stii_jax.data.video.background import find_background
from stii_jax.data.video.footage import open_footage
from stii_jax.data.video.tiles import Box
from stii_jax.inference.model import Model
from stii_jax.inference.recordings import Recording
from stii_jax.inference.viewing import Viewing
from stii_jax.runs.fine_tuning_settings import Plan, margins_of
from stii_jax.visualization.regions import Region

NUM_FRAMES = 60
"""Number of frames that are decomposed."""
LAG = 8
"""Number of frames over which a speed is measured, so that the jitter of masks counts little."""
SPEED = 0.06
"""Movement per frame, in diameters of an object, that the stride aims for. Models learned .02 to .12."""
MIN_FRAMES = 400
"""Number of frames that must remain after skipping, if the recording has as many: 25 clips of 16."""
MAX_STRIDE = 8
MOST_SLOTS = 9
"""Largest number of slots for models that always use all of their slots."""
_SMALLER = 0.8  # the moving part is shown alone if its side is below this share of the central square's


class Findings(NamedTuple):
    """The content of a recording."""

    size: tuple[int, int]
    """Width and height of its frames."""
    num_frames: int
    """Number of frames by its header; 0 if unknown."""
    num_objects: int
    """Largest number of objects in a frame, or in a tile of it."""
    speed: float
    """Median movement of an object per frame, in its diameters; NaN without an object."""
    region: tuple[int, int, int, int] | None
    """The part that the model should see, as for `--region`; None is the central square."""
    background: str
    """The kind of background that the model saw; one of `data.video.view.BACKGROUNDS`."""


def find_region(path: Path, viewing: Viewing) -> tuple[int, int, int, int] | None:
    """Return the square around all motion, as for `--region`; None if the central square suits as well.

    It needs a static camera. This decodes all frames.

    Raises:
        DataError: the recording cannot be read.
    """
    footage = open_footage(path, viewing.value_range, progress="range of values")
    background = find_background(footage, progress="where objects move")
    if not background.is_static or background.moving_box is None:
        return None
    return enclosing_region(background.moving_box, background.object_size, *background.picture.shape[1::-1])


def enclosing_region(
    box: tuple[int, int, int, int], margin: float, width: int, height: int
) -> tuple[int, int, int, int] | None:
    """Return the square around a box and a margin, within the frame; see `find_region`.

    If the frame is too small for the square, the region covers the whole of its shorter side, and is not a square.

    Args:
        box: left, top, right and bottom edge.
        margin: the total width to add to each side.
        width: the frame's.
        height: the frame's.
    """
    margin = 0 if math.isnan(margin) else round(margin)
    side = max(box[2] - box[0], box[3] - box[1]) + margin
    spans = [_place(low, high, size, min(side, size)) for low, high, size in ((*box[::2], width), (*box[1::2], height))]
    (left, columns), (top, rows) = spans
    central = min(width, height)
    margins = ((width - central) // 2, (height - central) // 2)
    inside = all(
        start <= low and high <= start + central for start, low, high in zip(margins, box[:2], box[2:], strict=True)
    )
    return None if inside and side >= _SMALLER * central else (left, top, columns, rows)


def _place(low: int, high: int, size: int, side: int) -> tuple[int, int]:
    """Return the start and length of a span of `side` pixels around `low` to `high`, within 0 to `size`."""
    return min(max((low + high - side) // 2, 0), size - side), side


def examine(model: Model, path: Path, viewing: Viewing, num_frames: int = NUM_FRAMES) -> Findings:
    """Find the region, the number of objects and their speed, from the first frames.

    Raises:
        DataError: the recording cannot be read.
    """
    region = viewing.region or (None if viewing.tile else find_region(path, viewing))
    seen: dict[str, Any] = {**viewing._asdict(), "region": region, "frame_stride": 1}
    stream = model.stream(path, **seen)
    frames = list(itertools.islice((frame._replace(pixels=None) for frame in stream), num_frames))
    background = stream.find_background(frames)
    recording = stream.video
    assert isinstance(recording, Recording)  # because it is a file
    count, speed = measure([frame.regions for frame in frames], background, stream.tiles)
    total = open_footage(path, viewing.value_range).header.num_frames
    return Findings((recording.width, recording.height), total, count, speed, region, recording.background)


def measure(regions: Sequence[Mapping[int, Region]], background: int, tiles: Sequence[Box] = ()) -> tuple[int, float]:
    """Return `Findings.num_objects` and `Findings.speed`.

    Args:
        regions: the visible slots of each frame.
        background: the slot to ignore.
        tiles: parts of the frame that are seen one by one; empty if the frame is one view.
    """
    objects = [{slot: region for slot, region in frame.items() if slot != background} for frame in regions]
    parts: Sequence[Box | None] = tiles or [None]
    count = max((_count(found.values(), part) for found in objects for part in parts), default=0)
    speeds = []
    for before, after in zip(objects, objects[LAG:]):
        for slot in before.keys() & after.keys():
            start, end = before[slot], after[slot]
            diameter = 2 * math.sqrt((start.area + end.area) / 2 / math.pi)
            speeds.append(math.hypot(end.x - start.x, end.y - start.y) / LAG / diameter)
    return count, float(np.median(speeds)) if speeds else math.nan


def _count(regions: Iterable[Region], tile: Box | None) -> int:
    """The number of regions whose centre is in a tile, or of all of them."""
    left, top, right, bottom = tile or (-math.inf, -math.inf, math.inf, math.inf)
    return sum(left <= region.x < right and top <= region.y < bottom for region in regions)


def make_plan(found: Findings, most_slots: int) -> Plan:
    """Return the settings for a recording.

    Args:
        found: its content.
        most_slots: the largest number of slots.
    """
    # One slot for the background; in training, one to spare.
    used = max(2, min(found.num_objects + 1, most_slots))
    slots = max(3, min(used + 1, most_slots))
    stride = 1
    if not math.isnan(found.speed):
        longest = max(1, found.num_frames // MIN_FRAMES)
        stride = max(1, min(MAX_STRIDE, longest, math.floor(SPEED / max(found.speed, 1e-6))))
    margins = None
    if found.region is not None:
        margins = margins_of(found.region, *found.size)
    return Plan(slots, used, stride, margins, found.background)
