"""Clips in other colours than they were recorded in."""

import numpy as np
from jaxtyping import UInt8


def recolor(video: UInt8[np.ndarray, "T H W 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "T H W 3"]:
    """A clip with its channels in a random order, each of them inverted or not: one of 48 ways, the same in all frames.

    Brightness along an edge may rise where it fell; what belongs together keeps one colour.
    """
    inverted = rng.integers(0, 2, 3, dtype=np.uint8) * 255
    return video[..., rng.permutation(3)] ^ inverted  # 255 - x, where it is inverted
