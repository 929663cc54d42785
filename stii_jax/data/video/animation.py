"""Animated images as videos: GIF, WebP and PNG (APNG), read by Pillow, with a duration for each frame."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from stii_jax.data.errors import DamageError, DataError

Array = np.ndarray

_FORMATS = ("GIF", "WEBP", "PNG")
_SHORTEST = 0.02
"""Shortest duration of a GIF frame, in seconds. Viewers show frames with a shorter or unset one for 0.1 s."""


class Animation:
    """The frames of an animated image. A still image has one frame.

    Args:
        path: the file.

    Raises:
        DataError: the file cannot be read.
    """

    def __init__(self, path: Path):
        self._path = path
        try:
            with Image.open(path) as image:
                self._gif = image.format == "GIF"
                # An animated PNG's default image, for viewers without animation, may not be one of its frames.
                self._skipped = int(bool(getattr(image, "default_image", False)))
                several = image.format in _FORMATS  # excludes photographs with previews (MPO)
                self.num_frames = getattr(image, "n_frames", 1) - self._skipped if several else 1
        except Exception as error:  # Pillow raises errors of many kinds on damaged files
            raise DataError(f"{path} cannot be read as an image: {error}") from error

    def frames(self) -> Iterator[tuple[UInt8[Array, "H W 3"], float]]:
        """Decode the frames and their times in seconds, one by one.

        Raises:
            DamageError: after the frames before the damage.
        """
        number, seconds = 0, 0.0
        try:
            with Image.open(self._path) as image:
                for number in range(self.num_frames):
                    image.seek(number + self._skipped)
                    image.load()
                    yield np.asarray(image.convert("RGB")), seconds
                    duration = float(image.info.get("duration") or 0) / 1000
                    seconds += 0.1 if self._gif and duration < _SHORTEST else duration
        except Exception as error:
            raise DamageError(self._path, number, f"{error}") from error
        if self._gif and not self._path.read_bytes().rstrip(b"\0").endswith(b";"):
            raise DamageError(self._path, self.num_frames, "it is truncated")
