"""Read the masks and trajectories of a decomposed recording frame by frame, from this or another program.

A folder needs two files. `masks.npz` has an array `segmentation` (T H W, integers) with the mask's number at every
pixel. `trajectories.csv` has the columns frame, object, centroid_x and centroid_y, with one row per frame and object.
Masks that are not in the table are background, as are rows whose column `background` is 1. Rows whose column
`predicted` is 1 are skipped with their frames. `decomposition.json` may add `input_size`, `mask_scale` and
`frame_stride`.
"""

import contextlib
import csv
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from jaxtyping import Integer

from stii_jax.data.errors import DataError
from stii_jax.inference.output_folder import SUMMARY
from stii_jax.inference.outputs import ARCHIVE, TABLE

_NEEDED = ("frame", "object", "centroid_x", "centroid_y")


class ObservedFrame(NamedTuple):
    """The objects of one frame of a recording."""

    labels: Integer[np.ndarray, "H W"]
    """The number of the mask at every pixel."""
    centroids: dict[int, tuple[float, float]]
    """Position of every object by its number, in pixels of the recording; all other masks are background."""


class DecomposedFolder:
    """The folder of a decomposition.

    Args:
        path: see the module's docstring.

    Raises:
        DataError: a file is missing or cannot be read.
    """

    def __init__(self, path: Path):
        self.path = path
        self._table, predicted = _read_table(path / TABLE)
        with _open_masks(path / ARCHIVE) as (_, shape, self._dtype):
            self._shape = shape
        self.num_frames = shape[0] - len([frame for frame in predicted if frame < shape[0]])
        """Number of frames, without predicted ones."""
        summary = _read_summary(path / SUMMARY)
        self.scale = float(summary.get("mask_scale", 1))
        """Pixels of the recording per pixel of the masks."""
        self.width, self.height = summary.get("input_size", (shape[2] * self.scale, shape[1] * self.scale))
        self.stride = int(summary.get("frame_stride", 1))
        """Step between the decomposed frames of the recording."""
        self.facts = {key: summary[key] for key in ("input", "model", "workdir", "step", "num_slots") if key in summary}
        """The input and the model of the decomposition."""

    def __iter__(self) -> Iterator[ObservedFrame]:
        height, width = self._shape[1:]
        size = height * width * self._dtype.itemsize
        with _open_masks(self.path / ARCHIVE) as (file, *_):
            for number in range(self.num_frames):
                if len(data := file.read(size)) < size:
                    raise DataError(f"{self.path / ARCHIVE} ends in frame {number}: decompose the recording again")
                labels = np.frombuffer(data, self._dtype).reshape(height, width)
                yield ObservedFrame(labels, self._table.get(number, {}))


def is_decomposed(path: Path) -> bool:
    """True for a folder with masks and trajectories."""
    return (path / ARCHIVE).is_file() and (path / TABLE).is_file()


def _read_table(path: Path) -> tuple[dict[int, dict[int, tuple[float, float]]], set[int]]:
    """Read the objects of every frame, and the predicted frames."""
    table: dict[int, dict[int, tuple[float, float]]] = {}
    predicted = set[int]()
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in _NEEDED if name not in (reader.fieldnames or ())]:
            raise DataError(f"{path}, line 1: no column {missing[0]}: expected {', '.join(_NEEDED)}")
        for row in reader:
            try:
                frame, number = int(row["frame"]), int(row["object"])
                if row.get("predicted") == "1":
                    predicted.add(frame)
                elif row.get("background") != "1" and row["centroid_x"]:
                    place = float(row["centroid_x"]), float(row["centroid_y"])
                    table.setdefault(frame, {})[number] = place
            except (TypeError, ValueError) as error:
                raise DataError(f"{path}, line {reader.line_num}: expected numbers in {', '.join(_NEEDED)}") from error
    return table, predicted


@contextlib.contextmanager
def _open_masks(path: Path) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype]]:
    """Open the pixels of the masks as a stream, with their shape and type, since they may not fit into memory."""
    fix = "expected an archive of numpy.savez with `segmentation`, integers of shape T H W"
    try:
        with zipfile.ZipFile(path) as archive, archive.open("segmentation.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            if len(shape) != 3 or fortran or dtype.kind not in "iu":
                raise DataError(f"{path}: segmentation is {dtype} of shape {shape}: {fix}")
            yield file, shape, dtype
    except (KeyError, ValueError, zipfile.BadZipFile, zlib.error, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read ({error}): {fix}") from error


def _read_summary(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): decompose the recording again, or delete it") from error
    return content if isinstance(content, dict) else {}
