"""Random recolouring of clips."""

import numpy as np
from jaxtyping import UInt8


def recolor(video: UInt8[np.ndarray, "T H W 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "T H W 3"]:
    """Permute a clip's channels and invert some of them at random: one of 48 ways, the same in all frames.

    Brightness across an edge may rise where it fell, but areas of one colour keep a common colour.
    """
    inverted = rng.integers(0, 2, 3, dtype=np.uint8) * 255
    return video[..., rng.permutation(3)] ^ inverted  # 255 - x where inverted
