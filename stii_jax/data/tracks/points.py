"""Ground-truth point tracks from a CSV file.

The file has one row per frame and object, with x and y or with the x and y of several named points. Or it has one row
per frame, with columns for every object. Columns are chosen by name (`stii_jax.data.tracks.columns`). MOTChallenge
files, which have no column names, are recognised. Cells may be empty, frames may be missing, and rows may be in any
order. Positions are in pixels of the recording's full frame, from 0 to its width.
"""

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from jaxtyping import Bool, Float, Integer

from stii_jax.data.errors import DataError
from stii_jax.data.tracks.columns import OPTIONS, Layout, choose_layout

_MISSING = ("", "nan", "na", "n/a", "none", "null", "-")
_HEADER_LINES = 8
_MAX_CELLS = 2 * 10**7
"""Limit on frames times objects times points. A file with more probably has its objects in another column."""
_TOLERANCE = 0.1
"""Fraction of a frame's side by which a point may lie outside: trackers extrapolate a little."""


class PointTracks(NamedTuple):
    """The labelled frames of a recording."""

    path: Path
    objects: tuple[str, ...]
    frames: Integer[np.ndarray, " F"]
    """Numbers of the labelled frames in the recording, increasing, as the file counts them."""
    first_frame: int | None
    """Number of the recording's first frame in the file, if the user or the format specifies it."""
    points: Float[np.ndarray, "F N 2"]
    """The point of every object that has to lie in its mask; NaN where it is missing."""
    centres: Float[np.ndarray, "F N 2"]
    """The true centres; NaN where the point is missing."""
    lengths: Float[np.ndarray, "F N"]
    """Pixels between the two centre points that are farthest apart, or a box's longer side; NaN if unknown."""
    lines: Integer[np.ndarray, "F N"]
    """The file's line, from 1; 0 for an object that the file lacks in a frame."""
    text: str
    """One line for the user that describes how the file was read."""

    @property
    def present(self) -> Bool[np.ndarray, "F N"]:
        """True where an object is labelled."""
        return ~np.isnan(self.points[..., 0])

    @property
    def body_length(self) -> float:
        """The median length of an object in pixels; NaN if it is unknown."""
        known = self.lengths[np.isfinite(self.lengths)]
        return float(np.median(known)) if len(known) else math.nan


def parse_options(given: Sequence[str]) -> dict[str, str]:
    """Return the items of `--track_options` by key.

    Raises:
        DataError: an item is not of the form key=value, its key is unknown, or its value must be a number but is not.
    """
    options = {}
    for item in filter(None, (item.strip() for item in given)):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not value:
            raise DataError(f"--track_options has {item!r}: give key=value, with keys {', '.join(OPTIONS)}")
        if key not in OPTIONS:
            raise DataError(f"--track_options has an unknown key {key!r}: keys are {', '.join(OPTIONS)}")
        options[key] = value
    if options.get("first_frame", "0") not in ("0", "1"):
        raise DataError(f"--track_options has first_frame={options['first_frame']}, expected 0 or 1")
    for key in ("body_length", "match", "reach"):
        if not 0 < _number(options.get(key, "1")) < math.inf:
            raise DataError(f"--track_options has {key}={options[key]}, expected a number above 0")
    return options


def read_tracks(path: Path, options: Mapping[str, str]) -> PointTracks:
    """Read a CSV file of tracks.

    Args:
        path: the file; cells are separated by commas, semicolons, tabs or spaces.
        options: see `parse_options`.

    Raises:
        DataError: the file cannot be read as tracks. The message names the file, the line and a fix.
    """
    rows = list(_rows(path))
    try:
        layout = choose_layout([cells for _, cells in rows[:_HEADER_LINES]], options)
    except DataError as error:
        raise DataError(f"{path}, line 1 (header): {error}") from error
    if len(rows) <= layout.skip:
        raise DataError(f"{path} has no line of data: expected a frame, an object and a position per line")
    table = _Table(path, layout)
    for line, cells in rows[layout.skip :]:
        table.add(line, cells)
    first = options.get("first_frame")
    return table.tracks(layout.first_frame if first is None else int(first))


