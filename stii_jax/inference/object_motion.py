"""Predict where the objects of a recording go, from where they were. Needs no jax."""

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from stii_jax.visualization.regions import OUTSIDE, Canvas, Labels

MEMORY = 60
"""Number of last frames in which the error of predictions is measured."""
HORIZON = 10
"""Number of frames ahead for which it is measured."""
STEPS = 5
"""Number of displacements from one frame to the next whose mean is the velocity. A single one is noisier."""


class Place(NamedTuple):
    """The centroid of an object in one frame, in units of the view's height and width, from -1/2 to 1/2."""

    y: float
    x: float


class ObjectMotion:
    """The motion of a recording's objects: observed frame by frame, then predicted at constant velocity."""

    def __init__(self) -> None:
        self._frames = deque[Mapping[int, Place]](maxlen=MEMORY)
        self._rng: np.random.Generator | None = None
        self._noise = 0.0
        self._moves: np.ndarray | None = None
        self._velocity = np.zeros((0, 2))

    @property
    def _numbers(self) -> list[int]:
        return [*self._frames[-1]] if self._frames else []

    def forget(self) -> None:
        """Begin another scene."""
        self._frames.clear()

    def see(self, places: Mapping[int, Place]) -> None:
        """Add an observed frame: the places of its objects, by number."""
        self._frames.append(places)

    def sample(self, seed: int, number: int) -> None:
        """Make the predictions one of the possible futures: velocities change at random from frame to frame.

        After `HORIZON` frames, half of the futures are as far from the prediction as the true positions were in half of
        the last `MEMORY` frames.
        """
        self._rng = np.random.default_rng([seed, number])
        self._noise = _noise(_series(self._frames, self._numbers))

    def next(self) -> dict[int, tuple[float, float]]:
        """Predict one further frame: how far each object of the last observed frame has moved since, in y and x."""
        numbers = self._numbers
        if self._moves is None:
            self._moves, self._velocity = np.zeros((len(numbers), 2)), _velocity(_series(self._frames, numbers))
        if self._rng is not None:
            self._velocity += self._noise * self._rng.standard_normal(self._velocity.shape)
        self._moves = self._moves + self._velocity
        return {number: (float(y), float(x)) for number, (y, x) in zip(numbers, self._moves)}


def place_of(mask: Bool[np.ndarray, "h w"]) -> Place:
    """Return the place of a mask, which is not empty."""
    (height, width), (rows, columns) = mask.shape, np.nonzero(mask)
    return Place(float((rows.mean() + 0.5) / height - 0.5), float((columns.mean() + 0.5) / width - 0.5))


def moved(labels: Labels, moves: Mapping[int, tuple[float, float]], canvas: Canvas) -> Labels:
    """Return the labels after every object has moved, by its number; smaller objects are in front.

    Objects without a move, and pixels that leave the view, vanish. The background is 0.
    """
    old, certainty = (array[canvas.place] for array in labels)
    slots, sure = np.zeros_like(old), np.where(old == 0, certainty, np.float32(1))
    height, width = old.shape
    areas = np.bincount(old.ravel(), minlength=256)
    for number in sorted(moves, key=lambda number: -areas[number]):
        dy, dx = moves[number]
        y, x = np.nonzero(old == number)
        to_y, to_x = y + round(dy * height), x + round(dx * width)
        inside = (to_y >= 0) & (to_y < height) & (to_x >= 0) & (to_x < width)
        target = to_y[inside], to_x[inside]
        slots[target], sure[target] = number, certainty[y[inside], x[inside]]
    after = Labels(np.full_like(labels.slots, OUTSIDE), np.zeros_like(labels.certainty))
    after.slots[canvas.place], after.certainty[canvas.place] = slots, sure
    return after


def _series(frames: Collection[Mapping[int, Place]], numbers: Sequence[int]) -> Float[np.ndarray, "T K 2"]:
    """The places of these objects; NaN where an object is absent."""
    series = np.full((len(frames), len(numbers), 2), np.nan)
    for time, places in enumerate(frames):
        for row, number in enumerate(numbers):
            series[time, row] = places.get(number, np.nan)
    return series


def _velocity(series: Float[np.ndarray, "T K 2"]) -> Float[np.ndarray, "K 2"]:
    """The mean displacement per frame at the end of a series; 0 for an object without any."""
    steps = np.diff(series[-STEPS - 1 :], axis=0)
    seen = np.isfinite(steps)
    return np.where(seen, steps, 0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)


def _noise(series: Float[np.ndarray, "T K 2"]) -> float:
    """The standard deviation of each frame's change of velocity, in y and in x; see `ObjectMotion.sample`."""
    if (ahead := min(HORIZON, len(series) - 2)) < 1:
        return 0.0
    starts = range(2, len(series) - ahead + 1)
    errors = [series[t + ahead - 1] - series[t - 1] - ahead * _velocity(series[:t]) for t in starts]
    distances = np.linalg.norm(np.array(errors).reshape(-1, 2), axis=1)
    if not np.isfinite(distances).any():
        return 0.0
    # The change of frame i moves an object by itself in each of the frames from i on.
    growth = math.sqrt((np.arange(1, ahead + 1) ** 2).sum())
    return float(np.nanmedian(distances)) / math.sqrt(2 * math.log(2)) / growth
