"""Simulate discs that slide on the floor with friction and collide, for many videos at once.

Letters: `N` videos, `K` objects, `T` frames. Lengths are in world units, times in frames, and angles in radians,
anticlockwise as seen from above. All objects have mass 1. An object of radius 0 is absent: it pads videos with fewer
objects.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Array = np.ndarray

_RESTITUTION = 0.8  # ratio of the speeds at which two objects separate and meet
_GRIP = 0.3  # maximum tangential impulse of a collision, relative to the impulse along the line of centres
_MOMENT = 0.5  # moment of inertia of a disc, relative to its radius squared


class State(NamedTuple):
    """The positions and velocities of objects at one time, or at each frame with a `T` axis after `N`."""

    positions: Float[Array, "*N K 2"]
    velocities: Float[Array, "*N K 2"]
    yaws: Float[Array, "*N K"]
    spins: Float[Array, "*N K"]
    """Angular velocities in radians per frame."""


def simulate(start: State, radii: Float[Array, "N K"], *, friction: float, num_frames: int) -> State:
    """Move discs from one collision to the next. They must not overlap at the start.

    Friction acts once per frame. Between frames, objects move in straight lines, so collisions are exact and discs
    never overlap. Each video has its own clock, as in `bouncing_balls.physics`.

    Args:
        start: the state at time 0.
        radii: radii of the discs.
        friction: loss of speed of a sliding object per frame.
        num_frames: the number of frames `T`.

    Returns:
        the state at times 0, 1, ..., num_frames - 1.
    """
    state = State(*(value.astype(np.float64) for value in start))
    record = State(*(np.repeat(value[:, None], num_frames, axis=1) for value in state))
    pairs = np.triu_indices(radii.shape[1], 1)
    clock = np.zeros(len(radii))  # time since the frame before
    frame = np.ones(len(radii), np.int64)  # the next frame to record
    running = np.flatnonzero(frame < num_frames)
    while running.size:
        now, size = State(*(value[running] for value in state)), radii[running]
        until_pairs = _time_to_pairs(now, size, pairs)
        pair = until_pairs.argmin(axis=1)
        until_pair = np.take_along_axis(until_pairs, pair[:, None], axis=1)[:, 0]
        collides = until_pair < 1 - clock[running]
        step = np.where(collides, until_pair, 1 - clock[running])
        now.positions[:] += step[:, None, None] * now.velocities
        now.yaws[:] += step[:, None] * now.spins

        rows = np.flatnonzero(collides)
        _collide(now, size, rows, pairs[0][pair[rows]], pairs[1][pair[rows]])
        _slow_down(now, size, np.flatnonzero(~collides), friction)
        for value, new in zip(state, now):
            value[running] = new
        clock[running] = np.where(collides, clock[running] + step, 0)
        shown = running[~collides]
        for past, value in zip(record, state):
            past[shown, frame[shown]] = value[shown]
        frame[shown] += 1
        running = running[frame[running] < num_frames]
    return record


def _time_to_pairs(now: State, radii: Array, pairs: tuple[Array, Array]) -> Float[Array, "N P"]:
    """The time until each pair of discs touches; infinite for pairs that never do, and in an extra last column."""
    first, second = pairs
    x = now.positions[:, second] - now.positions[:, first]
    v = now.velocities[:, second] - now.velocities[:, first]
    reach = radii[:, second] + radii[:, first]
    approach = -(x * v).sum(-1)
    gap = (x * x).sum(-1) - reach * reach
    discriminant = approach * approach - (v * v).sum(-1) * gap
    meets = (radii[:, second] > 0) & (radii[:, first] > 0) & (approach > 0) & (discriminant > 0)
    # This form of the smaller root stays exact when the discs almost touch. A gap below 0 by rounding counts as 0.
    root = approach + np.sqrt(np.maximum(discriminant, 0))
    times = np.divide(np.maximum(gap, 0), root, out=np.full_like(gap, np.inf), where=meets)
    return np.concatenate([times, np.full((len(radii), 1), np.inf)], axis=1)


def _collide(now: State, radii: Array, rows: Array, first: Array, second: Array) -> None:
    """Exchange momentum, in place, between a touching pair of discs in each of the videos `rows`.

    The impulse along the line of centres follows from the restitution. The tangential impulse stops the rims from
    sliding on each other, up to the limit of friction.
    """
    one, two = (rows, first), (rows, second)
    normal = now.positions[two] - now.positions[one]
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    tangent = np.stack([-normal[:, 1], normal[:, 0]], axis=-1)
    velocity = now.velocities[one] - now.velocities[two]
    push = (1 + _RESTITUTION) / 2 * (velocity * normal).sum(-1)
    slide = (velocity * tangent).sum(-1) + now.spins[one] * radii[one] + now.spins[two] * radii[two]
    rub = np.clip(slide / (2 + 2 / _MOMENT), -_GRIP * push, _GRIP * push)
    impulse = push[:, None] * normal + rub[:, None] * tangent
    now.velocities[one] -= impulse
    now.velocities[two] += impulse
    now.spins[one] -= rub / (_MOMENT * radii[one])
    now.spins[two] -= rub / (_MOMENT * radii[two])


def _slow_down(now: State, radii: Array, rows: Array, friction: float) -> None:
    """Apply one frame's friction with the floor, in place. Slow objects stop."""
    speeds = np.linalg.norm(now.velocities[rows], axis=-1)
    kept = np.maximum(1 - friction / np.maximum(speeds, 1e-12), 0)
    now.velocities[rows] *= kept[..., None]
    loss = friction / np.maximum(radii[rows], 1e-3)
    now.spins[rows] = np.sign(now.spins[rows]) * np.maximum(np.abs(now.spins[rows]) - loss, 0)
