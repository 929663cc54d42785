"""A recording as a model is to see it, read frame by frame: a video file, or a folder of images."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from stii_jax.data import pyav
from stii_jax.data.errors import DamageError, DataError
from stii_jax.data.imagefile import IMAGE_SUFFIXES, read_image, visible_files
from stii_jax.data.videofile import frame_rate, read_frames
from stii_jax.data.view import View

Array = np.ndarray

_IMAGES_PER_SECOND = 25.0


class Recording:
    """The view of every `stride`-th frame. Iterate once: frames are read as they are asked for.

    Args:
        path: a video file, or a folder of images, which are its frames in the order of their names (2 before 10).
        view: what the model is to see of a frame.
        stride: every how many frames one is taken.

    Raises:
        DataError: there is no such file, its first frame cannot be read, or the view does not fit it.
    """

    def __init__(self, path: Path, view: View, stride: int = 1):
        self._path, self._view, self._stride = path, view, stride
        self._frames = _read_images(path) if path.is_dir() else read_frames(path)
        self._first = next(self._frames)
        self.height, self.width = self._first.shape[:2]
        try:
            self.box = view.box(self.height, self.width)
        except DataError as error:
            raise DataError(f"{path} does not fit the view of the run's dataset: {error}") from error
        self.fps = (_IMAGES_PER_SECOND if path.is_dir() else frame_rate(path)) / stride
        count = len(visible_files(path, IMAGE_SUFFIXES)) if path.is_dir() else pyav.read_header(path).num_frames
        self.expected = -(-count // stride) or None
        """How many frames there will be, if the file is right about it."""
        self.damage: str | None = None
        """Why reading stopped before the end, once it has."""

    def __iter__(self) -> Iterator[UInt8[Array, "S S 3"]]:
        try:
            for number, frame in enumerate(itertools.chain([self._first], self._frames)):
                if frame.shape != self._first.shape:
                    size = f"{frame.shape[1]}x{frame.shape[0]}"
                    raise DamageError(self._path, number, f"the next has {size} pixels, not {self.width}x{self.height}")
                if number % self._stride == 0:
                    yield self._view.frame(frame)
        except DamageError as error:  # what came before is good
            self.damage = str(error)


def _read_images(folder: Path) -> Iterator[UInt8[Array, "H W 3"]]:
    if not (images := visible_files(folder, IMAGE_SUFFIXES)):
        raise DataError(f"{folder} has no images: give a video file, or a folder of {', '.join(IMAGE_SUFFIXES)} files")
    for number, path in enumerate(images):
        try:
            yield read_image(path)
        except DataError as error:
            raise DamageError(folder, number, str(error)) from error
