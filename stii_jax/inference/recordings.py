"""A video as the model sees it, frame by frame: a file of any kind, a folder of images, or arrays."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from stii_jax.data.errors import DamageError, DataError
from stii_jax.data.video.background import MAX_RESTS, Background, find_background, sample
from stii_jax.data.video.footage import IMAGES_PER_SECOND, open_footage
from stii_jax.data.video.levels import Range
from stii_jax.data.video.view import View
from stii_jax.inference.remarks import BRIGHT

Array = np.ndarray


UNKNOWN = (
    "the background is kept, since frames that come one by one do not show it: give a file or an array to remove it"
)
"""The note for an iterable of frames."""
REMOVED = "the camera stands still, so the background is removed (--background=keep keeps it)"
"""The note for a background that is removed by choice of the program."""
WIDTH = 12
"""Minimum size of a typical object in `Detailed`, in pixels, if the frame and `MAX_DETAIL` allow."""
MIN_DETAIL, MAX_DETAIL = 2, 8
"""Limits on the pixels of `Detailed` per pixel of the model, in each direction."""


class Detailed(NamedTuple):
    """The model's view of a frame in more detail. `D` is a multiple of its size."""

    picture: UInt8[Array, "D D 3"]
    """The frame with its background."""
    change: UInt8[Array, "D D"]
    """The difference from the background (`Background.change`)."""


class RecordedFrame(NamedTuple):
    """One frame of a recording."""

    pixels: UInt8[Array, "H W 3"]
    """The whole frame, upright."""
    view: UInt8[Array, "*tiles S S 3"]
    """The part that the model sees, at the model's size, for all tiles if there are several."""
    seconds: float
    """Presentation time, relative to the recording's first frame."""
    plain: UInt8[Array, "S S 3"] | None = None
    """The same part as one image with its background, if the model does not see the background."""
    detailed: Detailed | None = None
    """The same part in more detail, if its background is removed; None for tiles."""


