"""Reading pictures, and folders of them."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image, ImageOps

from stii_jax.data.errors import DataError

Array = np.ndarray

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def visible_files(folder: Path, suffixes: tuple[str, ...]) -> tuple[Path, ...]:
    """The files of a folder with one of the suffixes, in natural order; macOS hides its notes as `._name`."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")]
    return tuple(sorted(filter(Path.is_file, paths), key=lambda path: natural_order(path.name)))


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sorts 2 before 10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def read_image(path: Path) -> UInt8[Array, "H W 3"]:
    """A picture in RGB, upright. Raises `DataError` where the file is none."""
    with _opened(path) as image:
        if image.mode.startswith("I"):  # 16 bits, of which Pillow would cut off the upper ones
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def read_label_image(path: Path) -> Integer[Array, "H W"]:
    """The grey values, or numbers in the palette, of a picture. Raises `DataError` where it has no such."""
    with _opened(path) as image:
        if image.mode not in ("1", "L", "P", "I", "I;16") or image.format == "JPEG":
            raise DataError(f"{path} is {image.format} {image.mode}: give masks as PNG, grey or with a palette")
        return np.asarray(image).astype(np.int64)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            image.load()
            yield image
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error
