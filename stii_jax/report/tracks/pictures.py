"""The recording's frames as pictures within a page, few and small enough for a file of about `MAX_BYTES`."""

import base64
import io
import itertools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from stii_jax.report.tracks.folder import DecomposedRecording

MAX_PICTURES = 2400
"""Maximum number of pictures; of longer recordings, every so many frames one is shown."""
MAX_SIDE = 960
"""Maximum width and height of a picture, in pixels."""
MIN_SIDE = 240
"""Pictures are not reduced below this longer side, whatever the size of the file."""
MAX_BYTES = 16_000_000
"""Pictures are reduced until the first ones suggest that all of them together take no more."""
LOSSLESS_SIDE = 128
"""Frames up to this side are stored without loss: they are enlarged a lot."""
_SAMPLE = 12
_QUALITY = 62


class Pictures(NamedTuple):
    """Pictures of a recording."""

    every: int
    """Every how many decomposed frames there is a picture, beginning with the first."""
    width: int
    height: int
    uris: list[str]
    """The pictures as addresses that hold them."""


def read_pictures(found: DecomposedRecording) -> Pictures:
    """Read the pictures of a recording; errors as of `DecomposedRecording.frames`."""
    every = -(-found.num_frames // MAX_PICTURES)
    count = -(-found.num_frames // every)
    frames = tqdm(found.frames(every), desc="pictures", total=count, unit="picture", mininterval=0.5)
    sample = list(itertools.islice(frames, _SAMPLE))
    width, height = picture_size(sample, count)
    uris = [_data_uri(_encode(frame, (width, height))) for frame in itertools.chain(sample, frames)]
    return Pictures(every, width, height, uris)


def picture_size(sample: list[UInt8[np.ndarray, "H W 3"]], count: int) -> tuple[int, int]:
    """Width and height of pictures of which so many take at most `MAX_BYTES`, going by a sample of them."""
    height, width, _ = sample[0].shape
    longest = max(width, height)
    side = min(longest, MAX_SIDE)
    allowed = MAX_BYTES * 3 / 4 / count  # base64 writes four characters for three bytes
    while True:
        size = max(1, round(width * side / longest)), max(1, round(height * side / longest))
        needed = sum(len(_encode(frame, size)) for frame in sample) / len(sample)
        if needed <= allowed or side <= min(MIN_SIDE, longest):
            return size
        # Smaller pictures take a little more per pixel: mostly one step does.
        side = max(min(MIN_SIDE, longest), min(side - 1, math.floor(0.95 * side * math.sqrt(allowed / needed))))


def _encode(frame: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> bytes:
    image, buffer = Image.fromarray(frame), io.BytesIO()
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
    image.save(buffer, "WEBP", lossless=max(size) <= LOSSLESS_SIDE, quality=_QUALITY, method=2)
    return buffer.getvalue()


def _data_uri(content: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(content).decode()