class Recording:
    """Every `stride`-th frame of a recording, read on demand.

    Args:
        path: a video file, TIFF stack or animated image, or a folder of images, which are its frames in the order of
            their names (2 before 10).
        view: the part of a frame that the model sees.
        stride: step between the frames that are taken.
        value_range: the pixel values that are shown as 0 and 255. None keeps 8-bit frames, and scales deeper ones by
            their minimum and maximum.

    Raises:
        DataError: there is no such file, its first frame cannot be read, or the view does not fit it.
    """

    def __init__(self, path: Path, view: View, stride: int = 1, value_range: Range | None = None):
        self._footage = open_footage(path, value_range, progress="range of values")
        self._path, self._view, self.stride = path, view, stride
        first = next(self._footage.frames())
        self.height, self.width = first.pixels.shape[:2]
        try:
            self.box = view.box(self.height, self.width)
        except DataError as error:
            raise DataError(f"{path} does not fit the model's view: {error}") from error
        self.tiles = view.tiles(self.height, self.width)
        """See `View.tiles`."""
        self.background, self._background, self._remarks = view.background, None, list[str]()
        """See `View.background`: the choice of "auto", and "keep" if the background could not be removed."""
        if view.background in ("auto", "median"):
            found = find_background(self._footage, "background", enlarged=bool(self.tiles))
            self.background, self._background, self._remarks = _choose(view, found)
            self._view = dataclasses.replace(view, background=self.background)
        self.scene = None if self._background is None else self._background.picture
        """The static background of whole frames, if it is removed; else None."""
        self.detail = 0 if self.tiles else _detail(self._background, self._view.size, self.box)
        """Pixels of `RecordedFrame.detailed` per pixel of the view, in each direction; 0 if there is none."""
        header = self._footage.header
        self._rate = header.rate or IMAGES_PER_SECOND
        self._clock = _Clock(1 / self._rate)
        self.fps = self._rate / stride
        """Average rate of the frames that are taken, per second."""
        self.expected = -(-header.num_frames // stride) or None
        """Expected number of frames, according to the file; None if unknown."""
        self.damage: str | None = None
        """The reason why reading stopped before the end, once it has."""

    @property
    def value_range(self) -> Range | None:
        """The pixel values that are shown as 0 and 255; None if 8-bit frames are kept."""
        return self._footage.value_range

    @property
    def untimed(self) -> str | None:
        """The reason for using the average rate instead of the file's times from some frame on, or None."""
        return self._clock.problem

    @property
    def notes(self) -> list[str]:
        """Remarks for the user on the reading of the recording."""
        footage = self._footage
        notes = ([footage.note] if footage.note else []) + self._remarks
        if levels := footage.levels:
            notes.append(
                f"frames hold values {levels.low:g} to {levels.high:g} ({levels.type_name}): scaled to 0..255; set "
                "--value_range=LOW,HIGH to choose"
            )
            if levels.num_infinite:
                notes.append(f"{levels.num_infinite} values are NaN, shown as {levels.low:g}, or infinite")
        if footage.num_missing:
            notes.append(f"{self._path} announces {footage.num_missing} more frames than could be decoded")
        if self.untimed:
            notes.append(f"{self.untimed}: from there on, frames follow at the average rate")
        return notes

    def __iter__(self) -> Iterator[RecordedFrame]:
        self._clock = _Clock(1 / self._rate)
        try:
            for number, frame in enumerate(self._footage.frames()):
                if frame.pixels.shape != (self.height, self.width, 3):
                    size = f"{frame.pixels.shape[1]}x{frame.pixels.shape[0]}"
                    wanted = f"{self.width}x{self.height}"
                    raise DamageError(self._path, number, f"the next frame has {size} pixels, not {wanted}")
                elapsed = self._clock.tick(frame.seconds)
                if number % self.stride == 0:
                    yield _recorded(frame.pixels, self._view, self._background, self.detail, elapsed)
        except DamageError as error:  # the frames before are good
            self.damage = str(error)


def _choose(view: View, background: Background) -> tuple[str, Background | None, list[str]]:
    """Return what the model sees (`BACKGROUNDS`), the background if it is removed, and notes.

    A moving camera prevents the removal. A chosen one ("auto") also needs objects that move on.
    """
    chooses = view.background == "auto"
    problem = None
    if not background.is_static:
        noise = f"a typical pixel varies by {background.noise:.0f} of 255 levels"
        problem = f"the camera moves, or its noise is strong: {noise}"
    elif chooses and background.moving_box is None:
        problem = "nothing moves"
    elif chooses and background.rests > MAX_RESTS:
        problem = "objects cover the same places for too long to tell them from the background"
    if problem is not None:
        if not chooses:
            return "keep", None, [f"{problem}; --background=median is ignored"]
        if float(np.median(background.picture)) >= BRIGHT:
            return "bright", None, [f"{problem}; frames are bright, so the negative is seen"]
        return "keep", None, [f"{problem}; frames are seen as they are"]
    return "median", background, [REMOVED] * chooses


def _detail(background: Background | None, size: int, box: tuple[int, int, int, int]) -> int:
    """Return `Recording.detail` for a view of this size of a part of the frame, which limits the number of pixels."""
    if background is None:
        return 0
    side = min(box[2] - box[0], box[3] - box[1])
    seen = background.object_size * size / side
    wanted = MIN_DETAIL if math.isnan(seen) else math.ceil(WIDTH / seen)
    return min(max(wanted, MIN_DETAIL), MAX_DETAIL, max(side // size, 1))


def _recorded(
    pixels: UInt8[Array, "H W 3"], view: View, background: Background | None, detail: int, seconds: float
) -> RecordedFrame:
    if background is None:
        seen = view.frame(pixels)
        return RecordedFrame(pixels, seen, seconds, view.picture(pixels) if seen.ndim == 4 else None)
    change = background.change(pixels)
    fine = dataclasses.replace(view, size=detail * view.size)
    detailed = Detailed(fine.picture(pixels), fine.picture(change)[..., 0]) if detail else None
    return RecordedFrame(pixels, view.frame(change), seconds, view.picture(pixels), detailed)


class _Clock:
    """Times relative to the first frame: the file's as long as they increase, then by its average rate."""

    def __init__(self, interval: float):
        self._interval, self._number = interval, -1
        self._start: float | None = None
        self._now = 0.0
        self.problem: str | None = None

    def tick(self, seconds: float | None) -> float:
        """Return the time of the next frame. According to the file, it is `seconds`."""
        self._number += 1
        if self._number == 0:
            self._start = seconds
            self.problem = "frame 0 has no time" if seconds is None else None
            return 0.0
        if self.problem is None and (seconds is None or self._start is None or seconds - self._start <= self._now):
            fault = "has no time" if seconds is None else "is not later than the previous frame"
            self.problem = f"frame {self._number} {fault}"
        if self.problem is not None or seconds is None or self._start is None:
            self._now += self._interval
        else:
            self._now = seconds - self._start
        return self._now


class Frames:
    """Every `stride`-th frame of frames in memory, with the attributes of a `Recording`.

    Args:
        frames: an array of shape [T, H, W, 3], or an iterable of frames, e.g. from a camera; uint8 in 0..255, RGB or
            grey (H, W). They are consumed on demand. Removing the background needs an array.
        view: the part of a frame that the model sees.
        stride: step between the frames that are taken.
        fps: frames per second.

    Raises:
        DataError: there is no frame, it does not have this form, or the view does not fit it.
    """

    damage: str | None = None
    value_range: Range | None = None
    untimed: str | None = None

    def __init__(self, frames: Iterable[Array], view: View, stride: int = 1, fps: float = IMAGES_PER_SECOND):
        self.expected = -(-len(frames) // stride) if isinstance(frames, np.ndarray) and frames.ndim else None
        rest = iter(frames)
        if (first := next(rest, None)) is None:
            raise DataError("the video has no frames")
        self.height, self.width = _checked(first, 0).shape[:2]
        self.box, self.tiles = view.box(self.height, self.width), view.tiles(self.height, self.width)
        self.background, self._background, self.notes = view.background, None, list[str]()
        if view.background == "auto" and not isinstance(frames, np.ndarray):
            self.background, self.notes = "keep", [UNKNOWN]
        elif view.background in ("auto", "median"):
            found = Background(sample(_all_checked(frames)), enlarged=bool(self.tiles))
            self.background, self._background, self.notes = _choose(view, found)
        self.scene = None if self._background is None else self._background.picture
        self._view = dataclasses.replace(view, background=self.background)
        self.detail = 0 if self.tiles else _detail(self._background, view.size, self.box)
        self._frames, self.stride, self._rate = itertools.chain([first], rest), stride, fps
        self.fps = fps / stride

    def __iter__(self) -> Iterator[RecordedFrame]:
        for number, frame in enumerate(self._frames):
            pixels = _checked(frame, number)
            if pixels.shape != (self.height, self.width, 3):
                size = f"{pixels.shape[1]}x{pixels.shape[0]}"
                raise DataError(f"frame {number} has {size} pixels, the first {self.width}x{self.height}")
            if number % self.stride == 0:
                yield _recorded(pixels, self._view, self._background, self.detail, number / self._rate)


def _all_checked(frames: Iterable[Array]) -> Iterator[UInt8[Array, "H W 3"]]:
    if not isinstance(frames, np.ndarray):
        raise DataError('background="median" needs a file or an array: give all frames at once')
    return (_checked(frame, number) for number, frame in enumerate(frames))


def _checked(frame: Any, number: int) -> UInt8[Array, "H W 3"]:
    """Return a frame as RGB. Raises `DataError` if it is not a frame."""
    pixels = np.asarray(frame)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.size == 0 or pixels.shape[2:] not in ((), (3,)):
        hint = ": multiply values in [0, 1] by 255 and round them" if pixels.dtype.kind == "f" else ""
        expected = "expected uint8 of shape (H, W, 3) or (H, W)"
        raise DataError(f"frame {number} is {pixels.dtype} of shape {pixels.shape}, {expected}{hint}")
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
