"""Simulate objects that move, turn, stop, and bounce off one another and off walls, for many videos at once.

Letters: `N` videos, `K` objects, `T` frames. Lengths are in units of the frame's side, with x to the right and y
downwards. Times are in frames, and angles in radians. Objects collide as discs whose mass is their radius squared. An
object of radius 0 is absent.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from stii_jax.data.shapes.options import CHOICES

Array = np.ndarray

_INERTIAL, _, _STOPPING = range(len(CHOICES["motions"]))
_HEADING, _UPRIGHT, _ = range(len(CHOICES["orientations"]))

_HALT = 8.0  # the shortest mean duration of a stop or of a run between stops, in frames
_TURN = 0.6  # maximum rotation of an object towards its heading per frame
_STRIDE = 0.6  # distance covered in one cycle of the gait, in object lengths
_IDLE, _FASTEST_GAIT = 0.05, 1.2  # minimum and maximum change of the gait's phase per frame
_SETTLING = 20  # number of passes that move objects apart before the first frame


class Movers(NamedTuple):
    """The objects of each video, and the parameters of their motion."""

    extents: Float[Array, "N K"]
    """Radii of the circles that enclose the objects; 0 for an absent one."""
    radii: Float[Array, "N K"]
    """Radii of the discs that stand for the objects in collisions."""
    speeds: Float[Array, "N K"]
    motions: Int[Array, " N"]
    """Indices in `CHOICES`."""
    orientations: Int[Array, " N"]
    """Indices in `CHOICES`."""
    turning: Float[Array, " N"]
    """Standard deviation of the change of heading per frame."""
    stopped: Float[Array, " N"]
    """Fraction of the frames at rest."""
    collide: Bool[Array, " N"]
    """True if objects bounce off one another."""
    margins: Float[Array, " N"]
    """Distance from the frame at which objects turn back; negative if they never leave it."""


class Motion(NamedTuple):
    """The state of the objects at each frame."""

    positions: Float[Array, "N T K 2"]
    velocities: Float[Array, "N T K 2"]
    """Displacement to the next frame, unless the object hits something on the way."""
    angles: Float[Array, "N T K"]
    """Direction of the objects' heads."""
    phases: Float[Array, "N T K"]
    """Phase of the objects' gait."""


def simulate(rng: np.random.Generator, movers: Movers, num_frames: int) -> Motion:
    """Draw a random start and move the objects, frame by frame. A longer simulation begins like a shorter one."""
    size = movers.extents.shape
    present = movers.extents > 0
    own_will = (movers.motions != _INERTIAL)[:, None]
    stops = np.where(movers.motions == _STOPPING, movers.stopped, 0.0)[:, None]
    low = _limits(movers)
    x = _start(rng, movers, low)
    heading = rng.uniform(-np.pi, np.pi, size)
    going = rng.random(size) >= stops
    v = _vectors(movers.speeds * going, heading)
    upright = np.full(size, -np.pi / 2)
    fixed = np.where((movers.orientations == _UPRIGHT)[:, None], upright, rng.uniform(-np.pi, np.pi, size))
    follows = (movers.orientations == _HEADING)[:, None]
    angle, phase = np.where(follows, heading, fixed), rng.uniform(0, 2 * np.pi, size)

    frames = []
    for _ in range(num_frames):
        frames.append((x, v, angle, phase))
        travelled = np.linalg.norm(v, axis=-1)
        x, v = _bounce(x + v, v, low)
        x, v = _touch(x, v, movers)
        x = np.clip(x, low[..., None], 1 - low[..., None])
        heading = np.where((v != 0).any(-1), np.arctan2(v[..., 1], v[..., 0]), heading)
        heading = heading + own_will * movers.turning[:, None] * rng.standard_normal(size)
        going = np.where(going, rng.random(size) >= stops / _HALT, rng.random(size) < (1 - stops) / _HALT)
        v = np.where(own_will[..., None], _vectors(movers.speeds * going, heading), v)
        turn = (heading - angle + np.pi) % (2 * np.pi) - np.pi
        angle = np.where(follows, angle + np.clip(turn, -_TURN, _TURN), angle)
        cycles = travelled / (_STRIDE * 2 * np.where(present, movers.extents, 1))
        phase = phase + np.clip(2 * np.pi * cycles, _IDLE, _FASTEST_GAIT)
    positions, velocities, angles, phases = (np.stack(values, axis=1) for values in zip(*frames))
    shown = present[:, None]
    return Motion(positions * shown[..., None], velocities * shown[..., None], angles * shown, phases * shown)


def _limits(movers: Movers) -> Float[Array, "N K"]:
    """The lower limit of each object's centre coordinates; the upper limit is 1 minus this."""
    margins = movers.margins[:, None]
    return np.where(margins < 0, movers.extents, -margins - movers.extents)


def _start(rng: np.random.Generator, movers: Movers, low: Array) -> Float[Array, "N K 2"]:
    """Draw random positions, which do not overlap if objects collide. The first object begins in the frame."""
    low = low.copy()
    low[:, 0] = movers.extents[:, 0]
    low = low[..., None]
    x = low + rng.random((*low.shape[:2], 2)) * (1 - 2 * low)
    for _ in range(_SETTLING):
        x = np.clip(_touch(x, np.zeros_like(x), movers)[0], low, 1 - low)
    return x


def _vectors(lengths: Array, angles: Array) -> Float[Array, "N K 2"]:
    return lengths[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def _bounce(x: Array, v: Array, low: Array) -> tuple[Array, Array]:
    """Reflect positions beyond the walls, and velocities that point outwards."""
    low = low[..., None]
    high = 1 - low
    v = np.where(x < low, np.abs(v), np.where(x > high, -np.abs(v), v))
    return np.where(x < low, 2 * low - x, np.where(x > high, 2 * high - x, x)), v


def _touch(x: Array, v: Array, movers: Movers) -> tuple[Array, Array]:
    """Move overlapping objects apart and exchange their momentum, pair by pair, in videos with collisions."""
    x, v = x.copy(), v.copy()
    for first, second in zip(*np.triu_indices(x.shape[1], 1)):
        radius, other = movers.radii[:, first, None], movers.radii[:, second, None]
        gap = x[:, second] - x[:, first]
        distance = np.linalg.norm(gap, axis=-1, keepdims=True)
        overlap = radius + other - distance
        touches = movers.collide[:, None] & (radius > 0) & (other > 0) & (overlap > 0)
        if not touches.any():
            continue
        normal = np.where(distance > 0, gap / np.maximum(distance, 1e-12), np.array([1.0, 0.0]))
        closing = np.minimum(((v[:, second] - v[:, first]) * normal).sum(-1, keepdims=True), 0)
        mass, other_mass = radius**2, other**2
        push = np.where(touches, normal, 0)
        x[:, first] -= overlap / 2 * push
        x[:, second] += overlap / 2 * push
        change = 2 / np.maximum(mass + other_mass, 1e-12) * closing * push
        v[:, first] += other_mass * change
        v[:, second] -= mass * change
    return x, v
