"""The frames of a video file, and their number."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from stii_jax.data.video.footage import Footage

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".gif", ".webm", ".m4v")


def read_frames(path: str | Path, num_threads: int = 1, first: int = 0) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Yield the frames of a file in 8-bit RGB, upright and in order, regardless of their times.

    Args:
        path: a video file, TIFF stack or animated image. `Footage` scales frames deeper than 8 bits.
        num_threads: number of threads of the decoder.
        first: number of the first frame to return.

    Raises:
        DataError: there is no such file, it is not a video, or it has no frame.
        DamageError: after the frames before the damage.
    """
    for frame in Footage(Path(path), num_threads=num_threads).frames(first):
        yield frame.pixels


def count_frames(path: str | Path, num_threads: int = 1, progress: str = "") -> int:
    """Count the frames of a file by decoding them, since headers are often wrong. Raises the errors of `read_frames`.

    Args:
        path: see `read_frames`.
        num_threads: see `read_frames`.
        progress: text of a progress bar; "" shows none.
    """
    return Footage(Path(path), num_threads=num_threads).count(progress)
