"""The files of a decomposed video, written frame by frame in memory that its length does not change.

Each class writes one of them and is a context manager that ends it. Nothing is seen of them before all is whole: they
are written to a folder of `replacing`.
"""

import abc
import contextlib
import csv
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from stii_jax.data.errors import DataError
from stii_jax.data.pyav import Encoder
from stii_jax.writers import Picture, join_gif, quantize

Box = tuple[int, int, int, int]

OVERLAY, ANIMATION, ARCHIVE, IMAGES, TABLE = "overlay.mp4", "overlay.gif", "masks.npz", "masks", "trajectories.csv"
SUMMARY = "decomposition.json"
"""Moved last: where it is, all is."""
NAMES = (OVERLAY, ANIMATION, ARCHIVE, IMAGES, TABLE, SUMMARY)
MAX_ANIMATED = 300
"""Frames of the GIF at most: it is kept in memory, and is large."""
COLUMNS = (
    *("frame", "object", "centroid_x", "centroid_y", "area", "left", "top", "right", "bottom"),
    *("background", "predicted"),
)


@contextlib.contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """A folder to write to; at the end its files replace those in `output`, or vanish if there was an error.

    Raises:
        DataError: `output` has masks that no earlier decomposition has left.
        OSError: `output` cannot be written to.
    """
    if (output / IMAGES).exists() and not (output / SUMMARY).exists():
        raise DataError(f"{output / IMAGES} is there already, and of no decomposition: give another --output")
    folder = output / ".unfinished"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    try:
        yield folder
        os.sync()  # names must not reach the disk before contents
        written = sorted(folder.iterdir(), key=lambda path: path.name == SUMMARY)
        (output / SUMMARY).unlink(missing_ok=True)
        for path in written:
            if (target := output / path.name).is_dir():
                target.rename(folder / f"old_{path.name}")
            path.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Export(contextlib.AbstractContextManager):
    """Base of the files: closes at the end of its context."""

    def __exit__(self, kind: object, *_: object) -> None:
        self.close(whole=kind is None)

    @abc.abstractmethod
    def close(self, whole: bool) -> None:
        """Ends the file; there is no need to finish it if it is not to become `whole`."""


class VideoFile(Export):
    """H.264 in `overlay.mp4`, or a file of another name, for any player."""

    def __init__(self, folder: Path, fps: float, name: str = OVERLAY):
        self._encoder = Encoder(folder / name, fps)

    def write(self, picture: Picture, seconds: float | None = None) -> None:
        """Write one frame, shown at `seconds`; None: one frame of the rate after the one before. All have one size."""
        self._encoder.write(picture, seconds)

    def close(self, whole: bool) -> None:
        """See `Export`."""
        self._encoder.close(whole)


class Animation(Export):
    """The first `MAX_ANIMATED` frames in `overlay.gif`."""

    def __init__(self, folder: Path, fps: float):
        self._path, self._fps, self._frames = folder / ANIMATION, fps, list[Image.Image]()

    def write(self, picture: Picture) -> None:
        """One frame."""
        if len(self._frames) < MAX_ANIMATED:
            self._frames.append(quantize(picture))

    def close(self, whole: bool) -> None:
        """See `Export`."""
        if whole:
            self._path.write_bytes(join_gif(self._frames, self._fps))


class Masks(Export):
    """The slot of every pixel: `masks/000000.png` and so on in the slots' colours, and all in `masks.npz`."""

    def __init__(self, folder: Path, palette: UInt8[np.ndarray, "K 3"]):
        self._folder, self._palette = folder, palette
        self._shape = (0, 0, 0)
        (folder / IMAGES).mkdir()
        # The head of an array says how long it is, which is known at the end.
        self._raw = folder.joinpath("segmentation").open("w+b")

    def write(self, labels: UInt8[np.ndarray, "H W"]) -> None:
        """One frame."""
        image = Image.fromarray(labels)
        image.putpalette(self._palette.tobytes())
        image.save(self._folder / IMAGES / f"{self._shape[0]:06}.png", optimize=True)
        self._raw.write(labels.tobytes())
        self._shape = (self._shape[0] + 1, *labels.shape)

    def close(self, whole: bool) -> None:
        """See `Export`."""
        with self._raw:
            if whole:
                self._pack()
        Path(self._raw.name).unlink()

    def _pack(self) -> None:
        with zipfile.ZipFile(self._folder / ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open("segmentation.npy", "w", force_zip64=True) as file:
                head = {"descr": "|u1", "fortran_order": False, "shape": self._shape}
                np.lib.format.write_array_header_1_0(file, head)
                self._raw.seek(0)
                shutil.copyfileobj(self._raw, file)
            with archive.open("palette.npy", "w") as file:
                np.lib.format.write_array(file, self._palette)


class Trajectories(Export):
    """A line a frame and slot that has pixels there in `trajectories.csv`; see `regions`."""

    def __init__(self, folder: Path, box: Box, background: int):
        self._box, self._background, self._count = box, background, 0
        self._file = folder.joinpath(TABLE).open("w", newline="")
        self._table = csv.writer(self._file, lineterminator="\n")
        self._table.writerow(COLUMNS)

    def write(self, labels: UInt8[np.ndarray, "H W"], predicted: bool) -> None:
        """One frame."""
        for slot, *values in regions(labels, self._box):
            numbers = [round(value, 3) for value in values]
            self._table.writerow([self._count, slot, *numbers, int(slot == self._background), int(predicted)])
        self._count += 1

    def close(self, whole: bool) -> None:
        """See `Export`."""
        self._file.close()


def regions(labels: Integer[np.ndarray, "H W"], box: Box) -> Iterator[tuple[int, *tuple[float, ...]]]:
    """Label, centroid x and y, area, and left, upper, right and lower edge of every label that has pixels.

    All in pixels of the frame that `labels` show the `box` of. The frame reaches from 0 to its width: the centre of its
    first pixel is at 0.5.
    """
    height, width = labels.shape
    scale_x, scale_y = (box[2] - box[0]) / width, (box[3] - box[1]) / height
    for label in np.unique(labels):
        y, x = np.nonzero(labels == label)
        edges = np.array([x.mean() + 0.5, y.mean() + 0.5, x.min(), y.min(), x.max() + 1, y.max() + 1])
        moved = np.tile([scale_x, scale_y], 3) * edges + np.tile(box[:2], 3)
        x_mean, y_mean, *sides = moved.tolist()
        yield int(label), x_mean, y_mean, len(x) * scale_x * scale_y, *sides
