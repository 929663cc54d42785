"""COCO's compressed run-length encoding of masks, in its text form for JSON files."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from stii_jax.data.errors import DataError

_MOST_DIGITS = 7  # maximum digits per number, five bits each: enough for images of less than 2**34 pixels


def decode(code: str, height: int, width: int) -> Bool[np.ndarray, "H W"]:
    """Decode a mask.

    Runs go down the columns, starting with background. From the third on, each number is the difference from the run
    two places before. Numbers are in digits of five bits, lowest first, in two's complement.

    Raises:
        DataError: the code does not describe a mask of this size. The message does not name its source.
    """
    runs: list[int] = []
    covered = 0
    for number in _numbers(code):
        run = number + (runs[-2] if len(runs) > 2 else 0)
        covered += run
        if run < 0 or covered > height * width:
            raise DataError(f"run {len(runs)} has {run} pixels, which does not fit a {width}x{height} mask")
        runs.append(run)
    if covered != height * width:
        raise DataError(f"the runs have {covered} pixels, not the {height * width} of a {width}x{height} mask")
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return columns.reshape(width, height).T


def _numbers(code: str) -> Iterator[int]:
    number = num_digits = 0
    for character in code:
        digit = ord(character) - 48
        if not 0 <= digit < 64:
            raise DataError(f"{character!r} is not a digit of a run-length code")
        number |= (digit & 31) << (5 * num_digits)
        num_digits += 1
        if digit & 32:  # more digits follow
            if num_digits == _MOST_DIGITS:
                raise DataError("a number of the run-length code does not end")
            continue
        if digit & 16:
            number -= 1 << (5 * num_digits)
        yield number
        number = num_digits = 0
    if num_digits:
        raise DataError("the run-length code is truncated")
