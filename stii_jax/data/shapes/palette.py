"""Random colours of backgrounds and of objects that stand out from them. A colour is RGB from 0 to 1."""

import numpy as np
from jaxtyping import Bool, Float, Int

from stii_jax.data.shapes.options import CHOICES

Array = np.ndarray

_BLACK, _GRAY, _COLOR = (CHOICES["backgrounds"].index(name) for name in ("black", "gray", "color"))
_TRIES = 8  # number of random hues per object; the first one that allows the contrast is used
_SATURATION = 0.5  # maximum saturation of backgrounds with a pattern, relative to random colours
_SHIFT = 0.3  # difference in hue between a background's two colours, relative to random colours


def draw_backgrounds(
    rng: np.random.Generator,
    kinds: Int[Array, " N"],
    patterns: Float[Array, " N"],
    gray: Bool[Array, " N"],
    brightness: tuple[float, float] = (0.0, 1.0),
) -> Float[Array, "N 2 3"]:
    """Draw the mean colour of each background, and the extreme colour of its pattern.

    Args:
        rng: the random number generator.
        kinds: indices in `CHOICES["backgrounds"]`.
        patterns: the second colour's place on the way from the mean to another brightness, from 0 to 1.
        gray: True for a video in shades of grey.
        brightness: minimum and maximum of every channel, except on black backgrounds.
    """
    number, (lowest, highest) = len(kinds), brightness
    shade, other_shade, saturation = rng.random((3, number, 1))
    hue, shift = _in_gray(rng.random((number, 3)), gray), _in_gray(rng.random((number, 3)), gray) - 0.5
    kind = kinds[:, None]
    saturation = np.where(kind == _GRAY, 0, np.where(kind == _COLOR, 1, _SATURATION) * saturation)
    tone = shade + saturation * (hue - shade)
    other_tone = np.clip(np.where(kind == _BLACK, 0, tone) + (other_shade - shade) + _SHIFT * shift, 0, 1)
    mean = np.where(kind == _BLACK, 0, lowest + (highest - lowest) * tone)
    other = lowest + (highest - lowest) * other_tone
    flat = np.isin(kind, (_BLACK, _GRAY, _COLOR))
    way = np.where(flat, 0, patterns[:, None])
    return np.stack([mean, mean + way * (other - mean)], axis=1)


def draw_colors(
    rng: np.random.Generator, means: Float[Array, "N 3"], gray: Bool[Array, " N"], contrasts: Float[Array, "N K"]
) -> Float[Array, "N K 2 3"]:
    """Draw two colours for each object whose root-mean-square difference from `means` is `contrasts`.

    If no colour is that far away, both are black or white, whichever is further.
    """
    hues = rng.random((*contrasts.shape, 2, _TRIES, 3))
    saturation = np.where(gray[:, None], 0, rng.random(contrasts.shape))[..., None, None, None]
    hues = hues[..., :1] + saturation * (hues - hues[..., :1])
    corner = np.where(_size(1 - means) >= _size(means), 1.0, 0.0)
    corners = np.broadcast_to(corner[:, None, None, None], (*hues.shape[:3], 1, 3))
    origin = means[:, None, None, None]
    ways = np.concatenate([hues, corners], axis=3) - origin
    ways = ways / np.maximum(_size(ways), 1e-9)
    rooms = np.divide(np.where(ways > 0, 1 - origin, origin), np.abs(ways), out=np.full_like(ways, 9), where=ways != 0)
    wanted = contrasts[..., None, None]
    fits = rooms.min(-1) >= wanted
    fits[..., -1] = True
    chosen = np.take_along_axis(ways, fits.argmax(-1)[..., None, None], axis=3)[..., 0, :]
    room = _size(corner - means)[:, None, None]
    reached = np.where(fits[..., :-1].any(-1), wanted[..., 0], np.minimum(wanted[..., 0], room[..., 0]))
    return np.clip(means[:, None, None] + reached[..., None] * chosen, 0, 1)


def _size(colors: Float[Array, "*shape 3"]) -> Float[Array, "*shape 1"]:
    """The root mean square over the channels."""
    return np.sqrt((colors**2).mean(-1, keepdims=True))


def _in_gray(colors: Float[Array, "N 3"], gray: Bool[Array, " N"]) -> Float[Array, "N 3"]:
    return np.where(gray[:, None], colors[:, :1], colors)
