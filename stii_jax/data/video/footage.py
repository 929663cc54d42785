"""Frames from any kind of file: a video, a TIFF stack, an animated image, or a series of images."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped
from tqdm import tqdm

from stii_jax.data.errors import DamageError, DataError
from stii_jax.data.video import pyav
from stii_jax.data.video.animation import Animation
from stii_jax.data.video.images import IMAGE_SUFFIXES, read_image, visible_files
from stii_jax.data.video.levels import Levels, Range, is_deep, measure, to_rgb, type_name
from stii_jax.data.video.pyav import Header
from stii_jax.data.video.tiff import TiffStack, is_tiff

Array = np.ndarray

IMAGES_PER_SECOND = 25.0
"""Frame rate of a series of images, and of a file that does not state its own."""
_BIO_FORMATS = "open it in ImageJ (File > Import > Bio-Formats) and save it as TIFF"
_DEVELOPED = "develop it to TIFF or PNG with a raw converter such as darktable"
_NOT_READ = {
    **dict.fromkeys((".czi", ".nd2", ".lif", ".oib", ".oif", ".vsi", ".ims", ".lsm", ".stk", ".dv"), _BIO_FORMATS),
    **dict.fromkeys((".heic", ".heif", ".avif", ".jxl", ".jp2"), "convert it, e.g. magick {name} {stem}.png"),
    **dict.fromkeys((".dng", ".nef", ".cr2", ".cr3", ".arw"), _DEVELOPED),
    **dict.fromkeys((".raw",), "import it in ImageJ (File > Import > Raw) and save it as TIFF"),
    **dict.fromkeys((".h5", ".hdf5", ".npy", ".npz", ".mat", ".zarr"), "write its frames as TIFF, e.g. by tifffile"),
    **dict.fromkeys((".seq", ".cine", ".mraw"), "export it as AVI or TIFF with the camera's program"),
    **dict.fromkeys((".dcm", ".fits", ".fit"), "open it in ImageJ and save it as TIFF"),
}
"""Common formats that cannot be read, by suffix, and how to convert them."""
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis")


class TimedFrame(NamedTuple):
    """A frame and its presentation time."""

    pixels: Shaped[Array, "H W *channels"]
    """8-bit RGB `H W 3`. `Footage.stored` also gives grey `H W`, and any type."""
    seconds: float | None
    """Presentation time; None if the file does not state it."""


class Footage:
    """The frames of a recording, read again on each request.

    Args:
        path: a video file, TIFF stack or animated image, or the folder of `images`.
        images: image files that are the frames, in this order.
        value_range: the pixel values that become 0 and 255. None keeps 8-bit frames, and scales deeper ones by their
            minimum and maximum over all frames.
        num_threads: number of threads of a video's decoder.
        progress: text of a progress bar while the minimum and maximum are measured; "" shows none.

    Raises:
        DataError: the file is none of these, or its format cannot be read.
    """

    def __init__(
        self,
        path: Path,
        images: Sequence[Path] = (),
        value_range: Range | None = None,
        *,
        num_threads: int = 1,
        progress: str = "",
    ):
        self.path, self._images = path, tuple(images)
        self._num_threads, self._progress = num_threads, progress
        self.value_range = value_range
        """The values that become 0 and 255, once known; None if frames are not scaled."""
        self.levels: Levels | None = None
        """The recording's range of values, if it was measured."""
        self.num_missing = 0
        """Number of frames that a video file announced but did not contain, once it is read to its end."""
        self.note = ""
        """A remark for the user on how the file is interpreted; "" if there is no ambiguity."""
        self._stack: TiffStack | Animation | None = None
        if images:
            self.header = Header(len(images), IMAGES_PER_SECOND)
            return
        kind = _kind(path)
        if kind == "video":
            self.header = pyav.read_header(path)
        elif kind == "tiff":
            self._stack = TiffStack(path)
            self.header = Header(self._stack.num_frames, self._stack.rate or IMAGES_PER_SECOND, True)
            self.note = self._stack.note
        else:
            animation = Animation(path)
            self._stack = animation if animation.num_frames > 1 or kind == "gif" else None
            self._images = () if self._stack else (path,)
            self.header = Header(animation.num_frames, IMAGES_PER_SECOND, True)
        if self.header.num_frames == 1 and kind != "video":
            self.note = f"{path} is a still image: one frame"

    def stored(self, first: int = 0) -> Iterator[TimedFrame]:
        """Read the frames in order, one by one, as stored: 8-bit RGB, or deeper grey or RGB.

        Args:
            first: number of the first frame to return. Skipped frames of a video are decoded but not converted.

        Raises:
            DataError: the first frame cannot be read.
            DamageError: after the frames before the damage.
        """
        if not self._images and self._stack is None:
            return self._read_video(first)
        if self._images:
            frames = self._read_images()
        elif isinstance(self._stack, TiffStack):
            rate = self.header.rate
            frames = (TimedFrame(pixels, number / rate) for number, pixels in enumerate(self._stack.frames()))
        else:
            assert self._stack is not None
            frames = (TimedFrame(pixels, seconds) for pixels, seconds in self._stack.frames())
        return itertools.islice(frames, first, None)

    def frames(self, first: int = 0) -> Iterator[TimedFrame]:
        """Read the frames in 8-bit RGB. Deeper frames are read twice, the first time for their range of values.

        Args:
            first: see `stored`, which raises the same errors.
        """
        kind = None
        for number, frame in enumerate(self.stored(first), first):
            kind = kind or frame.pixels.dtype
            if frame.pixels.dtype != kind:
                types = f"{type_name(frame.pixels.dtype)} values, not {type_name(kind)}"
                raise DamageError(self.path, number, f"the next frame has {types} as in the first")
            if is_deep(frame.pixels) and self.value_range is None:
                self._measure()
            yield TimedFrame(to_rgb(frame.pixels, self.value_range), frame.seconds)

    def count(self, progress: str = "") -> int:
        """Count the frames by decoding them, since headers are often wrong. Raises the errors of `stored`.

        Args:
            progress: text of a progress bar; "" shows none.
        """
        is_video = not self._images and self._stack is None
        frames = pyav.decode(self.path, self._num_threads) if is_video else self.stored()
        return sum(1 for _ in tqdm(frames, desc=progress, unit="frame", mininterval=0.5, disable=not progress))

    def _measure(self) -> None:
        frames = tqdm(
            self._up_to_damage(),
            desc=self._progress,
            total=self.header.num_frames or None,
            unit="frame",
            mininterval=0.5,
            disable=not self._progress,
        )
        try:
            self.levels = measure(iter(frames))
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from error
        self.value_range = (self.levels.low, self.levels.high)

    def _up_to_damage(self) -> Iterator[Array]:
        try:
            for frame in self.stored():
                yield frame.pixels
        except DamageError:
            return  # the next reading reports it

    def _read_video(self, first: int) -> Iterator[TimedFrame]:
        count = 0
        for count, frame in enumerate(pyav.decode(self.path, self._num_threads), 1):
            if count > first:
                yield TimedFrame(frame.pixels(), frame.seconds)
        self.num_missing = max(0, self.header.num_frames - count) if self.header.is_counted else 0

    def _read_images(self) -> Iterator[TimedFrame]:
        for number, image in enumerate(self._images):
            try:
                yield TimedFrame(read_image(image), number / IMAGES_PER_SECOND)
            except DataError as error:
                if len(self._images) == 1:
                    raise
                raise DamageError(self.path, number, str(error)) from error


def open_footage(path: Path, value_range: Range | None = None, progress: str = "") -> Footage:
    """Open a file, or a folder of images in natural order. See `Footage`."""
    if not path.is_dir():
        return Footage(path, (), value_range, progress=progress)
    if not (images := visible_files(path, IMAGE_SUFFIXES)):
        raise DataError(f"{path} has no images: give a video file, or a folder of {', '.join(IMAGE_SUFFIXES)} files")
    return Footage(path, images, value_range, progress=progress)


def _kind(path: Path) -> str:
    """Return "video", "tiff", "gif" or "image", by the first bytes. An unreadable file is left to the video reader."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        return "video"
    remedy = _NOT_READ.get(path.suffix.lower())
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS:
        remedy = _NOT_READ[".heic"]
    if remedy:
        name = path.suffix.lower().lstrip(".").upper()
        raise DataError(f"{path}: {name} files cannot be read: {remedy.format(name=path.name, stem=path.stem)}")
    if is_tiff(path):
        return "tiff"
    if start.startswith(b"GIF8"):
        return "gif"
    is_image = start.startswith(b"\x89PNG") or start[8:12] == b"WEBP" or path.suffix.lower() in IMAGE_SUFFIXES
    return "image" if is_image else "video"
