"""Read the sampled futures of a decomposition, if its folder has any."""

import csv
import itertools
from collections.abc import Mapping

from stii_jax.inference.outputs import FUTURE_COLUMNS, FUTURES
from stii_jax.report.files import ReportError, is_number
from stii_jax.report.tracks.folder import DecomposedRecording

Point = list[float] | None
"""Centroid x and y, in pixels of the recording; None where the slot is not visible."""


def read_futures(found: DecomposedRecording) -> list[list[list[Point]]] | None:
    """Return the paths of every slot in every future, from the last observed frame on; None without futures.

    Raises:
        ReportError: `futures.csv` is missing, damaged, or does not fit the table.
    """
    count = found.summary.get("num_futures", 0)
    if not count:
        return None
    path = found.folder / FUTURES
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            columns, rows = tuple(reader.fieldnames or ()), list(reader)
        ahead = range(found.num_frames, found.num_frames + found.summary["num_predicted"])
        numbers = range(count) if is_number(count) else ()
        expected = itertools.product(map(str, numbers), map(str, ahead), map(str, range(found.num_slots)))
        fits = columns == FUTURE_COLUMNS and [(r["future"], r["frame"], r["object"]) for r in rows] == [*expected]
        points = [_point(row) for row in rows] if fits else []
    except (OSError, ValueError) as error:
        raise ReportError(f"{path} cannot be read ({error}): decompose the recording again") from error
    if not fits:
        raise ReportError(
            f"{path} does not have one row per future, frame and slot ({count} futures): decompose the recording again"
        )
    start = [_point(row) for row in found.rows[found.num_frames - 1]]
    per_frame, per_future = found.num_slots, found.num_slots * len(ahead)
    return [
        [[start[slot], *points[slot + future * per_future :: per_frame][: len(ahead)]] for future in numbers]
        for slot in range(found.num_slots)
    ]


def _point(row: Mapping[str, str]) -> Point:
    return [round(float(row[name]), 1) for name in ("centroid_x", "centroid_y")] if row["visible"] == "1" else None
