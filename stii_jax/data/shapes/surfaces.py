"""Surfaces of objects: the colour at each point."""

import numpy as np
from jaxtyping import Float

from stii_jax.data.shapes.options import CHOICES

Array = np.ndarray
Grid = Float[Array, "T H W"]

_DIM = 0.5  # brightness at the edge of a shaded object, relative to the middle
_SLOPE = 0.8  # change of brightness per object length in the direction of the light


def colors(
    surface: int, color: Float[Array, "2 C"], width: float, traits: Float[Array, " 8"], distance: Grid, u: Grid, v: Grid
) -> Float[Array, "*grid C"]:
    """The colours of an object's points: one for all, or one per point `T H W`.

    Args:
        surface: index in `CHOICES["surfaces"]`.
        color: the object's two colours.
        width: the object's width relative to its length.
        traits: random numbers; the last four determine the pattern.
        distance: signed distance from the outline in object lengths, negative inside.
        u: coordinates along the object; see `outlines`.
        v: coordinates across it.
    """
    name = CHOICES["surfaces"][surface]
    if name == "flat":
        return color[0]
    if name == "shaded":
        depth = np.clip(distance * np.float32(-2 / width), 0, 1)
        height = np.sqrt(depth * (2 - depth))
        light = np.float32(_DIM) + np.float32(1 - _DIM) * height
        toward = np.float32(2 * np.pi * traits[4])
        light += np.float32(_SLOPE * (traits[5] - 0.5)) * (u * np.cos(toward) + v * np.sin(toward))
        return light[..., None] * color[0]
    return color[0] + _pattern(width, traits, u, v)[..., None] * (color[1] - color[0])


def _pattern(width: float, traits: Array, u: Grid, v: Grid) -> Grid:
    """The weight of the second colour, from 0 to 1: two halves, stripes across, or spots."""
    sort, shift = traits[4], np.float32(2 * np.pi * traits[5])
    if sort < 0.35:
        wave = 5 * (u + np.float32(0.5 * (traits[5] - 0.5)))
    elif sort < 0.7:
        wave = np.sin(np.float32(2 * np.pi * (1.5 + 2 * traits[6])) * u + shift)
    else:
        wave = np.sin(np.float32(2 * np.pi * (1 + 2 * traits[6])) * u + shift)
        wave = wave + np.cos(np.float32(np.pi * (1 + traits[7]) / width) * v)
    return np.clip(np.float32(0.5) + 2 * wave, 0, 1)
