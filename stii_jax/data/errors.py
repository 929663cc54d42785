"""The errors of the data part, and the wording of the commonest case."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from stii_jax.errors import UserError


class DataError(UserError, ValueError):
    """A dataset cannot be named, built, opened or read as asked; the message says what to change."""


class DamageError(DataError):
    """A file is good up to a point: it was cut short, or some of its bytes are wrong."""

    def __init__(self, path: Path, num_frames: int, reason: str):
        super().__init__(f"{path} is damaged after {num_frames} frames: {reason}")
        self.num_frames = num_frames


REBUILD = "Delete the folder, or rebuild it with `python -m stii_jax.data.build ... --overwrite`."
"""What to do about a dataset whose files are damaged."""


def unknown(kind: str, given: object, known: Iterable[str]) -> DataError:
    """The error for a name that is not in a table, with the nearest known name if one is near.

    Args:
        kind: what the name stands for, as the message says it ("dataset", "option of bouncing_balls").
        given: the name that was not found.
        known: the names that would have been accepted.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(given), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return DataError(f"unknown {kind} {given!r}{hint} Known: {', '.join(names)}.")
