"""The recording's frames as embedded images, few and small enough for a file of about `MAX_BYTES`."""

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
"""Maximum number of images; longer recordings are subsampled evenly."""
MAX_SIDE = 960
"""Maximum width and height of an image, in pixels."""
MIN_SIDE = 240
"""Minimum for the longer side of a reduced image, in pixels, whatever the size of the file."""
MAX_BYTES = 16_000_000
"""Target for all images together; they are reduced until a sample of them suggests that they fit."""
LOSSLESS_SIDE = 128
"""Frames up to this side are stored losslessly, because the player enlarges them a lot."""
_SAMPLE = 12
_QUALITY = 62


class Pictures(NamedTuple):
    """Images of a recording."""

    every: int
    """Number of decomposed frames from one image to the next, starting at the first frame."""
    width: int
    height: int
    uris: list[str]
    """The images as data URIs."""


def read_pictures(found: DecomposedRecording) -> Pictures:
    """Read the images of a recording; raises as `DecomposedRecording.frames`."""
    every = -(-found.num_frames // MAX_PICTURES)
    count = -(-found.num_frames // every)
    frames = tqdm(found.frames(every), desc="pictures", total=count, unit="picture", mininterval=0.5)
    sample = list(itertools.islice(frames, _SAMPLE))
    width, height = picture_size(sample, count)
    uris = [_data_uri(_encode(frame, (width, height))) for frame in itertools.chain(sample, frames)]
    return Pictures(every, width, height, uris)


def picture_size(sample: list[UInt8[np.ndarray, "H W 3"]], count: int) -> tuple[int, int]:
    """Return an image size at which `count` images take about `MAX_BYTES`, estimated from a sample."""
    height, width, _ = sample[0].shape
    longest = max(width, height)
    side = min(longest, MAX_SIDE)
    allowed = MAX_BYTES * 3 / 4 / count  # base64 writes four characters for three bytes
    while True:
        size = max(1, round(width * side / longest)), max(1, round(height * side / longest))
        needed = sum(len(_encode(frame, size)) for frame in sample) / len(sample)
        if needed <= allowed or side <= min(MIN_SIDE, longest):
            return size
        # Smaller images take slightly more bytes per pixel. One step is usually enough.
        side = max(min(MIN_SIDE, longest), min(side - 1, math.floor(0.95 * side * math.sqrt(allowed / needed))))


def _encode(frame: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> bytes:
    image, buffer = Image.fromarray(frame), io.BytesIO()
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
    image.save(buffer, "WEBP", lossless=max(size) <= LOSSLESS_SIDE, quality=_QUALITY, method=2)
    return buffer.getvalue()


def _data_uri(content: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(content).decode()
