"""COCO's compressed run-length code of a mask, as the text that JSON files hold."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from stii_jax.data.errors import DataError

_MOST_DIGITS = 7  # of a number, five bits each: runs of any picture of less than 2**34 pixels


def decode(code: str, height: int, width: int) -> Bool[np.ndarray, "H W"]:
    """The mask that a code stands for.

    Runs go down the columns, the first over background. From the third on each is the difference to the run two
    before; a number is in digits of five bits, lowest first, two's complement.

    Raises:
        DataError: the code is not that of a mask of this size; says why, but not where it came from.
    """
    runs: list[int] = []
    covered = 0
    for number in _numbers(code):
        run = number + (runs[-2] if len(runs) > 2 else 0)
        covered += run
        if run < 0 or covered > height * width:
            raise DataError(f"its run {len(runs)} has {run} pixels, which a {width}x{height} mask cannot have")
        runs.append(run)
    if covered != height * width:
        raise DataError(f"its runs have {covered} pixels, not the {height * width} of a {width}x{height} mask")
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return columns.reshape(width, height).T


def _numbers(code: str) -> Iterator[int]:
    number = num_digits = 0
    for character in code:
        digit = ord(character) - 48
        if not 0 <= digit < 64:
            raise DataError(f"{character!r} is no digit of a run-length code")
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
        raise DataError("the run-length code is cut short")
