"""The options that select the frames of a recording, the part of them that a model sees, and the labels."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stii_jax.config import ConfigError
from stii_jax.data.video.levels import Range
from stii_jax.data.video.tiles import tiled
from stii_jax.data.video.view import BACKGROUNDS, View


class Viewing(NamedTuple):
    """The frames of a recording that a model sees, and the part of them. None means as in its training."""

    value_range: Range | None = None
    """The pixel values that are shown as 0 and 255; None: see `Recording`."""
    region: tuple[int, int, int, int] | None = None
    """Left edge, top edge, width and height in pixels. Regions that are not square are squeezed."""
    frame_stride: int | None = None
    """The model sees every `frame_stride`-th frame."""
    background: str | None = None
    """One of `BACKGROUNDS`, or "auto"; see `View.background`."""
    tile: int | None = None
    """Side in pixels of square tiles that are decomposed one by one; see `stii_jax.data.video.tiles.TiledView`."""
    separate: bool | None = None
    """True: objects of one slot are separated and numbered; see `object_stream.ObjectStream`. False: labels are slots.
    None: True for tiles, and if the background is removed."""

    def view(self, trained: View) -> View:
        """Return the view for a model that was trained with the view `trained`."""
        changed: dict[str, Any] = {}
        if self.region is not None:
            changed = {"region": self.region, "margins": (0, 0, 0, 0), "square": False}
        if self.background is not None:
            changed["background"] = self.background
        view = dataclasses.replace(trained, **changed)
        return view if self.tile is None else tiled(view, self.tile)


def check_viewing(viewing: Viewing) -> Viewing:
    """Return `viewing` if it is valid. Raises `ConfigError` for an invalid value."""
    low, high = viewing.value_range or (0, 1)
    if not (low < high < math.inf and low > -math.inf):
        raise ConfigError(f"--value_range is {low:g},{high:g}: give LOW,HIGH, two numbers, the lower one first")
    x, y, width, height = viewing.region or (0, 0, 1, 1)
    if min(x, y) < 0 or min(width, height) < 1:
        raise ConfigError(f"--region is {x},{y},{width},{height}: give X,Y,WIDTH,HEIGHT in pixels of the recording")
    if viewing.frame_stride is not None and viewing.frame_stride < 1:
        raise ConfigError(f"--frame_stride is {viewing.frame_stride}, expected 1 or more")
    if viewing.background not in (None, "auto", *BACKGROUNDS):
        raise ConfigError(f"--background is {viewing.background!r}: give one of auto, {', '.join(BACKGROUNDS)}")
    if viewing.tile is not None and viewing.tile < 1:
        raise ConfigError(f"--tile is {viewing.tile}, expected the side of a square in pixels")
    if viewing.tile is not None and viewing.separate is False:
        raise ConfigError("--noseparate does not work with --tile, whose slots are not those of the whole frame")
    return viewing


def parse_viewing(flags: Mapping[str, Any]) -> Viewing:
    """Parse the viewing flags; lists hold text. Raises `ConfigError` for an invalid value."""
    region = _numbers(flags, "region", int, "X,Y,WIDTH,HEIGHT in pixels of the recording", 4)
    limits = _numbers(flags, "value_range", float, "LOW,HIGH, two numbers, the lower one first", 2)
    others = (flags.get(name) for name in ("frame_stride", "background", "tile", "separate"))
    return check_viewing(Viewing(limits, region, *others))


def _numbers(flags: Mapping[str, Any], name: str, kind: type, expected: str, count: int) -> Any:
    parts: Sequence[str] | None = flags.get(name)
    if parts is None:
        return None
    try:
        numbers = tuple(kind(part) for part in parts)
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise ConfigError(f"--{name} is {','.join(parts)}: give {expected}")
    return numbers