def place_in_recording(tracks: PointTracks, num_frames: int, width: int, height: int) -> PointTracks:
    """Number the frames from 0, and check that the tracks fit the recording.

    If neither the user nor the format specifies the first frame, it is 1 if the labels then end with the recording,
    else 0.

    Args:
        tracks: as read.
        num_frames: number of the recording's frames.
        width: width of the recording, in pixels.
        height: height of the recording, in pixels.

    Raises:
        DataError: a frame or a point lies outside the recording.
    """
    first, how = tracks.first_frame, ""
    if first is None:
        first = int(tracks.frames[0] >= 1 and tracks.frames[-1] == num_frames)
        how = " (guessed: set it with --track_options=first_frame=0 or 1)" * int(tracks.frames[0] >= 1)
    placed = tracks._replace(frames=tracks.frames - first)
    for place in (0, -1):
        frame = int(tracks.frames[place])
        if not first <= frame < num_frames + first:
            raise DataError(
                f"{tracks.path}, line {_line(tracks, place)}: frame {frame}, but the recording has frames {first} to "
                f"{num_frames + first - 1}: give the tracks of this recording, or "
                f"--track_options=first_frame={1 - first}"
            )
    for axis, side in ((0, width), (1, height)):
        values = tracks.points[..., axis]
        wrong = (values < -_TOLERANCE * side) | (values > (1 + _TOLERANCE) * side)
        if wrong.any():
            frame, number = (int(index[0]) for index in np.nonzero(wrong))
            raise DataError(
                f"{tracks.path}, line {tracks.lines[frame, number]}: {'xy'[axis]} is {values[frame, number]:g}, but "
                f"frames have {width}x{height} pixels: give positions in pixels of the full frame"
            )
    span = f"frames {tracks.frames[0]} to {tracks.frames[-1]}, counted from {first}{how}"
    return placed._replace(text=f"{tracks.text}; {span}", first_frame=0)


def _line(tracks: PointTracks, place: int) -> int:
    lines = tracks.lines[place]
    return int(lines[lines > 0].min())


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the file's lines with their numbers, split into cells; empty lines are skipped."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): give a CSV file of tracks") from error
    if b"\0" in data:
        raise DataError(f"{path} is not a text file in UTF-8: give a CSV file of tracks")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:  # older programs write units such as micrometres in Latin-1
        text = data.decode("latin-1")
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    if not first:
        raise DataError(f"{path} is empty: give a CSV file of tracks")
    separator = max(",;\t ", key=first.count) if first.count(",") == 0 else ","
    for number, line in enumerate(lines, 1):
        if line.strip(f"{separator} \t"):
            line = line if separator == "\t" else line.strip()  # keeps an empty first cell
            yield number, next(csv.reader([line], skipinitialspace=True, delimiter=separator))


