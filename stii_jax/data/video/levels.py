"""Pixels deeper than 8 bits, scaled to 0..255 by one range of values for the whole recording."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8

from stii_jax.data.errors import DataError

Array = np.ndarray
Range = tuple[float, float]
"""The values that become 0 and 255."""


class Levels(NamedTuple):
    """The range of values of a recording."""

    low: float
    high: float
    type_name: str
    """The type of the values, such as "16-bit"."""
    num_infinite: int
    """Number of values that are NaN or infinite; `low` and `high` ignore them."""


def is_deep(pixels: Array) -> bool:
    """True for pixels that are not 8-bit, whose values have no standard meaning as brightness."""
    return pixels.dtype != np.uint8


def measure(frames: Iterator[Shaped[Array, "..."]]) -> Levels:
    """Return the lowest and highest finite value over all frames and channels.

    Raises:
        DataError: no value is finite.
    """
    low, high, infinite, name = np.inf, -np.inf, 0, ""
    for frame in frames:
        name = name or type_name(frame.dtype)
        finite = frame
        if frame.dtype.kind == "f" and not np.isfinite(frame).all():
            finite = frame[np.isfinite(frame)]
            infinite += frame.size - finite.size
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if low > high:
        raise DataError("all values are NaN or infinite")
    return Levels(low, high, name, infinite)


def to_rgb(pixels: Shaped[Array, "H W *channels"], value_range: Range | None) -> UInt8[Array, "H W 3"]:
    """Convert pixels to 8-bit RGB.

    Args:
        pixels: grey, or with three channels.
        value_range: the values that become 0 and 255. Values outside are clipped, and NaN becomes 0. None keeps the
            values unchanged.
    """
    if value_range is not None:
        low, high = value_range
        with np.errstate(invalid="ignore"):
            share = (pixels.astype(np.float64) - low) / (high - low) if high > low else np.zeros(pixels.shape)
        pixels = np.round(np.clip(np.nan_to_num(share, nan=0.0, posinf=1.0, neginf=0.0), 0, 1) * 255).astype(np.uint8)
    return pixels[..., None].repeat(3, axis=-1) if pixels.ndim == 2 else pixels


def type_name(dtype: np.dtype) -> str:
    """A readable name of a type: "16-bit", "16-bit signed", "32-bit float"."""
    return f"{8 * dtype.itemsize}-bit" + {"f": " float", "i": " signed"}.get(dtype.kind, "")
