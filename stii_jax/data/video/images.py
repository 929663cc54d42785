"""Read images, and folders of images."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped
from PIL import Image, ImageOps

from stii_jax.data.errors import DataError
from stii_jax.data.video import pyav
from stii_jax.data.video.animation import Animation
from stii_jax.data.video.tiff import TIFF_SUFFIXES, TiffStack, is_tiff

Array = np.ndarray

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", *TIFF_SUFFIXES)
ANIMATED_SUFFIXES = (".png", ".webp", *TIFF_SUFFIXES)
"""Suffixes of image files that may hold several frames."""


def visible_files(folder: Path, suffixes: tuple[str, ...]) -> tuple[Path, ...]:
    """The files of a folder with one of the suffixes, in natural order, without hidden ones (`._name` on macOS)."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")]
    return tuple(sorted(filter(Path.is_file, paths), key=lambda path: natural_order(path.name)))


def natural_order(name: str) -> list[tuple[int, str]]:
    """A sort key that puts 2 before 10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def count_images(path: Path) -> int:
    """Return the number of frames in an image file, 1 for a still image, from its header.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        if is_tiff(path):
            return TiffStack(path).num_frames
        return Animation(path).num_frames
    except OSError as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error


def read_image(path: Path) -> Shaped[Array, "H W *channels"]:
    """Read an image, upright.

    Returns:
        8-bit RGB `H W 3`. Deeper images and TIFF files are returned as stored: grey `H W` or RGB `H W 3`.

    Raises:
        DataError: the file is not an image, or holds several.
    """
    with contextlib.suppress(OSError):
        if is_tiff(path):
            return _only_page(path, indices=False)
    with _opened(path) as image:
        if image.format in ("PNG", "WEBP") and (count := Animation(path).num_frames) > 1:
            raise _several(path, count)
        if image.format != "PNG" or _png_depth(path) < 16:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    return next(pyav.decode(path)).pixels()  # Pillow cuts 16-bit colours to 8 bits


def read_label_image(path: Path) -> Integer[Array, "H W"]:
    """Read the grey values or palette indices of an image. Raises `DataError` if it has neither."""
    with contextlib.suppress(OSError):
        if is_tiff(path):
            return _as_labels(path, _only_page(path, indices=True))
    with _opened(path) as image:
        if image.mode not in ("1", "L", "P", "I", "I;16") or image.format == "JPEG":
            raise DataError(f"{path} is {image.format} {image.mode}: give masks as PNG, grey or with a palette")
        return np.asarray(image).astype(np.int64)


def read_label_stack(path: Path) -> Iterator[Integer[Array, "H W"]]:
    """Yield the label images of a TIFF stack. Raises `DataError` if it holds other images."""
    for labels in TiffStack(path).frames(indices=True):
        yield _as_labels(path, labels)


def _as_labels(path: Path, pixels: Array) -> Integer[Array, "H W"]:
    if pixels.ndim != 2 or pixels.dtype.kind not in "iub":
        raise DataError(f"{path} holds {pixels.dtype} of shape {pixels.shape}: give masks as grey integers")
    return pixels.astype(np.int64)


def _only_page(path: Path, *, indices: bool) -> Array:
    stack = TiffStack(path)
    if stack.num_frames > 1:
        raise _several(path, stack.num_frames)
    return next(stack.frames(indices=indices))


def _several(path: Path, num_frames: int) -> DataError:
    return DataError(
        f"{path} holds {num_frames} frames: give the file alone, as a video, or a folder of still images only"
    )


def _png_depth(path: Path) -> int:
    """The number of bits per channel."""
    with path.open("rb") as file:
        return file.read(25)[24]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            image.load()
            yield image
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error
