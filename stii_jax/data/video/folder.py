"""The videos in a folder, their masks, and their splits."""

import hashlib
import itertools
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from stii_jax.data.errors import DataError
from stii_jax.data.video.footage import Footage
from stii_jax.data.video.images import (
    ANIMATED_SUFFIXES,
    IMAGE_SUFFIXES,
    count_images,
    natural_order,
    read_label_image,
    read_label_stack,
    visible_files,
)
from stii_jax.data.video.levels import Range
from stii_jax.data.video.tiff import TIFF_SUFFIXES
from stii_jax.data.video.videofile import VIDEO_SUFFIXES

Array = np.ndarray

SPLITS = ("train", "validation", "test")

_MASKS = "_masks"  # suffix of folders of label images
_MASK_STACKS = tuple(f"{_MASKS}{suffix}" for suffix in TIFF_SUFFIXES)  # endings of stacks of label images


class Recording(NamedTuple):
    """A video and its masks."""

    name: str
    """Path relative to the folder, with `/` as separator."""
    frames: tuple[Path, ...]
    """The video file, or the images."""
    masks: tuple[Path, ...]
    """The npz file, the TIFF stack, or the label images; empty if there are none."""

    @property
    def folder(self) -> str:
        """The first part of the name."""
        return self.name.partition("/")[0]

    def footage(self, value_range: Range | None = None) -> Footage:
        """Return the frames. Raises `DataError` as `Footage` does."""
        images = self.frames if len(self.frames) > 1 else ()
        return Footage(self.frames[0].parent if images else self.frames[0], images, value_range)


def find_recordings(folder: Path) -> list[Recording]:
    """Return the videos in a folder and its subfolders, in natural order, or `folder` itself if it is a file.

    Hidden files and folders are skipped.
    """
    if folder.is_file():
        return [Recording(_printable(Path(folder.name)), (folder,), _masks_of(folder.with_suffix(""), is_file=True))]
    found: dict[Path, Recording] = {}
    for place, folders, _ in os.walk(folder):
        here = Path(place)
        stacks, images = _sorted_out(visible_files(here, IMAGE_SUFFIXES))
        videos = (*visible_files(here, VIDEO_SUFFIXES), *stacks)
        found |= {path: Recording("", (path,), _masks_of(path.with_suffix(""), is_file=True)) for path in videos}
        if len(images) >= 2 and not videos:
            found[here] = Recording("", images, _masks_of(here, is_file=False))
        taken = {path.parent for video in videos for path in found[video].masks} - {here}
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and not name.endswith(_MASKS) and here / name not in taken
        ]
    named = [recording._replace(name=_printable(path.relative_to(folder))) for path, recording in found.items()]
    return sorted(named, key=lambda recording: natural_order(recording.name))


