"""The bouncing balls that the authors of Relational Neural Expectation Maximization published as HDF5 files."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

import h5py
import numpy as np
from jaxtyping import Shaped, UInt8
from tqdm import tqdm

from stii_jax.data.bouncing_balls import render
from stii_jax.data.errors import DataError
from stii_jax.data.options import VideoConfig
from stii_jax.data.pipeline import tfds
from stii_jax.data.pipeline.stored import Clip, StoredBuilder

Array = np.ndarray

GROUPS = {"train": "training", "validation": "validation", "test": "test"}
"""The file's names of the splits."""

_BLOCK = 64  # approximate number of videos read at once
_PROBED = 32  # number of videos checked for smooth motion


@dataclasses.dataclass(eq=False, kw_only=True)
class RnemBallsConfig(VideoConfig):
    """The file to read, and the colours of its balls."""

    file: str = "balls4mass64.h5"
    """Name of the file in the folder of downloaded files."""
    num_frames: int = 51
    """Number of frames per stored video, from the start of the file's videos."""
    num_colors: int = 4
    """Ball k has colour k modulo this number, of the paper's eight; 0 keeps the file's frames, with white balls."""
    max_objects: int = 4  # type: ignore[assignment]  # a property elsewhere
    """Maximum number of balls in a video."""
    max_videos: int = 0
    """Maximum number of videos per split, from the start of the file; 0 is all."""

    @property
    def splits(self) -> tuple[str, ...]:
        """See `VideoConfig.splits`."""
        return tuple(GROUPS)

    def validate(self) -> None:
        """See `VideoConfig.validate`."""
        super().validate()
        self._at_least(1, "max_objects")
        self._at_least(0, "max_videos")
        if self.max_objects > 255:
            raise DataError(f"option max_objects={self.max_objects} of {self.name}: give 255 or less")
        if not 0 <= self.num_colors <= len(render.PALETTES["paper"]):
            raise DataError(f"option num_colors={self.num_colors} of {self.name}: give 0 (white) to 8")


class RnemBalls(StoredBuilder):
    """Bouncing balls of two masses, four or six to eight per video, white or coloured.

    van Steenkiste, Chang, Greff, Schmidhuber (2018): Relational Neural Expectation Maximization.
    """

    VERSION = tfds.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[RnemBallsConfig]] = [
        RnemBallsConfig(name="binary4", num_colors=0),
        RnemBallsConfig(name="color4", num_colors=4),
        RnemBallsConfig(name="binary678", num_colors=0, max_objects=8, file="balls678mass64.h5"),
        RnemBallsConfig(name="color678_4colors", num_colors=4, max_objects=8, file="balls678mass64.h5"),
        RnemBallsConfig(name="color678_8colors", num_colors=8, max_objects=8, file="balls678mass64.h5"),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download balls4mass64.h5 (four balls) or balls678mass64.h5 (six to eight), which are linked from the page of
    "Relational Neural Expectation Maximization" (github.com/sjoerdvansteenkiste/Relational-NEM).
    """
    builder_config: RnemBallsConfig

    def clips(self, split: str) -> Iterator[Clip]:
        """See `StoredBuilder.clips`."""
        config = self.builder_config
        path = self.manual_dir / config.file
        with _opened(path) as file:
            # Check all splits first, so that a defect shows at once and not after an hour.
            recordings = {name: _find(file, path, group, config) for name, group in GROUPS.items()}
            for recording in recordings.values():
                _check_smooth(recording)
            features, groups, where = recordings[split]
            num_videos = min(features.shape[1], config.max_videos or features.shape[1])
            bar = tqdm(total=num_videos, desc=f"{self.name} {split}", unit="video", mininterval=0.5)
            for videos in _blocks(groups, num_videos):
                part = np.s_[: config.num_frames, videos, ..., 0]
                labels = _labels(groups[part], where, config.max_objects).swapaxes(0, 1)
                # Colours depend on the labels alone, and reading takes half of the time.
                white = None if config.num_colors else _white(features[part], where).swapaxes(0, 1)
                for index, segmentation in enumerate(labels):
                    video = _colored(segmentation, config.num_colors) if white is None else white[index]
                    yield Clip(video, segmentation)
                    bar.update()
            bar.close()


class _Recordings(NamedTuple):
    """The file's arrays of one split, of shape `T N H W 1`."""

    features: h5py.Dataset
    groups: h5py.Dataset
    where: str
    """The names of the file and the group, for messages."""


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    if not path.is_file():
        found = ", ".join(sorted(other.name for other in path.parent.glob("*.h5"))) or "none"
        raise DataError(f"there is no file {path}; HDF5 files there: {found}. Set option file to one of them")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError) as error:  # h5py raises either
        raise DataError(f"{path} cannot be read as HDF5: {error}. It is truncated or has another format") from error


