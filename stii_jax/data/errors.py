"""The errors of the data package, and the wording of the most common one."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from stii_jax.errors import UserError


class DataError(UserError, ValueError):
    """A dataset that cannot be found, built, opened or read as requested. The message says what to change."""


class DamageError(DataError):
    """A file that can only be read up to a point: it is truncated, or some of its bytes are corrupt."""

    def __init__(self, path: Path, num_frames: int, reason: str):
        super().__init__(f"{path} is damaged after {num_frames} frames: {reason}")
        self.num_frames = num_frames


REBUILD = "Delete the folder, or rebuild it with `python -m stii_jax.data.build ... --overwrite`."
"""The advice for a dataset whose files are damaged."""


def unknown(kind: str, given: object, known: Iterable[str]) -> DataError:
    """The error for a name that is not in a table. It suggests a known name if one is similar.

    Args:
        kind: the kind of name, as worded in the message ("dataset", "option of bouncing_balls").
        given: the name that was not found.
        known: the names that would have been accepted.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(given), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return DataError(f"unknown {kind} {given!r}{hint} Known: {', '.join(names)}.")