class _Table:
    """The rows of the file, by frame and object."""

    def __init__(self, path: Path, layout: Layout):
        self._path, self._layout = path, layout
        self._points: dict[tuple[int, str], Float[np.ndarray, "P 2"]] = {}
        self._lines: dict[tuple[int, str], int] = {}
        self._sizes: dict[tuple[int, str], float] = {}
        self._names = list(dict.fromkeys(place.name for place in layout.places))

    def add(self, line: int, cells: Sequence[str]) -> None:
        """Add one line."""
        layout, width = self._layout, len(cells)
        needed = {layout.frame, *([] if layout.object is None else [layout.object])}
        needed |= {column for place in layout.places for column in (place.x, place.y, *(place.size or ()))}
        if max(needed) >= width:
            self._fail(line, f"{width} cells, expected {max(needed) + 1} or more: complete the line")
        if layout.ignored is not None and layout.ignored < width and _number(cells[layout.ignored]) == 0:
            return
        frame = self._frame(line, cells[layout.frame])
        whole = "" if layout.object is None else self._object(line, cells[layout.object])
        seen = set[str]()
        for place in layout.places:
            name = whole if place.object is None else place.object
            key = (frame, name)
            if name not in seen and key in self._lines:
                self._fail(
                    line,
                    f"frame {frame} of object {name!r} is already on line {self._lines[key]}: delete one, or name the "
                    "object's column with --track_options=object=COLUMN",
                )
            if name not in seen:
                seen.add(name)
                self._lines[key] = line
                self._points[key] = np.full((len(self._names), 2), np.nan)
            x, y = self._cell(line, cells[place.x]), self._cell(line, cells[place.y])
            if math.isnan(x) != math.isnan(y):
                self._fail(line, f"{'y' if math.isnan(y) else 'x'} is missing: give both x and y, or neither")
            if place.size is not None:
                size = [self._cell(line, cells[column]) for column in place.size]
                x, y, self._sizes[key] = x + size[0] / 2, y + size[1] / 2, max(size)
            self._points[key][self._names.index(place.name)] = (x - layout.offset, y - layout.offset)

    def tracks(self, first_frame: int | None) -> PointTracks:
        """Return the tracks of all lines added so far."""
        layout, shape = self._layout, len(self._names)
        frames = sorted({frame for frame, _ in self._lines})
        objects = list(dict.fromkeys(name for _, name in self._lines))
        if len(frames) * len(objects) * shape > _MAX_CELLS:
            raise DataError(
                f"{self._path} has {len(objects)} objects in {len(frames)} frames: name the column of the object with "
                "--track_options=object=COLUMN"
            )
        if not frames:
            raise DataError(f"{self._path} has no usable line: the seventh cell is 0 in all, so all are ignored")
        every = np.full((len(frames), len(objects), shape, 2), np.nan)
        lines, sizes = np.zeros(every.shape[:2], int), np.full(every.shape[:2], np.nan)
        rows, columns = {frame: row for row, frame in enumerate(frames)}, {name: n for n, name in enumerate(objects)}
        for (frame, name), points in self._points.items():
            where = rows[frame], columns[name]
            every[where], lines[where] = points, self._lines[frame, name]
            sizes[where] = self._sizes.get((frame, name), np.nan)
        body = every[:, :, [self._names.index(name) for name in layout.centre]]
        centres, spread = _mean(body), _extent(body)
        point = layout.point or self._most_central(every, centres)
        points = every[:, :, self._names.index(point)]
        there = ~np.isnan(points[..., :1])
        if not there.any():
            raise DataError(f"{self._path} has no position of {point or 'any object'}: give tracks with positions")
        centres = np.where(there, np.where(np.isnan(centres), points, centres), np.nan)
        text = f"{self._path.name}: {layout.text}" + f"; {point} has to lie in the mask" * (shape > 1)
        lengths = np.where(np.isnan(sizes), spread, sizes)
        return PointTracks(
            self._path, tuple(objects), np.array(frames), first_frame, points, centres, lengths, lines, text
        )

    def _most_central(self, every: Float[np.ndarray, "F N P 2"], centres: Float[np.ndarray, "F N 2"]) -> str:
        """The name of the point whose median distance from the centre is smallest."""
        distances = np.linalg.norm(every - centres[:, :, None], axis=-1).reshape(-1, len(self._names))
        known = ~np.isnan(distances)
        medians = [np.median(column[there]) if there.any() else math.inf for column, there in zip(distances.T, known.T)]
        return self._names[int(np.argmin(medians))]

    def _frame(self, line: int, cell: str) -> int:
        if image := re.search(r"(\d+)\.(png|jpe?g|tiff?|bmp)$", cell.strip(), re.IGNORECASE):
            return int(image[1])
        number = _number(cell)
        if not math.isfinite(number) or number != int(number) or number < 0:
            self._fail(
                line,
                f"the frame is {cell!r}, expected a whole number from 0: correct it, or name the frame's "
                "column with --track_options=frame=COLUMN",
            )
        return int(number)

    def _object(self, line: int, cell: str) -> str:
        if cell.strip().lower() in _MISSING:
            self._fail(line, "the object is missing: name it, or delete the line")
        number = _number(cell)
        return str(int(number)) if math.isfinite(number) and number == int(number) else cell.strip()

    def _cell(self, line: int, cell: str) -> float:
        if cell.strip().lower() in _MISSING:
            return math.nan
        number = _number(cell)
        if not math.isfinite(number):
            self._fail(line, f"{cell!r} is not a position: write a number, or leave the cell empty")
        return number

    def _fail(self, line: int, text: str) -> NoReturn:
        raise DataError(f"{self._path}, line {line}: {text}")


def _number(cell: str) -> float:
    """The number in a cell; NaN if there is none."""
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _mean(points: Float[np.ndarray, "F N P 2"]) -> Float[np.ndarray, "F N 2"]:
    """The mean of the known points; NaN if there is none."""
    known = ~np.isnan(points)
    with np.errstate(invalid="ignore"):
        return np.where(known, points, 0).sum(axis=2) / known.sum(axis=2)


def _extent(points: Float[np.ndarray, "F N P 2"]) -> Float[np.ndarray, "F N"]:
    """The largest distance between two points; NaN if there are fewer than two."""
    apart = np.linalg.norm(points[:, :, :, None] - points[:, :, None], axis=-1)
    largest = np.where(np.isnan(apart), -1, apart).max(axis=(2, 3), initial=-1)
    return np.where(largest > 0, largest, np.nan)
