"""The files of a decomposed video, written frame by frame in constant memory.

Each class writes one of them and is a context manager that closes it. `stii_jax.inference.decompose` lists the files,
and `stii_jax.inference.formats` has those for other programs.
"""

import abc
import contextlib
import csv
import gzip
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from stii_jax.data.video.pyav import Encoder
from stii_jax.storage.images import Picture, join_gif, quantize
from stii_jax.visualization.regions import OUTSIDE, Region

OVERLAY, STRIP, ANIMATION = "overlay.mp4", "slots.mp4", "slots.gif"
ARCHIVE, IMAGES, TABLE = "masks.npz", "masks", "trajectories.csv"
FUTURES, FUTURES_PICTURE = "futures.csv", "futures.png"
MAX_ANIMATED = 300
"""Maximum number of frames in the GIF, which is held in memory and grows large."""
COLUMNS = (
    *("frame", "time", "object", "visible", "centroid_x", "centroid_y", "area", "left", "top", "right", "bottom"),
    *("confidence", "background", "predicted"),
)
FUTURE_COLUMNS = ("future", *COLUMNS)
Cell = int | float | None
"""A value of the table."""


class VideoInfo(NamedTuple):
    """Facts about a whole decomposition."""

    name: str
    """Name of the decomposed file or folder, without its path."""
    width: int
    """Width of the input's frames, in pixels."""
    height: int
    """Height of the input's frames, in pixels."""
    scale: int
    """Pixels of the input, in each direction, per pixel of the labels; see `regions.Canvas`."""
    fps: float
    expected: int | None
    """Number of frames that the input announces; None if unknown."""
    colors: UInt8[np.ndarray, "K 3"]
    """Colours of the slots, RGB in 0..255."""
    background: int
    """The background's slot."""
    is_numbered: bool = False
    """True if object numbers replace slots. They start from 1, in order of appearance."""
    slot_colors: UInt8[np.ndarray, "S 3"] | None = None
    """Colours of the slots in the pictures of slots; None without such pictures."""


class SegmentedFrame(NamedTuple):
    """The segmentation of one frame."""

    number: int
    """Frame number, from 0."""
    seconds: float
    """Presentation time."""
    predicted: bool
    """True for a predicted frame, which is not in the input."""
    slots: UInt8[np.ndarray, "H W"]
    """The slot of every pixel; see `regions.Labels`."""
    regions: dict[int, Region]
    """The regions of the visible slots, by slot."""


class FrameWriter(contextlib.AbstractContextManager):
    """Base class of the files. The context manager closes the file at its end."""

    def __exit__(self, kind: object, *_: object) -> None:
        self.close(whole=kind is None)

    @abc.abstractmethod
    def close(self, whole: bool) -> None:
        """Close the file. If `whole` is False, an error has occurred, and it may stay incomplete."""


class VideoFile(FrameWriter):
    """An H.264 video, `overlay.mp4` or a file of another name, for any player. See `Encoder` for `crf`."""

    def __init__(self, folder: Path, fps: float, name: str = OVERLAY, crf: int = 16):
        self._encoder = Encoder(folder / name, fps, crf)

    def write(self, picture: Picture, seconds: float | None = None) -> None:
        """Write one frame, shown at `seconds`; None: one frame interval after the previous one. All have one size."""
        self._encoder.write(picture, seconds)

    def close(self, whole: bool) -> None:
        """See `FrameWriter`."""
        self._encoder.close(whole)


class Animation(FrameWriter):
    """The animation `slots.gif` of the first `MAX_ANIMATED` frames."""

    def __init__(self, folder: Path, fps: float):
        self._path, self._fps = folder / ANIMATION, fps
        self._frames, self._times = list[Image.Image](), list[float]()

    def write(self, picture: Picture, seconds: float) -> None:
        """Write one frame, shown at `seconds`."""
        if len(self._times) <= MAX_ANIMATED:  # the time after the last frame gives that frame's duration
            self._times.append(seconds)
        if len(self._frames) < MAX_ANIMATED:
            self._frames.append(quantize(picture))

    def close(self, whole: bool) -> None:
        """See `FrameWriter`."""
        if whole:
            shown = np.diff(self._times, append=self._times[-1] + 1 / self._fps)
            self._path.write_bytes(join_gif(self._frames, shown[: len(self._frames)].tolist()))


