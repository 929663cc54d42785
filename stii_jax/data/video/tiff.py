"""TIFF files as videos, read page by page.

A file may be classic TIFF or BigTIFF, with plain pages, an ImageJ hyperstack or OME-TIFF. The time axis is T, or the
only other axis that is longer than 1: ImageJ calls the frames of an imported film Z slices. Up to three channels (C)
become red, green and blue.
"""

import logging
import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from stii_jax.data.errors import DamageError, DataError

Array = np.ndarray

TIFF_SUFFIXES = (".tif", ".tiff")
_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PHOTOMETRICS = ("MINISWHITE", "MINISBLACK", "RGB", "PALETTE")
_MAX_PIXELS = 1 << 27
# This module detects and raises the defects that tifffile only logs, such as missing pages.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def is_tiff(path: Path) -> bool:
    """True if a file has the signature of a TIFF file. Raises `OSError` if it cannot be opened."""
    with path.open("rb") as file:
        return file.read(4) in _SIGNATURES


def count_pages(path: Path) -> tuple[int, bool]:
    """Return the number of images in the main chain of a TIFF file, and True if that chain is complete."""
    seen: set[int] = set()
    try:
        with path.open("rb") as file:
            order = "<" if file.read(2) == b"II" else ">"
            big = _unpack(file, order + "H") == 43
            link, entries, entry_size = ("Q", "Q", 20) if big else ("I", "H", 12)
            file.seek(8 if big else 4)
            while (offset := _unpack(file, order + link)) and offset not in seen:
                file.seek(offset)
                file.seek(_unpack(file, order + entries) * entry_size, 1)
                seen.add(offset)
            return len(seen), not offset
    except (OSError, OverflowError, struct.error):
        return len(seen), False


def _unpack(file: BinaryIO, layout: str) -> int:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))[0]


