"""Simulate elastic collisions of discs in a square box, event by event, for many videos at once.

Letters: `N` videos, `K` balls, `T` frames. Lengths are in box units, and times in frames. A ball's mass is its radius
squared. A ball of radius 0 is absent: it pads videos with fewer balls.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from stii_jax.data.errors import DataError

Array = np.ndarray

_PLACEMENT_TRIES = 50  # tries per ball, given the balls already placed
_PLACEMENT_FAILURES = 20  # consecutive rounds in which no video succeeds


class Trajectories(NamedTuple):
    """The positions and velocities of the balls at each frame."""

    positions: Float[Array, "N T K 2"]
    """Centres as (x to the right, y downwards), in box units."""
    velocities: Float[Array, "N T K 2"]
    """Velocities in box units per frame."""


def simulate(
    positions: Float[Array, "N K 2"],
    velocities: Float[Array, "N K 2"],
    radii: Float[Array, "N K"],
    *,
    box_size: float,
    num_frames: int,
) -> Trajectories:
    """Move balls from one collision to the next. They must start inside the box, without overlap.

    Collisions are computed exactly, without time steps: energy is conserved up to rounding, and balls never overlap.
    Each video has its own clock. An iteration of the loop takes every video to its next collision or frame.

    Returns:
        the state at times 0, 1, ..., num_frames - 1.
    """
    x, v = positions.astype(np.float64), velocities.astype(np.float64)
    num_videos, num_balls = radii.shape
    trajectories = Trajectories(*(np.empty((num_videos, num_frames, num_balls, 2)) for _ in range(2)))
    first, second = np.triu_indices(num_balls, 1)

    clock = np.zeros(num_videos)  # time since the frame before
    frame = np.ones(num_videos, np.int64)  # the next frame to record
    trajectories.positions[:, 0], trajectories.velocities[:, 0] = x, v
    running = np.flatnonzero(frame < num_frames)
    while running.size:
        xr, vr, rr = x[running], v[running], radii[running]
        walls = _time_to_walls(xr, vr, rr, box_size)
        pairs = _time_to_pairs(xr, vr, rr, first, second)
        events = np.concatenate([walls.reshape(len(running), -1), pairs], axis=1)
        event = events.argmin(axis=1)
        until_event = np.take_along_axis(events, event[:, None], axis=1)[:, 0]
        until_frame = 1.0 - clock[running]
        collides = until_event < until_frame
        step = np.minimum(until_event, until_frame)
        xr = xr + step[:, None, None] * vr

        rows = np.flatnonzero(collides & (event < 2 * num_balls))
        vr[rows, event[rows] // 2, event[rows] % 2] *= -1.0
        rows = np.flatnonzero(collides & (event >= 2 * num_balls))
        pair = event[rows] - 2 * num_balls
        _collide(xr, vr, rr, rows, first[pair], second[pair])

        x[running], v[running] = xr, vr
        clock[running] = np.where(collides, clock[running] + step, 0.0)
        shown = running[~collides]
        trajectories.positions[shown, frame[shown]] = x[shown]
        trajectories.velocities[shown, frame[shown]] = v[shown]
        frame[shown] += 1
        running = running[frame[running] < num_frames]
    return trajectories


def _time_to_walls(x: Array, v: Array, radii: Array, box_size: float) -> Float[Array, "N K 2"]:
    """The time until each ball hits the wall ahead, per axis; infinite for a ball that is at rest or absent."""
    ahead = np.where(v > 0, box_size - radii[..., None] - x, x - radii[..., None])
    moves = (v != 0) & (radii[..., None] > 0)
    return np.divide(np.maximum(ahead, 0.0), np.abs(v), out=np.full_like(x, np.inf), where=moves)


def _time_to_pairs(x: Array, v: Array, radii: Array, first: Array, second: Array) -> Float[Array, "N P"]:
    """The time until each pair of balls touches; infinite for pairs that separate or miss each other."""
    dx, dv = x[:, second] - x[:, first], v[:, second] - v[:, first]
    reach = radii[:, second] + radii[:, first]
    approach = -(dx * dv).sum(-1)
    gap = (dx * dx).sum(-1) - reach * reach
    discriminant = approach * approach - (dv * dv).sum(-1) * gap
    present = (radii[:, second] > 0) & (radii[:, first] > 0)
    meets = present & (approach > 0) & (discriminant > 0)
    # This form of the smaller root stays exact when the balls almost touch. A gap below 0 by rounding counts as 0.
    root = approach + np.sqrt(np.maximum(discriminant, 0.0))
    return np.divide(np.maximum(gap, 0.0), root, out=np.full_like(gap, np.inf), where=meets)


def _collide(x: Array, v: Array, radii: Array, rows: Array, first: Array, second: Array) -> None:
    """Exchange momentum, in place, between a touching pair of balls in each of the videos `rows`."""
    normal = x[rows, second] - x[rows, first]
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    closing = ((v[rows, second] - v[rows, first]) * normal).sum(-1, keepdims=True)
    mass_first, mass_second = radii[rows, first, None] ** 2, radii[rows, second, None] ** 2
    change = 2.0 / (mass_first + mass_second) * closing * normal
    v[rows, first] += mass_second * change
    v[rows, second] -= mass_first * change


def place(rng: np.random.Generator, radii: Float[Array, "N K"], box_size: float) -> Float[Array, "N K 2"]:
    """Draw random positions in the box at which no two balls overlap.

    Raises:
        DataError: the balls do not fit, or fit so tightly that random tries fail.
    """
    positions = np.zeros((*radii.shape, 2))
    todo = np.arange(len(radii))
    failures = 0
    while todo.size and failures < _PLACEMENT_FAILURES and 2 * radii.max() <= box_size:
        placed, fits = _try_to_place(rng, radii[todo], box_size)
        positions[todo[fits]] = placed[fits]
        todo = todo[~fits]
        failures = 0 if fits.any() else failures + 1
    if not todo.size:
        return positions
    raise DataError(
        f"could not place {int((radii > 0).sum(1).max())} balls of radius up to {radii.max():.2f} in "
        f"a box of side {box_size}: give a larger box_size, fewer balls (num_balls) or smaller ones (radii)"
    )


def _try_to_place(rng: np.random.Generator, radii: Array, box_size: float) -> tuple[Array, Array]:
    """Place one ball after another. Return the positions, and True for each video where all balls found room."""
    num_videos, num_balls = radii.shape
    positions = np.zeros((num_videos, num_balls, 2))
    fits = np.ones(num_videos, bool)
    for ball in range(num_balls):
        radius = radii[:, ball, None]
        open_videos = radii[:, ball] > 0
        for _ in range(_PLACEMENT_TRIES):
            if not open_videos.any():
                break
            proposal = radius + rng.random((num_videos, 2)) * (box_size - 2 * radius)
            distance = np.linalg.norm(positions[:, :ball] - proposal[:, None], axis=-1)
            clear = ((distance > radius + radii[:, :ball]) | (radii[:, :ball] == 0)).all(axis=1)
            chosen = open_videos & clear
            positions[chosen, ball] = proposal[chosen]
            open_videos &= ~clear
        fits &= ~open_videos
    return positions, fits


def draw_velocities(rng: np.random.Generator, present: Array, speed: tuple[float, float]) -> Float[Array, "N K 2"]:
    """Draw random directions and relative speeds. A video's mean speed over its balls is uniform in `speed`."""
    velocities = rng.normal(size=(*present.shape, 2)) * present[..., None]
    mean = np.linalg.norm(velocities, axis=-1).sum(1) / present.sum(1)
    return velocities * (rng.uniform(*speed, size=len(present)) / mean)[:, None, None]
