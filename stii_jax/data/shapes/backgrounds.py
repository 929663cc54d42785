"""Backgrounds: one image per video, which looks the same at any resolution."""

import numpy as np
from jaxtyping import Float

from stii_jax.data.shapes.options import CHOICES

Array = np.ndarray
Map = Float[Array, "S S"]

_OCTAVES = (3, 6, 12, 24)  # cells per side of the random grids that make up a texture
_AREAS, _THINGS = 3, 5  # maximum numbers in a scenery


def paint(
    background: int, colors: Float[Array, "2 C"], rng: np.random.Generator, image_size: int
) -> Float[Array, "S S C"]:
    """Paint an empty scene, with values from 0 to 1.

    Args:
        background: index in `CHOICES["backgrounds"]`.
        colors: its mean colour, and the extreme colour of its pattern.
        rng: random number generator of the pattern.
        image_size: height and width, in pixels.
    """
    name = CHOICES["backgrounds"][background]
    if name == "graded":
        pattern = _ramp(rng, image_size)
    elif name == "textured":
        pattern = _texture(rng, image_size)
    elif name == "scenery":
        return _scenery(colors, rng, image_size)
    else:
        pattern = np.zeros((image_size, image_size), np.float32)
    return np.clip(colors[0] + pattern[..., None] * (colors[1] - colors[0]), 0, 1)


def _axes(image_size: int) -> tuple[Float[Array, "1 S"], Float[Array, "S 1"]]:
    """The coordinates of columns and rows, from 0 to 1."""
    x = (np.arange(image_size, dtype=np.float32) + np.float32(0.5)) / np.float32(image_size)
    return x[None], x[:, None]


def _ramp(rng: np.random.Generator, image_size: int) -> Map:
    """A linear ramp from -1 to 1 that is 0 in the middle."""
    x, y = _axes(image_size)
    angle = rng.uniform(-np.pi, np.pi)
    a, b = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return 2 * (a * (x - np.float32(0.5)) + b * (y - np.float32(0.5))) / (abs(a) + abs(b))


def _texture(rng: np.random.Generator, image_size: int) -> Map:
    """Smooth noise at several scales, from -1 to 1. In half of the cases, stripes or a grid are added."""
    texture = np.zeros((image_size, image_size), np.float32)
    decay = rng.uniform(0.4, 1.0)
    for octave, cells in enumerate(_OCTAVES):
        values = rng.uniform(-1, 1, (cells + 1, cells + 1)).astype(np.float32)
        weights = _interpolation(cells, image_size)
        texture += np.float32(decay**octave) * (weights @ values @ weights.T)
    angle, period, depth, both = rng.uniform(0, np.pi), rng.uniform(0.06, 0.3), rng.random(), rng.random()
    if depth > 0.5:
        x, y = _axes(image_size)
        a, b = np.float32(np.cos(angle) / period), np.float32(np.sin(angle) / period)
        waves = np.sin(np.float32(2 * np.pi) * (a * x + b * y))
        if both > 0.5:
            waves = np.maximum(waves, np.sin(np.float32(2 * np.pi) * (a * y - b * x)))
        texture += np.float32(depth) * waves
    return texture / np.abs(texture).max()


def _interpolation(cells: int, image_size: int) -> Float[Array, "S G"]:
    """The weights for interpolating linearly between the end points of `cells` intervals, for each pixel."""
    places = _axes(image_size)[0].T * cells
    return np.maximum(1 - np.abs(places - np.arange(cells + 1, dtype=np.float32)), 0)


def _scenery(colors: Array, rng: np.random.Generator, image_size: int) -> Float[Array, "S S C"]:
    """Areas with straight or round edges (such as a lawn or a dish), faint texture, and static things."""
    x, y = _axes(image_size)
    difference = colors[1] - colors[0]
    picture = colors[0] + np.float32(0.3) * _texture(rng, image_size)[..., None] * difference
    for _ in range(rng.integers(1, _AREAS, endpoint=True)):
        angle, offset, tone = (
            rng.uniform(-np.pi, np.pi),
            rng.uniform(-0.35, 0.35),
            rng.uniform(-1.5, 1.5, len(difference)),
        )
        edge = np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5) - offset
        if rng.random() < 0.3:
            edge = np.hypot(x - 0.5 - 0.3 * offset, y - 0.5) - rng.uniform(0.3, 0.6)
        picture = _cover(picture, edge, colors[0] + _common(tone, rng) * difference)
    for _ in range(rng.integers(0, _THINGS, endpoint=True)):
        centre, sides = rng.random(2), 0.01 * np.exp(rng.uniform(0, 3.2, 2))
        edge = np.maximum(np.abs(x - centre[0]) - sides[0], np.abs(y - centre[1]) - sides[1])
        tone = rng.uniform(-2, 2, len(difference))
        picture = _cover(picture, edge, np.clip(colors[0] + _common(tone, rng) * difference, 0, 1))
    return np.clip(picture, 0, 1).astype(np.float32)


def _common(tones: Float[Array, " C"], rng: np.random.Generator) -> Float[Array, " C"]:
    """The channels' tones, moved towards a common one; in most cases they become nearly equal."""
    return tones[0] + (tones - tones[0]) * rng.random() ** 2


def _cover(picture: Array, edge: Float[Array, "S S"], color: Float[Array, " C"]) -> Array:
    """Cover the image with one colour where `edge` is negative; `edge` is in units of the frame's side."""
    share = np.clip(0.5 - edge * len(picture), 0, 1)[..., None]
    return picture + share * (color - picture)
