"""The camera's darker corners, noise and compression. Brightness is from 0 to 1."""

import numpy as np
from jaxtyping import Float, Int

Array = np.ndarray
Frames = Float[Array, "T S S C"]

_BLOCK = 4  # side of the blocks that compression transforms
_STEEPER = 0.5  # growth of the quantization step per frequency

_frequencies = np.arange(_BLOCK)
_cosines = np.cos(np.pi / _BLOCK * _frequencies[:, None] * (_frequencies + 0.5)) * np.sqrt(2 / _BLOCK)
_cosines[0] /= np.sqrt(2)
_COSINES = np.kron(_cosines, _cosines).astype(np.float32)
"""The orthogonal discrete cosine transform of a block with its pixels along one axis."""
_STEPS = 1 + np.float32(_STEEPER) * np.add.outer(_frequencies, _frequencies).astype(np.float32).ravel()
"""The relative quantization steps of a block's coefficients."""
_OPPONENTS = np.array([[1 / 3, 1 / 3, 1 / 3], [0.5, 0, -0.5], [-0.25, 0.5, -0.25]], np.float32)
"""The transform from RGB to brightness and two colour differences."""
_RGB = np.linalg.inv(_OPPONENTS)


def vignette(strength: float, image_size: int) -> Float[Array, "S S 1"]:
    """The fraction of the light that arrives: 1 in the middle and `1 - strength` in the corners."""
    x = (np.arange(image_size, dtype=np.float32) + np.float32(0.5)) / np.float32(image_size / 2) - 1
    corner = 2 * x[-1] ** 2
    return 1 - np.float32(strength) * (x[:, None, None] ** 2 + x[None, :, None] ** 2) / corner


def noise(seed: int, frames: Int[Array, " T"], shape: tuple[int, int, int]) -> Frames:
    """Draw standard normal noise, which depends only on the seed and each frame's number."""
    draws = np.empty((len(frames), *shape), np.float32)
    for draw, frame in zip(draws, frames.tolist()):
        np.random.default_rng([seed, 1, frame]).standard_normal(out=draw, dtype=np.float32)
    return draws


def compress(frames: Frames, step: float) -> Frames:
    """Quantize the frequencies of 4x4 blocks, with high ones and colours more coarsely, as video codecs do.

    Args:
        frames: frames of one or three channels, with height and width multiples of 4.
        step: quantization step of a block's lowest coefficient, on a scale where white is 1.
    """
    count, size, _, channels = frames.shape
    mixed = frames @ _OPPONENTS.T if channels == 3 else frames
    grid = (count, size // _BLOCK, _BLOCK, size // _BLOCK, _BLOCK, channels)
    blocks = mixed.reshape(grid).transpose(0, 1, 3, 5, 2, 4).reshape(-1, channels, _BLOCK**2)
    steps = np.float32(step) * np.array([1, 2, 2], np.float32)[:channels, None] * _STEPS
    blocks = (np.round(blocks @ _COSINES.T / steps) * steps) @ _COSINES
    blocks = blocks.reshape(*grid[:2], grid[3], channels, _BLOCK, _BLOCK)
    mixed = blocks.transpose(0, 1, 4, 2, 5, 3).reshape(frames.shape)
    return mixed @ _RGB.T if channels == 3 else mixed
