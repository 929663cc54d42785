"""Link the detections of successive frames: give them object numbers."""

import itertools
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from stii_jax.data.errors import DataError

Places = Sequence[Float[np.ndarray, "_ 2"]]
Numbers = list[Int[np.ndarray, " _"]]


class Link(NamedTuple):
    """Settings of a linker."""

    reach: float
    """Maximum displacement of an object from one frame to the next, in pixels."""
    memory: int
    """Number of frames for which an undetected object keeps its number."""


def nearest(places: Places, setting: Link) -> Numbers:
    """Link each detection to the nearest object, minimizing the sum of distances."""
    last: dict[int, tuple[np.ndarray, int]] = {}
    numbers, unused = Numbers(), 0
    for t, found in enumerate(places):
        last = {number: (at, when) for number, (at, when) in last.items() if t - when <= setting.memory + 1}
        known, own = list(last), np.full(len(found), -1)
        if known and len(found):
            before = np.array([last[number][0] for number in known])
            distances = np.linalg.norm(before[:, None] - found, axis=-1)
            for row, column in zip(*linear_sum_assignment(np.minimum(distances, 10 * setting.reach))):
                if distances[row, column] <= setting.reach:
                    own[column] = known[row]
        fresh = np.flatnonzero(own < 0)
        own[fresh] = np.arange(unused, unused + len(fresh))
        unused += len(fresh)
        last |= {int(number): (at, t) for number, at in zip(own, found)}
        numbers.append(own)
    return numbers


def trackpy(places: Places, setting: Link) -> Numbers:
    """Link with trackpy, the algorithm of Crocker and Grier. Raises `DataError` for too many candidates."""
    import trackpy as library

    library.quiet()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            linked = list(library.link_iter(list(places), setting.reach, memory=setting.memory))
        except library.SubnetOversizeException as error:
            raise DataError(f"trackpy cannot link so many detections within {setting.reach:g} pixels") from error
    return [np.array(numbers, int) for _, numbers in linked]


LINKERS = {"nearest": nearest, "trackpy": trackpy}


def grid(side: int) -> Iterator[Link]:
    """Yield the settings to try, the default ones first, for frames with a longer side of `side` pixels."""
    for share, memory in itertools.product((0.1, 0.05, 0.2), (5, 0, 30)):
        yield Link(share * side, memory)