class TiffStack:
    """The frames of a TIFF file.

    Args:
        path: the file.

    Raises:
        DataError: the file cannot be read, or is not a single video. It may have images of several sizes, several axes
            besides height, width and channels, more than three channels, or colours other than grey and RGB.
    """

    def __init__(self, path: Path):
        self._path = path
        with self._opened() as file:
            series = self._series(file)
            self._axes, self._shape = series.axes, series.shape
            page = series.keyframe
            self._check_page(page)
            others = [axis for axis, size in zip(self._axes, self._shape) if axis not in "YXSC" and size > 1]
            if len(others) > 1:
                raise DataError(
                    f"{path} has axes {self._named()}, but a video has only a time axis. Split or project the others, "
                    "e.g. in ImageJ with Image > Stacks > Z Project"
                )
            self._time = next(iter(others), "")
            self.num_frames = self._size(self._time)
            if self._size("C") > 3:
                raise DataError(
                    f"{path} has {self._size('C')} channels, but a video has at most three (red, green and blue): "
                    "choose some, e.g. in ImageJ with Image > Color > Split Channels"
                )
            if self._size("C") > 1 and "S" in self._axes:
                raise DataError(f"{path} has channels of RGB images ({self._named()}): merge them into one")
            self.rate = _rate(file)
            """Frames per second; 0 if the file does not state it."""
        self.note = f"{path} has no axis T: its axis {self._time} of length {self.num_frames} is taken as time"
        """A remark for the user on how the file is interpreted; "" if there is no ambiguity."""
        if self._time in ("", "T", "I", "Q"):
            self.note = ""
        pages, whole = count_pages(path)
        self._damage = "" if whole else f"it is truncated: the list of its images ends after {pages}"

    def frames(self, *, indices: bool = False) -> Iterator[Array]:
        """Read the frames one by one, `H W` (grey) or `H W 3`, in the file's own type.

        Args:
            indices: return palette indices instead of colours, as label images need.

        Raises:
            DamageError: after the frames before the damage.
        """
        number = 0
        try:
            with self._opened() as file:
                series = self._series(file)
                for number in range(self.num_frames):
                    yield self._frame(series, number, indices)
        except DataError:
            raise
        except Exception as error:  # the codecs raise their own errors
            raise DamageError(self._path, number, _reason(error)) from error
        if self._damage:
            raise DamageError(self._path, self.num_frames, self._damage)

    def _frame(self, series: Any, number: int, indices: bool) -> Array:
        page = series.keyframe
        inner = len(page.shape)
        lead, places = self._shape[:-inner], self._axes[:-inner]
        channels = []
        for channel in range(self._size("C") if "C" in places else 1):
            at = {self._time: number, "C": channel}
            index = int(np.ravel_multi_index([at.get(axis, 0) for axis in places], lead)) if lead else 0
            channels.append(self._page(series, index))
        axes = self._axes[-inner:]
        for axis in reversed(axes):  # further axes of a page, such as Z of length 1
            if axis not in "YXSC":
                place = axes.index(axis)
                channels = [np.take(array, number if axis == self._time else 0, place) for array in channels]
                axes = axes.replace(axis, "")
        pixels = np.stack(channels, axis=-1) if "C" in places else channels[0]
        if "C" not in places and (samples := set(axes) & set("SC")):
            pixels = np.moveaxis(pixels, axes.index(samples.pop()), -1)
        return self._colored(page, pixels, indices)

    def _page(self, series: Any, index: int) -> Array:
        page = series.keyframe
        if series.dataoffset is not None:  # contiguous, even if only the first page is listed (ImageJ above 4 GB)
            offset = series.dataoffset + index * page.size * page.dtype.itemsize
            stored = np.dtype(series.parent.byteorder + page.dtype.char)
            values = np.fromfile(self._path, stored, page.size, offset=offset)
            if len(values) < page.size:
                raise DamageError(self._path, index, "it is truncated")
            return values.astype(page.dtype).reshape(page.shape)
        if index >= len(series.pages) or series.pages[index] is None:
            raise DamageError(self._path, index, "the next frame is missing, or is in another file")
        return series.pages[index].asarray()

    def _colored(self, page: Any, pixels: Array, indices: bool) -> Array:
        if pixels.ndim == 3:
            alpha = pixels.shape[-1] in (2, 4) and "S" in self._axes
            pixels = pixels[..., : pixels.shape[-1] - alpha]
            if pixels.shape[-1] == 1:
                pixels = pixels[..., 0]
            elif pixels.shape[-1] == 2:  # two channels: red and green
                pixels = np.concatenate([pixels, np.zeros_like(pixels[..., :1])], axis=-1)
            elif pixels.shape[-1] > 3:
                raise DataError(f"{self._path} has {pixels.shape[-1]} samples per pixel: give grey or RGB")
        if pixels.dtype == bool and not indices:
            pixels = pixels.astype(np.uint8) * 255
        if page.photometric.name == "PALETTE" and not indices:
            return (page.colormap >> 8).astype(np.uint8).T[pixels]
        if page.photometric.name == "MINISWHITE" and not indices:
            return ~pixels if pixels.dtype.kind == "u" else -pixels
        return pixels

    def _opened(self) -> tifffile.TiffFile:
        try:
            return tifffile.TiffFile(self._path, _multifile=False)
        except Exception as error:
            raise DataError(f"{self._path} cannot be read as TIFF: {_reason(error)}") from error

    def _series(self, file: tifffile.TiffFile) -> Any:
        try:
            series = [each for each in file.series if not each.keyframe.is_reduced]  # thumbnails
        except Exception as error:
            raise DataError(f"{self._path} cannot be read as TIFF: {_reason(error)}") from error
        sizes = [f"{each.keyframe.imagewidth}x{each.keyframe.imagelength}" for each in series]
        if len(series) != 1:
            found = f"images of several kinds ({', '.join(sizes[:3])} pixels)" if series else "no image"
            raise DataError(f"{self._path} holds {found}: give a file whose images all have one size and type")
        return series[0]

    def _check_page(self, page: Any) -> None:
        photometric = getattr(page.photometric, "name", str(page.photometric))
        jpeg = photometric == "YCBCR" and "JPEG" in getattr(page.compression, "name", "")
        if photometric not in _PHOTOMETRICS and not jpeg:
            raise DataError(f"{self._path} has {photometric} colours: convert it to grey or RGB")
        if page.dtype is None or page.dtype.kind not in "buif":
            raise DataError(f"{self._path} holds values of type {page.dtype}: give integers or floats")
        if page.imagewidth * page.imagelength > _MAX_PIXELS:
            size = f"{page.imagewidth}x{page.imagelength}"
            raise DataError(f"{self._path} has frames of {size} pixels, over {_MAX_PIXELS} in all: downscale it")

    def _size(self, axis: str) -> int:
        return self._shape[self._axes.index(axis)] if axis and axis in self._axes else 1

    def _named(self) -> str:
        return ", ".join(f"{axis}={size}" for axis, size in zip(self._axes, self._shape))


def _rate(file: tifffile.TiffFile) -> float:
    """Frames per second from ImageJ or OME metadata; 0 if unknown."""
    facts = file.imagej_metadata or {}
    interval = float(facts.get("finterval") or 0)
    rate = 1 / interval if interval > 0 else float(facts.get("fps") or 0)
    ome = file.ome_metadata or ""
    if found := re.search(r'TimeIncrement="([\d.eE+-]+)"', ome):
        unit = re.search(r'TimeIncrementUnit="(\w+|µs)"', ome)
        seconds = {"ms": 1e-3, "µs": 1e-6, "min": 60.0}.get(unit[1] if unit else "s", 1.0) * float(found[1])
        rate = 1 / seconds if seconds > 0 else 0.0
    return rate if math.isfinite(rate) and rate > 0 else 0.0


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{text}: pip install imagecodecs" if "imagecodecs" in text else text
