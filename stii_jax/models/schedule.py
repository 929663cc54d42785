"""The ragged grid of refinements."""

from collections.abc import Sequence

import numpy as np

SCHEDULES = {
    # Refinements of frame t, counted from 0, for budget R. Each frame ends with one decode that is not refined.
    "paper": lambda t, budget: max(budget - t - 1, 1),  # Eq. 3, which counts frames from 1
    "provide": lambda t, budget: max(budget - t - 1, 1),  # the same: max(R - t, 2) decodes per frame
    "triangular": lambda t, budget: max(budget - t, 1),  # the paper's with R + 1
    "constant": lambda t, budget: budget,
}


def refinement_schedule(num_frames: int, budget: int, kind: str = "triangular", start: int = 0) -> tuple[int, ...]:
    """Return R_t (equation 9; paper 3.2.2) for frames `start` to `start + num_frames - 1`, counted from 0."""
    return tuple(SCHEDULES[kind](t, budget) for t in range(start, start + num_frames))


def refinement_weights(schedule: Sequence[int], budget: int, kind: str = "frame") -> np.ndarray:
    """Return the loss weights of decodes (equation 10; the paper's Eq. 3), of shape `T max(R_t) + 1`.

    The last column is the last decode. "frame" weighs r / n_t with n_t = R_t + 1 decodes. "budget" weighs r / R, so
    that late frames weigh less; this is at most 1 if no frame has more than R decodes (see `decodes_fit`). Missing
    decodes weigh 0.
    """
    weights = np.zeros((len(schedule), max(schedule) + 1), np.float32)
    for row, refinements in zip(weights, schedule):
        decodes = refinements + 1
        values = np.arange(1, decodes + 1) / (decodes if kind == "frame" else budget)
        row[:refinements], row[-1] = values[:-1], values[-1]
    return weights


def decodes_fit(budget: int, kind: str) -> bool:
    """True if no frame has more than R decodes."""
    return SCHEDULES[kind](0, budget) + 1 <= budget


def segments(schedule: Sequence[int]) -> list[tuple[int, int]]:
    """Split frames into a head, where R_t changes, and a tail, where it is constant: `(start, stop)`.

    A segment is compiled once and allocates its largest R_t for each of its frames. A clip therefore stays in one piece
    unless that would allocate more than twice its number of cells.
    """
    if len(schedule) * max(schedule) <= 2 * sum(schedule):
        return [(0, len(schedule))]
    tail = next(t for t in range(len(schedule)) if len(set(schedule[t:])) == 1)
    return [(0, tail), (tail, len(schedule))] if tail else [(0, len(schedule))]


def num_cells(schedule: Sequence[int]) -> int:
    """Return the number of refined cells (t, r) of one video."""
    return sum(schedule)
