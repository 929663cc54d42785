"""Encoding of pictures as PNG and GIF files."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

Picture = UInt8[np.ndarray, "_ _ 3"]


def encode_png(image: Picture) -> bytes:
    """Return the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def encode_gif(frames: Sequence[Picture], fps: int | float) -> bytes:
    """Return the bytes of a looping GIF of at most 50 frames per second; viewers slow faster ones down.

    Raises:
      ValueError: no frames.
    """
    if not frames:
        raise ValueError("a GIF needs at least one frame, got none")
    return join_gif([quantize(frame) for frame in frames], [1 / fps] * len(frames))


def quantize(image: Picture) -> Image.Image:
    """Reduce a picture to 256 colours, as for a GIF."""
    # No dithering: its noise changes from frame to frame, which is visible on flat colours.
    return Image.fromarray(image).quantize(256, dither=Image.Dither.NONE)


def join_gif(frames: Sequence[Image.Image], seconds: Sequence[float]) -> bytes:
    """Return the bytes of a GIF of pictures from `quantize`, each shown for its `seconds`; see `encode_gif`."""
    buffer = io.BytesIO()
    # GIFs count in units of 10 ms. Rounding the cumulative sum preserves the video's duration.
    ends = np.round(100 * np.cumsum(seconds))
    durations = np.clip(10 * np.diff(ends, prepend=0), 20, 655_350).astype(int).tolist()  # 16 bits
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return buffer.getvalue()
