"""Pictures as the bytes of PNG and GIF files."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

Picture = UInt8[np.ndarray, "_ _ 3"]


def encode_png(image: Picture) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def encode_gif(frames: Sequence[Picture], fps: int | float) -> bytes:
    """The bytes of an endless GIF, at most 50 frames a second: viewers slow faster ones down.

    Raises:
      ValueError: no frames.
    """
    if not frames:
        raise ValueError("a GIF needs at least one frame, got none")
    return join_gif([quantize(frame) for frame in frames], [1 / fps] * len(frames))


def quantize(image: Picture) -> Image.Image:
    """The picture in 256 colours, as for a GIF."""
    # No dithering: its noise changes from frame to frame, which shows on flat colours.
    return Image.fromarray(image).quantize(256, dither=Image.Dither.NONE)


def join_gif(frames: Sequence[Image.Image], seconds: Sequence[float]) -> bytes:
    """The bytes of a GIF of one or more pictures of `quantize`, each shown for so many `seconds`; see `encode_gif`."""
    buffer = io.BytesIO()
    # GIFs count in 10 ms. Rounding the sum keeps the animation as long as the video.
    ends = np.round(100 * np.cumsum(seconds))
    durations = np.clip(10 * np.diff(ends, prepend=0), 20, 655_350).astype(int).tolist()  # 16 bits
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return buffer.getvalue()