def _sorted_out(images: tuple[Path, ...]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Separate the image files that are whole videos from those that are single frames. Masks are neither.

    The first file of each suffix decides for all, since a folder may have many thousands. Exceptions show on reading.
    """
    images = tuple(path for path in images if not path.name.lower().endswith(_MASK_STACKS))
    firsts = {path.suffix.lower(): path for path in reversed(images)}
    several = {suffix for suffix, path in firsts.items() if suffix in ANIMATED_SUFFIXES and _holds_several(path)}
    stacks = tuple(path for path in images if path.suffix.lower() in several)
    return stacks, tuple(path for path in images if path.suffix.lower() not in several)


def _holds_several(path: Path) -> bool:
    try:
        return count_images(path) > 1
    except DataError:
        return False


def split_recordings(recordings: Sequence[Recording], validation_fraction: float) -> dict[str, list[Recording]]:
    """Assign recordings to splits: by subfolder if there is one named `train`, else by the hashes of their names.

    A name's hash does not depend on the other recordings. At least one recording is for training, and at least one for
    validation if `validation_fraction` is positive. A single recording is in both splits, which share its clips.
    """
    by_folder = {split: [recording for recording in recordings if recording.folder == split] for split in SPLITS}
    if by_folder["train"]:
        return by_folder
    if len(recordings) == 1 and validation_fraction > 0:
        return {"train": list(recordings), "validation": list(recordings), "test": []}
    hashes = {recording.name: _hash(recording.name) for recording in recordings}
    wanted = sum(value < validation_fraction for value in hashes.values())
    if validation_fraction > 0:
        wanted = min(max(wanted, 1), len(recordings) - 1)
    kept = sorted(hashes, key=lambda name: hashes[name])[: max(wanted, 0)]
    return {
        "train": [recording for recording in recordings if recording.name not in kept],
        "validation": [recording for recording in recordings if recording.name in kept],
        "test": [],
    }


def _masks_of(stem: Path, is_file: bool) -> tuple[Path, ...]:
    """The mask files of a video, whose path without its suffix is `stem`."""
    archive, folder, *stacks = (stem.with_name(stem.name + ending) for ending in (".npz", _MASKS, *_MASK_STACKS))
    for file in (archive, *stacks):
        if file.is_file():
            return (file,)
    if folder.is_dir():
        return visible_files(folder, IMAGE_SUFFIXES)
    # PNG images in a folder named like the video are taken for masks, not for frames of the video.
    images = visible_files(stem, IMAGE_SUFFIXES) if is_file and stem.is_dir() else ()
    return images if all(path.suffix.lower() == ".png" for path in images) else ()


def _printable(path: Path) -> str:
    """The path as printable text, since file names may be in any encoding."""
    return path.as_posix().encode(errors="backslashreplace").decode()


def _hash(name: str) -> float:
    """A number from 0 to below 1 that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:6], "big") / 2**48


def alike(frames: Iterator[Array]) -> Iterator[Array]:
    """Yield the same frames. Raises `DataError` if one differs in size from the first."""
    first = None
    for frame in frames:
        first = first or frame.shape
        if frame.shape != first:
            raise DataError(f"frames of {first[1]}x{first[0]} and of {frame.shape[1]}x{frame.shape[0]} pixels")
        yield frame


def labelled_frames(
    frames: Iterator[UInt8[Array, "H W 3"]], files: tuple[Path, ...]
) -> Iterator[tuple[UInt8[Array, "H W 3"], Integer[Array, "H W"]]]:
    """Yield the frames of a video with their label images."""
    masks: Iterable[Array]
    if files[0].suffix == ".npz":
        masks = _archive(files[0])
    elif len(files) == 1 and files[0].suffix.lower() in TIFF_SUFFIXES:
        masks = read_label_stack(files[0])
    else:
        masks = map(read_label_image, files)
    for number, (frame, mask) in enumerate(itertools.zip_longest(frames, masks)):
        if frame is None or mask is None:
            ends = "frames" if frame is None else "masks"
            raise DataError(f"the {ends} end after {number}: there must be as many masks as frames")
        if mask.shape != frame.shape[:2]:
            size = "x".join(map(str, mask.shape[::-1]))
            raise DataError(f"masks of {size} pixels, frames of {frame.shape[1]}x{frame.shape[0]}")
        yield frame, mask


def _archive(path: Path) -> Integer[Array, "T H W"]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, EOFError, MemoryError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as an npz file of arrays: {error}") from error
    if len(arrays) > 1 and "segmentation" not in arrays:
        raise DataError(f"{path} holds arrays {', '.join(arrays)}: give one array, or name one of them segmentation")
    masks = arrays.get("segmentation", next(iter(arrays.values()), np.zeros(0)))
    if masks.ndim != 3 or masks.dtype.kind not in "iub":
        raise DataError(f"{path} holds {masks.dtype} of shape {masks.shape}: give integers of shape T H W")
    return masks.astype(np.uint8) if masks.dtype == bool else masks