class Masks(FrameWriter):
    """The slot of every pixel: `masks/000000.png` and so on in the slots' colours, and all in `masks.npz`."""

    def __init__(self, folder: Path, info: VideoInfo):
        self._folder = folder
        self._palette = np.zeros((OUTSIDE + 1, 3), np.uint8)
        self._palette[: len(info.colors)] = info.colors
        self._shape, self._times = (0, 0, 0), list[float]()
        (folder / IMAGES).mkdir()
        # An array's header states its length, which is known only at the end.
        self._raw = folder / "segmentation.gz"
        self._file = gzip.GzipFile(self._raw, "wb", compresslevel=1)

    def write(self, frame: SegmentedFrame) -> None:
        """Write one frame."""
        image = Image.fromarray(frame.slots)
        image.putpalette(self._palette.tobytes())
        image.save(self._folder / IMAGES / f"{frame.number:06}.png")  # optimize=True: four times as slow, 9 % smaller
        self._file.write(frame.slots.tobytes())
        self._times.append(frame.seconds)
        self._shape = (len(self._times), *frame.slots.shape)

    def close(self, whole: bool) -> None:
        """See `FrameWriter`."""
        self._file.close()
        if whole:
            self._pack()
        self._raw.unlink()

    def _pack(self) -> None:
        with zipfile.ZipFile(self._folder / ARCHIVE, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
            with archive.open("segmentation.npy", "w", force_zip64=True) as file, gzip.open(self._raw) as raw:
                head = {"descr": "|u1", "fortran_order": False, "shape": self._shape}
                np.lib.format.write_array_header_1_0(file, head)
                shutil.copyfileobj(raw, file, 2**20)
            for name, array in {"palette": self._palette, "time": np.array(self._times)}.items():
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, array)


class Trajectories(FrameWriter):
    """The table `trajectories.csv`, one row per frame and slot. See `regions.Region` for the measures.

    Numbered objects have rows from the frame in which they first appear.
    """

    def __init__(self, folder: Path, info: VideoInfo):
        self._info = info
        self._count = 1 if info.is_numbered else len(info.colors)
        self._file = folder.joinpath(TABLE).open("w", newline="")
        self._table = csv.writer(self._file, lineterminator="\n")
        self._table.writerow(COLUMNS)

    def write(self, frame: SegmentedFrame) -> None:
        """Write one frame."""
        self._count = max(self._count, *(slot + 1 for slot in frame.regions), 0)
        self._table.writerows(table_cells(frame, self._count, self._info.background))

    def close(self, whole: bool) -> None:
        """See `FrameWriter`."""
        self._file.close()


def table_cells(frame: SegmentedFrame, num_slots: int, background: int) -> Iterator[list[int | float | str]]:
    """Yield the rows of `table_rows` as a CSV file holds them: rounded, and empty instead of None."""
    for row in table_rows(frame, num_slots, background):
        yield ["" if cell is None else round(cell, 6) for cell in row]


def table_rows(frame: SegmentedFrame, num_slots: int, background: int) -> Iterator[tuple[Cell, ...]]:
    """Yield one row of `COLUMNS` per slot of a frame. Invisible slots have None for the measures."""
    for slot in range(num_slots):
        region = frame.regions.get(slot)
        measures = (None, None, 0, *[None] * 5) if region is None else tuple(round(value, 3) for value in region[1:])
        identity = (frame.number, frame.seconds, slot, int(region is not None))
        yield (*identity, *measures, int(slot == background), int(frame.predicted))
