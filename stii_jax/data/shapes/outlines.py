"""Outlines of objects, as signed distances.

Points are in an object's own coordinates, relative to its centre and in units of its length: `u` along it towards the
head, and `v` across. Distances are in the same unit, negative inside. They are exact at the outline, correct to first
order near it, and only monotonic further away.
"""

import numpy as np
from jaxtyping import Float

from stii_jax.data.shapes.options import CHOICES

Array = np.ndarray
Grid = Float[Array, "T H W"]
Phases = Float[Array, " T"]

WIDTHS: dict[str, tuple[float, float]] = {
    "disc": (1, 1),
    "ellipse": (0.35, 0.8),
    "polygon": (0.45, 1),
    "worm": (0.14, 0.28),
    "insect": (0.25, 0.5),
    "walker": (0.22, 0.36),
}
"""Range of an object's width, by kind."""

REACH = 0.57
"""Radius of a circle around the centre that encloses any object, in object lengths."""

_SEGMENTS = 8  # number of a worm's segments
_LEGS = {2: (2.9,), 6: (0.7, 1.5, 2.3), 8: (0.5, 1.2, 1.9, 2.5)}
"""The angles between one side's legs and the direction of the head, by number of legs."""


def distances(kind: int, width: float, traits: Float[Array, " 8"], phases: Phases, u: Grid, v: Grid) -> Grid:
    """The signed distances of points from an object's outline, at each phase of its gait.

    Args:
        kind: index in `CHOICES["kinds"]`.
        width: the object's width relative to its length.
        traits: random numbers; the first four determine the form.
        phases: phase of the gait per frame.
        u: coordinates along the object.
        v: coordinates across it.
    """
    name = CHOICES["kinds"][kind]
    if name == "polygon":
        return _polygon(width, traits, u, v)
    if name == "worm":
        return _worm(width, traits, phases, u, v)
    if name == "insect":
        return _insect(6 if traits[0] < 0.6 else 8, width, traits, phases, u, v)
    if name == "walker":
        return _insect(2, width, traits, phases, u, v)
    return _ellipse(u, v, 0.5, width / 2)


def _ellipse(u: Grid, v: Grid, half_length: float, half_width: float) -> Grid:
    """An ellipse: the value of the implicit equation over its gradient, which is exact for a circle."""
    p, q = u / np.float32(half_length), v / np.float32(half_width)
    level = np.maximum(np.sqrt(p * p + q * q), np.float32(1e-3))
    p /= np.float32(half_length)
    q /= np.float32(half_width)
    slope = np.maximum(np.sqrt(p * p + q * q), np.float32(1e-3 / half_length))
    return (level - 1) * level / slope


def _polygon(width: float, traits: Array, u: Grid, v: Grid) -> Grid:
    """A convex polygon whose corners lie on an ellipse. The furthest corner is half a length from the centre."""
    corners = 3 + int(traits[0] * 4)
    jitter = 0.5 * traits[1] * np.sin(10 * traits[2] + 2.4 * np.arange(corners))
    angles = 2 * np.pi * (np.arange(corners) + 0.5 + 0.5 * jitter) / corners
    points = np.stack([np.cos(angles), width * np.sin(angles)], axis=1)
    points = points - (points.max(0) + points.min(0)) / 2
    points /= 2 * np.hypot(*points.T).max()
    distance = np.full(u.shape, -np.inf, np.float32)
    for start, end in zip(points, np.roll(points, -1, axis=0)):
        normal = np.array([end[1] - start[1], start[0] - end[0]]) / np.hypot(*(end - start))
        across = u * np.float32(normal[0]) + v * np.float32(normal[1]) - np.float32(normal @ start)
        np.maximum(distance, across, out=distance)
    return distance


def _worm(width: float, traits: Array, phases: Phases, u: Grid, v: Grid) -> Grid:
    """A chain of segments with tapering ends. A wave runs along it."""
    along = (np.arange(_SEGMENTS) + 0.5) / _SEGMENTS
    wave = 2 * np.pi * (0.4 + 0.8 * traits[1]) * along + phases[:, None]
    bends = (0.2 + 0.7 * traits[0]) * np.sin(wave) + 1.6 * traits[2] * np.sin(phases[:, None] / 5) * (along - 0.5)
    steps = np.stack([np.cos(bends), np.sin(bends)], axis=-1) * (1 - width) / _SEGMENTS
    joints = np.concatenate([np.zeros((len(phases), 1, 2)), np.cumsum(steps, axis=1)], axis=1)
    joints = (joints - joints.mean(1, keepdims=True)).astype(np.float32)
    thickness = 1 - (0.2 + 0.4 * traits[3]) * np.abs(2 * along - 1) ** 2
    distance = np.full(u.shape, np.inf, np.float32)
    for segment in range(_SEGMENTS):
        radius = np.float32(width / 2 * thickness[segment])
        np.minimum(distance, _segment(u, v, joints[:, segment], joints[:, segment + 1]) - radius, out=distance)
    return distance


def _insect(num_legs: int, width: float, traits: Array, phases: Phases, u: Grid, v: Grid) -> Grid:
    """A head, a thorax and an abdomen, with pairs of legs that swing in turn, and often wings."""
    half = width / 2
    distance = _ellipse(u + np.float32(0.12), v, 0.28, 0.8 * half)
    np.minimum(distance, _ellipse(u - np.float32(0.15), v, 0.18, 0.6 * half), out=distance)
    np.minimum(distance, _ellipse(u - np.float32(0.36), v, 0.11, 0.1), out=distance)
    if traits[1] < 0.5 and num_legs == 6:
        spread = np.float32(0.15 + 0.5 * traits[2])
        for side in (-1, 1):
            c, s = np.cos(spread), side * np.sin(spread)
            x, y = u - np.float32(0.12), v - np.float32(0.05 * side)
            np.minimum(distance, _ellipse(x * c - y * s + np.float32(0.3), x * s + y * c, 0.3, 0.09), out=distance)
    thick = np.float32(0.06 if num_legs == 2 else 0.02)
    for pair, angle in enumerate(_LEGS[num_legs]):
        root = 0.05 + 0.25 * np.cos(angle)
        for side in (-1, 1):
            swing = angle + 0.3 * np.sin(phases + np.pi * (pair + (side > 0)))
            start = np.array([root, side * half * 0.5], np.float32)
            foot = root + 0.25 * np.cos(swing), side * (half * 0.4 + 0.25 * np.sin(swing))
            end = np.stack(foot, axis=1).astype(np.float32)
            np.minimum(distance, _segment(u, v, np.broadcast_to(start, end.shape), end) - thick, out=distance)
    return distance


def _segment(u: Grid, v: Grid, start: Float[Array, "T 2"], end: Float[Array, "T 2"]) -> Grid:
    """The distances from straight segments, one per frame."""
    (x, y), (a, b) = start.T[:, :, None, None], (end - start).T[:, :, None, None]
    p, q = u - x, v - y
    part = np.clip((p * a + q * b) / (a * a + b * b), 0, 1)
    p -= part * a
    q -= part * b
    return np.sqrt(p * p + q * q)
