"""Read a decomposition's folder: facts, table, masks, and the frames of its recording."""

import csv
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from stii_jax.data.errors import DamageError
from stii_jax.data.video.footage import open_footage
from stii_jax.inference.output_folder import SUMMARY
from stii_jax.inference.outputs import COLUMNS, IMAGES, TABLE
from stii_jax.report.files import ReportError, is_number, need, read_json
from stii_jax.visualization.regions import Box

Row = Mapping[str, str]


class DecomposedRecording(NamedTuple):
    """A decomposition and its recording."""

    folder: Path
    recording: Path
    summary: Mapping[str, Any]
    """The content of `decomposition.json`."""
    table: str
    """The text of `trajectories.csv`; for a tiled recording, padded with rows for objects that appear later."""
    rows: Sequence[Sequence[Row]]
    """The table's rows, by frame and slot."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the recording, in pixels."""
        width, height = self.summary["input_size"]
        return width, height

    @property
    def num_slots(self) -> int:
        """Number of rows per frame: the slots, or for a tiled recording the background and all objects."""
        return _num_slots(self.summary)

    @property
    def num_frames(self) -> int:
        """Number of decomposed frames of the recording; predicted frames follow."""
        return self.summary["num_frames"]

    def labels(self, number: int) -> UInt8[np.ndarray, "H W"]:
        """Return the slot of every pixel of a frame; see `regions.Labels`."""
        path = self.folder / IMAGES / f"{number:06}.png"
        try:
            with Image.open(path) as image:
                return np.asarray(image)
        except (OSError, SyntaxError) as error:
            raise ReportError(f"{path} cannot be read ({error}): decompose the recording again") from error

    def boxes(self, number: int) -> dict[int, Box]:
        """Return the boxes of the visible objects of a frame, in pixels of the recording, by slot."""
        visible = (row for row in self.rows[number] if row["visible"] == "1" and row["background"] == "0")
        sides = ("left", "top", "right", "bottom")
        return {int(row["object"]): tuple(round(float(row[side])) for side in sides) for row in visible}  # type: ignore[misc]

    def frames(self, every: int) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """Read every `every`-th decomposed frame.

        Raises:
            ReportError: the recording is not the one that was decomposed.
            DataError: it cannot be read.
        """
        limits = self.summary.get("value_range")
        footage = open_footage(self.recording, (limits[0], limits[1]) if limits else None, progress="range of values")
        stride, count = self.summary["frame_stride"], 0
        try:
            for number, frame in enumerate(footage.frames()):
                if number % stride or count == self.num_frames:
                    continue
                if frame.pixels.shape[1::-1] != self.size:
                    sizes = ["{}x{}".format(*size) for size in (frame.pixels.shape[1::-1], self.size)]
                    raise self._other(f"its frames have {sizes[0]} pixels, not {sizes[1]}")
                if count % every == 0:
                    yield frame.pixels
                count += 1
        except DamageError:
            pass  # the decomposition also ended there
        if count < self.num_frames:
            raise self._other(f"it has {count} frames, not {self.num_frames}")

    def _other(self, difference: str) -> ReportError:
        return ReportError(
            f"{self.recording} is not the recording of {self.folder}: {difference}: give --recording, the video that "
            "was decomposed"
        )


def open_decomposition(folder: Path, recording: Path | None = None) -> DecomposedRecording:
    """Open the folder that `--mode decompose` wrote.

    Args:
        folder: the folder.
        recording: the decomposed video; None uses the path recorded in `folder`.

    Raises:
        ReportError: a file is missing, damaged, or does not fit the others.
    """
    path = folder / SUMMARY
    summary = read_json(path)
    numbers = ["num_frames", "num_predicted", "num_slots", "background_slot", "frame_stride", "mask_scale", "fps"]
    for key in numbers + ["num_objects"] * ("num_objects" in summary):
        if not is_number(need(path, summary, key)) or summary[key] < 0:
            raise ReportError(f"{path}: `{key}` is {summary[key]!r}, expected a number")
    for key, length in (("input_size", 2), ("view_box", 4), ("value_range", 2)):
        value = need(path, summary, key)
        valid = isinstance(value, list) and len(value) == length and all(map(is_number, value))
        if not valid and (key != "value_range" or value is not None):
            raise ReportError(f"{path}: `{key}` is {value!r}, expected {length} numbers")
    source = recording or Path(str(need(path, summary, "input")))
    if not source.exists():
        raise ReportError(f"{source}, the recording of {folder}, does not exist: give its path with --recording")
    table = _read_table(folder / TABLE)
    if "num_objects" in summary:
        table = _filled(table, _num_slots(summary))
    return DecomposedRecording(folder, source, summary, table, _rows(folder / TABLE, table, summary))


def _read_table(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError as error:
        raise ReportError(f"{path}: no such file") from error
    except ValueError as error:
        raise ReportError(f"{path}: not a text file ({error})") from error


def _rows(path: Path, table: str, summary: Mapping[str, Any]) -> list[list[Row]]:
    """Return the rows of a table, by frame and slot."""
    reader = csv.DictReader(io.StringIO(table))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ReportError(f"{path} does not have the columns {', '.join(COLUMNS)}: decompose the recording again")
    rows: list[Row] = list(reader)
    num_slots = _num_slots(summary)
    num_frames = summary["num_frames"] + summary["num_predicted"]
    expected = [(str(frame), str(slot)) for frame in range(num_frames) for slot in range(num_slots)]
    if [(row["frame"], row["object"]) for row in rows] != expected:
        raise ReportError(
            f"{path} does not have one row per frame and slot ({num_frames} frames, {num_slots} rows each): decompose "
            "the recording again"
        )
    return [rows[start : start + num_slots] for start in range(0, len(rows), num_slots)]


def _num_slots(summary: Mapping[str, Any]) -> int:
    return 1 + summary["num_objects"] if "num_objects" in summary else summary["num_slots"]


def _filled(table: str, num_objects: int) -> str:
    """Pad every frame of a table with rows for objects that appear later."""
    head, *lines = table.splitlines()
    filled = [head]
    for _, group in itertools.groupby(lines, key=lambda line: line.partition(",")[0]):
        rows = list(group)
        frame, time, *_, predicted = rows[0].split(",")
        absent = range(len(rows), num_objects)
        filled += [*rows, *(f"{frame},{time},{number},0,,,0,,,,,,0,{predicted}" for number in absent)]
    return "".join(f"{line}\n" for line in filled)