def _find(file: h5py.File, path: Path, group: str, config: RnemBallsConfig) -> _Recordings:
    where = f"{path}, group {group!r},"
    tensors = []
    for name in ("features", "groups"):
        tensor = file.get(f"{group}/{name}")
        if not isinstance(tensor, h5py.Dataset):
            has = ", ".join(file[group]) if isinstance(file.get(group), h5py.Group) else "no such group"
            raise DataError(f"{where} has no dataset {name!r}; it has: {has}")
        if tensor.ndim != 5 or tensor.shape[2] != tensor.shape[3] or tensor.shape[4] != 1:
            raise DataError(f"{where} has {name!r} of shape {tensor.shape}: it should be frames, videos, H, H, 1")
        if tensor.dtype.kind not in "biuf":
            raise DataError(f"{where} has {name!r} of type {tensor.dtype}: it should be numbers")
        tensors.append(tensor)
    features, groups = tensors
    if features.shape != groups.shape:
        raise DataError(f"{where} has features of shape {features.shape}, but groups of shape {groups.shape}")
    num_frames, num_videos, size = features.shape[:3]
    if num_videos == 0:
        raise DataError(f"{where} has no videos: shape {features.shape}")
    if size != config.image_size:
        raise DataError(f"{where} has videos of {size}x{size} pixels: give option image_size={size}")
    if num_frames < config.num_frames:
        raise DataError(f"{where} has videos of {num_frames} frames: give option num_frames={num_frames} or less")
    return _Recordings(features, groups, where)


def _check_smooth(recordings: _Recordings) -> None:
    """Raise `DataError` if the file's first axis is not time.

    A frame resembles the one before: the balls move by a pixel, and 2% of the pixels change. It differs from the same
    frame of another video in 17% of the pixels. The reverse holds if videos were reshaped to time first instead of
    transposed, or left as they were. If they were shuffled, there is no difference.
    """
    frames = recordings.features[:, :_PROBED, ..., 0].astype(np.float32)
    over_time, over_videos = (np.abs(np.diff(frames, axis=axis)).mean((2, 3)) for axis in (0, 1))
    # Copies of the same video are identical, which says nothing about the axes.
    over_videos = over_videos[over_videos > 0]
    if over_time.size and over_videos.size and over_time.mean() > 0.75 * over_videos.mean():
        raise DataError(
            f"{recordings.where} does not hold videos with time as the first axis: the mean change is "
            f"{over_time.mean():.3f} from frame to frame, but {over_videos.mean():.3f} from video to video. Its videos "
            "x of shape (N, T, H, W, 1) were probably reshaped to (T, N, H, W, 1), which mixes them: apply "
            "x.reshape(N, T, H, W, 1).transpose(1, 0, 2, 3, 4) to `features` and to `groups`"
        )


def _blocks(tensor: h5py.Dataset, num_videos: int) -> Iterator[slice]:
    """Slices of about `_BLOCK` videos, aligned with the file's chunks, which are decompressed as a whole."""
    chunk = tensor.chunks[1] if tensor.chunks else 1
    size = chunk * max(1, _BLOCK // chunk)
    return (slice(first, min(first + size, num_videos)) for first in range(0, num_videos, size))


def _white(features: Shaped[Array, "T N H W"], where: str) -> UInt8[Array, "T N H W 3"]:
    lowest, highest = features.min(), features.max()
    if not (lowest >= 0 and highest <= 255):  # also true for NaN
        raise DataError(f"{where} has features from {lowest} to {highest}: give 0 to 1, or 0 to 255")
    gray = np.rint(features * np.float32(255 if highest <= 1 else 1)).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=-1)


def _labels(groups: Shaped[Array, "T N H W"], where: str, max_objects: int) -> UInt8[Array, "T N H W"]:
    lowest, highest = groups.min(), groups.max()
    if not (lowest >= 0 and highest <= max_objects):
        raise DataError(f"{where} has groups from {lowest} to {highest}: option max_objects is {max_objects}")
    labels = groups.astype(np.uint8)
    if not np.array_equal(labels, groups):
        raise DataError(f"{where} has groups that are not whole numbers")
    return labels


def _colored(labels: UInt8[Array, "T H W"], num_colors: int) -> UInt8[Array, "T H W 3"]:
    balls = np.arange(labels.max()) % num_colors
    return render.render_frames(labels, render.PALETTES["paper"][balls], np.zeros(3, np.uint8))
