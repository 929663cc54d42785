"""The frames of video files, their number and their rate."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from stii_jax.data import pyav

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".gif", ".webm", ".m4v")


def read_frames(path: str | Path, num_threads: int = 1, first: int = 0) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of a video file in RGB, upright, one by one and in order, whatever their times say.

    Args:
        path: of the file. Grey and deeper colours become 8-bit RGB.
        num_threads: of the decoder.
        first: number of the first frame to return; going past the ones before takes a part of the time.

    Raises:
        DataError: there is no such file, it is no video, or it has no frame.
        DamageError: after the frames before the damage.
    """
    for number, frame in enumerate(pyav.decode(Path(path), num_threads)):
        if number >= first:
            yield frame.rgb()


def count_frames(path: str | Path, num_threads: int = 1, progress: str = "") -> int:
    """How many frames a file has, by decoding: headers are often wrong. Raises `DataError` as `read_frames`.

    Args:
        path: of the file.
        num_threads: of the decoder.
        progress: text of a progress bar; "" shows none.
    """
    frames = pyav.decode(Path(path), num_threads)
    return sum(1 for _ in tqdm(frames, desc=progress, unit="frame", mininterval=0.5, disable=not progress))


def frame_rate(path: str | Path) -> float:
    """Average frames a second, as the file says; 25 where it does not, or cannot be read."""
    return pyav.read_header(Path(path)).rate or 25.0
