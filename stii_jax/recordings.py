"""A recording as a model is to see it, read frame by frame: a video file, or a folder of images."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from stii_jax.data import pyav
from stii_jax.data.errors import DamageError, DataError
from stii_jax.data.imagefile import IMAGE_SUFFIXES, read_image, visible_files
from stii_jax.data.view import View

Array = np.ndarray

IMAGES_PER_SECOND = 25.0
"""Rate of a folder of images, and of a video file that does not state its own."""


class RecordedFrame(NamedTuple):
    """One frame of a recording."""

    pixels: UInt8[Array, "H W 3"]
    """The whole frame, upright."""
    view: UInt8[Array, "S S 3"]
    """The part that the model sees, at its size."""
    seconds: float
    """Presentation time, relative to the recording's first frame."""


class Recording:
    """Every `stride`-th frame of a recording. Iterate once: frames are read as they are asked for.

    Args:
        path: a video file, or a folder of images, which are its frames in the order of their names (2 before 10).
        view: what the model is to see of a frame.
        stride: every how many frames one is taken.

    Raises:
        DataError: there is no such file, its first frame cannot be read, or the view does not fit it.
    """

    def __init__(self, path: Path, view: View, stride: int = 1):
        self._path, self._view, self._stride = path, view, stride
        header = _images_header(path) if path.is_dir() else pyav.read_header(path)
        self._rate = header.rate or IMAGES_PER_SECOND
        self._frames = _read_images(path) if path.is_dir() else _read_video(path)
        self._first, start = next(self._frames)
        self._clock = _Clock(start, 1 / self._rate)
        self.height, self.width = self._first.shape[:2]
        try:
            self.box = view.box(self.height, self.width)
        except DataError as error:
            raise DataError(f"{path} does not fit the view of the run's dataset: {error}") from error
        self.fps = self._rate / stride
        """Average frames per second, of those that are taken."""
        self.expected = -(-header.num_frames // stride) or None
        """How many frames there will be, if the file is right about it."""
        self.damage: str | None = None
        """Why reading stopped before the end, once it has."""

    @property
    def untimed(self) -> str | None:
        """Why the file's times were not used from some frame on, but its average rate; None if they all were."""
        return self._clock.problem

    def __iter__(self) -> Iterator[RecordedFrame]:
        first = (self._first, None)  # the clock has the first frame's time
        try:
            for number, (frame, seconds) in enumerate(itertools.chain([first], self._frames)):
                if frame.shape != self._first.shape:
                    size = f"{frame.shape[1]}x{frame.shape[0]}"
                    raise DamageError(self._path, number, f"the next has {size} pixels, not {self.width}x{self.height}")
                elapsed = self._clock.tick(seconds) if number else 0.0
                if number % self._stride == 0:
                    yield RecordedFrame(frame, self._view.frame(frame), elapsed)
        except DamageError as error:  # what came before is good
            self.damage = str(error)


class _Clock:
    """Times relative to the first frame: those of the file as long as they increase, then those of its average rate."""

    def __init__(self, start: float | None, interval: float):
        self._start, self._interval = start, interval
        self._number, self._now = 0, 0.0
        self.problem = "frame 0 has no time" if start is None else None

    def tick(self, seconds: float | None) -> float:
        """Return the time of the next frame, which the file says to be `seconds`."""
        self._number += 1
        if self._start is None or self.problem:
            self._now += self._interval
        elif seconds is None or seconds - self._start <= self._now:
            fault = "has no time" if seconds is None else "is not later than the frame before"
            self.problem = f"frame {self._number} {fault}"
            self._now += self._interval
        else:
            self._now = seconds - self._start
        return self._now


def _read_video(path: Path) -> Iterator[tuple[UInt8[Array, "H W 3"], float | None]]:
    for frame in pyav.decode(path):
        yield frame.rgb(), frame.seconds


def _images_header(folder: Path) -> pyav.Header:
    return pyav.Header(len(visible_files(folder, IMAGE_SUFFIXES)), IMAGES_PER_SECOND)


def _read_images(folder: Path) -> Iterator[tuple[UInt8[Array, "H W 3"], float | None]]:
    if not (images := visible_files(folder, IMAGE_SUFFIXES)):
        raise DataError(f"{folder} has no images: give a video file, or a folder of {', '.join(IMAGE_SUFFIXES)} files")
    for number, path in enumerate(images):
        try:
            yield read_image(path), number / IMAGES_PER_SECOND
        except DataError as error:
            raise DamageError(folder, number, str(error)) from error
