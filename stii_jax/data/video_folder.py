"""Any folder of videos: video files or folders of images, with optional masks beside them."""

import dataclasses
import functools
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Integer, UInt8
from tqdm import tqdm

from stii_jax.data.errors import DataError
from stii_jax.data.options import VideoConfig
from stii_jax.data.pipeline import tfds
from stii_jax.data.pipeline.files import FilesBuilder, Reading, map_in_order
from stii_jax.data.pipeline.stored import Clip
from stii_jax.data.video.background import find_background
from stii_jax.data.video.folder import SPLITS, Recording, alike, find_recordings, labelled_frames, split_recordings
from stii_jax.data.video.images import IMAGE_SUFFIXES
from stii_jax.data.video.tiles import tiled
from stii_jax.data.video.videofile import VIDEO_SUFFIXES
from stii_jax.data.video.view import BACKGROUNDS, View

Array = np.ndarray

LONGEST = 16
"""Default number of frames per clip, if the videos have that many."""

_SCALED = "videos deeper than 8 bits, scaled by their own range of values (option value_range)"
_MOVING = "videos whose camera moves, which keep their background (option background)"
_MISSING = "videos that state more frames than could be decoded"
_CHANGE = 25  # of 255 levels: a pixel that changes by more within a clip shows something that moves
_CHANGED = 1 / 400  # share of such pixels in a tile's clip that is kept
_LEFT_OUT = "videos whose masks are ignored because other videos of the split have none"


@dataclasses.dataclass(eq=False, kw_only=True)
class VideoFolderConfig(VideoConfig):
    """Options for cutting the videos of a folder into clips."""

    paths: ClassVar[tuple[str, ...]] = ("folder",)
    folder: str = ""
    """The folder of the videos, or a single video file."""
    num_frames: int = 0
    """Number of frames per clip; 0 is 16, or fewer if the videos are short. A video is cut into as many consecutive
    clips as fit. The frames left at its end are dropped."""
    frame_stride: int = 1  # type: ignore[misc]  # a class variable in datasets without this option
    """Step between the frames that are taken: 1 takes every frame."""
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Pixels cut off at the left, top, right and bottom."""
    square: bool = True
    """True to crop frames to the centred square; False to squeeze them into a square."""
    tile: int = 0
    """Side in pixels of overlapping square tiles, for objects that are small in the frame; 0 shows each frame as one
    view. Each tile gives clips of its own. Clips in which nothing moves are left out. The trained model then decomposes
    videos in tiles."""
    gray: bool = False
    """True to convert frames to grey."""
    background: str = "keep"
    """"keep" leaves frames as they are. "median" removes the background of a static camera: it shows the difference
    from the video's per-pixel median, on black. "bright" shows the negative, for dark objects on a bright background.
    The trained model then does the same to the videos it decomposes."""
    value_range: tuple[float, float] = (0.0, 0.0)
    """Pixel values that become 0 and 255. (0, 0) keeps 8-bit frames, and uses each deeper video's own range."""
    validation_fraction: float = 0.1
    """Fraction of the videos held out for validation, if there is no folder `train`; of a single video, its end."""
    max_clips_per_video: int = 0
    """Maximum number of clips per video (or per tile), from its beginning; 0 is all."""
    max_objects: int = 16  # type: ignore[assignment]  # a property elsewhere
    """Largest label of the masks."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the folder holds now. If it is gone, all possible splits: the built dataset then decides."""
        return tuple(split for split, recordings in self.recordings_of.items() if recordings) or SPLITS

    @functools.cached_property
    def recordings(self) -> list[Recording]:
        """The videos of the folder at the time of the first access."""
        return find_recordings(Path(self.folder))

    @property
    def by_folder(self) -> bool:
        """True if subfolders assign the videos to splits."""
        return any(recording.folder == "train" for recording in self.recordings)

    @functools.cached_property
    def recordings_of(self) -> dict[str, list[Recording]]:
        """The videos of each split."""
        return split_recordings(self.recordings, self.validation_fraction)

    @property
    def view(self) -> View:
        """See `VideoConfig.view`."""
        view = View(
            size=self.image_size, margins=self.crop, square=self.square, gray=self.gray, background=self.background
        )
        return tiled(view, self.tile) if self.tile else view

    def frames_of(self, split: str) -> int:
        """See `VideoConfig.frames_of`. Reading the videos may lower this number, if they are short."""
        del split
        return self.num_frames or LONGEST

    def validate(self) -> None:
        """See `VideoConfig.validate`."""
        self._at_least(1, "image_size")
        self._at_least(0, "num_frames")
        if not self.folder:
            raise DataError("no folder of videos given: set --config.data.options.folder=/my/videos")
        self._at_least(1, "frame_stride", "max_objects")
        self._at_least(0, "max_clips_per_video", "tile")
        if min(self.crop) < 0:
            raise DataError(f"option crop={self.crop} of {self.name}: give (left, top, right, bottom), 0 or more each")
        if self.background not in BACKGROUNDS:
            known = ", ".join(BACKGROUNDS)
            raise DataError(f"option background={self.background} of {self.name}: give one of {known}")
        if any(self.value_range) and not self.value_range[0] < self.value_range[1]:
            raise DataError(f"option value_range={self.value_range} of {self.name}: give (LOW, HIGH), LOW below HIGH")
        if not 0 <= self.validation_fraction < 1:
            raise DataError(f"option validation_fraction={self.validation_fraction} of {self.name}: give 0 to below 1")
        if self.max_objects > 255:
            raise DataError(f"option max_objects={self.max_objects} of {self.name}: give 255 or less")


class VideoFolder(FilesBuilder):
    """Clips from the videos in a folder of your own."""

    VERSION = tfds.Version("1.3.0")
    BUILDER_CONFIGS: ClassVar[list[VideoFolderConfig]] = [VideoFolderConfig(name="default")]
    builder_config: VideoFolderConfig

    @property
    def splits(self) -> tuple[str, ...]:
        """See `VideoBuilder.splits`."""
        present = (split for split, recordings in self.recordings_of.items() if recordings)
        return tuple(self.info.splits) or tuple(present) or ("train",)

    @functools.cached_property
    def recordings_of(self) -> dict[str, list[Recording]]:
        """The recordings of each split, as in the config, except that no unreadable one is held out for validation."""
        config = self.builder_config
        if config.by_folder or not config.recordings_of["validation"]:
            return config.recordings_of
        good = [one for one in config.recordings if self._lengths[one.name] >= self.num_frames]
        bad = [one for one in config.recordings if one not in good]
        if not good:
            return {"train": config.recordings, "validation": [], "test": []}  # reading reports each one's error
        split = split_recordings(good, config.validation_fraction)
        if split["train"] == split["validation"] and not self._has_two_clips(good[0]):
            split["validation"] = []
        return {**split, "train": split["train"] + bad}  # reading names and counts the bad ones

    @functools.cached_property
    def num_frames(self) -> int:
        """The number of frames per clip: the requested number, or one that the videos have.

        By default, half of the videos of each split have that many frames, and at least two if there are two. A single
        video is cut into at least two clips: one for training, one for validation.
        """
        config = self.builder_config
        if config.num_frames:
            return config.num_frames
        if self.info.splits:  # older versions did not store the number
            return self.info.metadata.get("num_frames", LONGEST)
        groups = [part for part in config.recordings_of.values() if part] if config.by_folder else [config.recordings]
        return min(LONGEST, *(self._common_length(group) for group in groups)) if groups else LONGEST

    def _common_length(self, recordings: Sequence[Recording]) -> int:
        lengths = sorted((length for one in recordings if (length := self._lengths[one.name])), reverse=True)
        config = self.builder_config
        if not lengths:
            return LONGEST
        shares = not config.by_folder and config.validation_fraction > 0
        if len(lengths) == 1:
            return max(lengths[0] // 2, 1) if shares and config.max_clips_per_video != 1 else lengths[0]
        return lengths[max(-(-len(lengths) // 2), 2 if shares else 1) - 1]

    @functools.cached_property
    def _lengths(self) -> dict[str, int]:
        """The usable frames of each recording, counted up to two clips; 0 if its beginning cannot be read.

        Reads the beginning of every recording, with a progress bar.
        """
        recordings = self.builder_config.recordings
        lengths = map_in_order(self._length, recordings, os.cpu_count() or 1)
        bar = tqdm(lengths, total=len(recordings), desc=f"{self.name} index", unit="file", mininterval=0.5)
        return {recording.name: length for length, recording in zip(bar, recordings)}

    def _length(self, recording: Recording) -> int:
        config = self.builder_config
        most = 2 * (config.num_frames or LONGEST)
        try:
            frames = alike(frame.pixels for frame in recording.footage().stored())
            return sum(1 for _ in itertools.islice(frames, 0, most * config.frame_stride, config.frame_stride))
        except DataError:
            return 0

    def _has_two_clips(self, recording: Recording) -> bool:
        """True if the recording may give two clips and has enough frames for them."""
        return self.builder_config.max_clips_per_video != 1 and self._lengths[recording.name] >= 2 * self.num_frames

    def frames_of(self, split: str) -> int:
        """See `VideoBuilder.frames_of`."""
        del split
        return self.num_frames

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        self.info.metadata["num_frames"] = self.num_frames
        return super()._split_generators(dl_manager)

    def fingerprint(self) -> str:
        """See `VideoBuilder.fingerprint`; "" for a folder without videos, such as an unmounted disk."""
        files = [path for recording in self.builder_config.recordings for path in recording.frames + recording.masks]
        listing = [(str(path), stat.st_size, stat.st_mtime_ns) for path in files for stat in [path.stat()]]
        return hashlib.sha256(repr(listing).encode()).hexdigest() if listing else ""

    def entries(self, split: str) -> Sequence[str]:
        """See `FilesBuilder.entries`."""
        config = self.builder_config
        if not config.recordings:
            found = "are no videos in" if Path(config.folder).is_dir() else "is no folder"
            raise DataError(
                f"there {found} {config.folder}: set --config.data.options.folder to a folder of videos "
                f"({' '.join(VIDEO_SUFFIXES)}) or of folders of images ({' '.join(IMAGE_SUFFIXES)})"
            )
        used = {recording.name for recordings in self.recordings_of.values() for recording in recordings}
        num_unused = len(config.recordings) - len(used)
        if num_unused and split == "train":
            print(f"warning: {num_unused} videos of {config.folder} are left out: they are in none of {SPLITS}")
        return [recording.name for recording in self.recordings_of[split]]

    def read(self, split: str, entry: str) -> Reading:
        """See `FilesBuilder.read`."""
        recordings = {recording.name: recording for recording in self.recordings_of[split]}
        recording = recordings[entry]
        # A batch needs labels for all of its clips, or for none.
        labelled = all(other.masks for other in recordings.values())
        notes = {_LEFT_OUT: int(bool(recording.masks) and not labelled)}
        spans = self._spans(recording, labelled, notes)
        if all(recording in self.recordings_of[shared] for shared in ("train", "validation")):
            spans = self._share(spans, recording, split)
        return Reading(_clips(spans), notes)

    def _share(self, spans: Iterator[list[Clip]], recording: Recording, split: str) -> Iterator[list[Clip]]:
        """Share the spans of the only recording: the first ones are for training, the last ones for validation."""
        config = self.builder_config
        seen = -(-recording.footage().count() // config.frame_stride)
        total = min(seen // self.num_frames, config.max_clips_per_video or seen)
        kept = min(max(round(total * config.validation_fraction), 1), total - 1)
        first = total - kept
        yield from itertools.islice(spans, 0 if split == "train" else first, first if split == "train" else None)

    def _spans(self, recording: Recording, labelled: bool, notes: dict[str, int]) -> Iterator[list[Clip]]:
        """Yield the clips of each span of a recording's frames, and update `notes` at its end."""
        config = self.builder_config
        video: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        num_frames = num_spans = 0
        footage = recording.footage(config.value_range if any(config.value_range) else None)
        enlarged = config.tile > 0
        background = find_background(footage, enlarged=enlarged) if config.background == "median" else None
        static = background is not None and background.is_static
        frames = alike(frame.pixels for frame in footage.frames())
        for frame, mask in (
            labelled_frames(frames, recording.masks) if labelled else ((frame, None) for frame in frames)
        ):
            num_frames += 1
            if (num_frames - 1) % config.frame_stride or config.max_clips_per_video == num_spans > 0:
                continue  # read to the end even so, to detect damage and masks of another length
            video.append(config.view.frame(background.change(frame) if background and static else frame))
            if mask is not None:
                labels.append(config.view.labels(_checked(mask, config.max_objects)))
            if len(video) == self.num_frames:
                yield self._cut(np.stack(video), np.stack(labels) if labels else None)
                num_spans += 1
                video, labels = [], []
        notes |= {_MOVING: int(background is not None and not static)}
        notes |= {_SCALED: int(footage.levels is not None), _MISSING: int(footage.num_missing > 0)}
        if not num_spans:
            needed = (self.num_frames - 1) * config.frame_stride + 1
            hint = " (omit --config.data.options.num_frames to fit clips to the length of the videos)"
            hint = hint if config.num_frames else ""
            raise DataError(f"too short: it has {num_frames} frames, but a clip takes {needed}{hint}")

    def _cut(self, video: UInt8[Array, "T *tiles S S 3"], labels: UInt8[Array, "T *tiles S S"] | None) -> list[Clip]:
        """Return the only clip of a span, or those of all tiles in which something moves."""
        if video.ndim == 4:
            return [Clip(video, labels)]
        change = np.ptp(video, axis=0).max(axis=-1) > _CHANGE
        moving = np.flatnonzero(change.mean(axis=(1, 2)) >= _CHANGED)
        return [Clip(video[:, tile], None if labels is None else labels[:, tile]) for tile in moving]


def _clips(spans: Iterable[list[Clip]]) -> Iterator[Clip]:
    """Yield the clips of all spans. Raises `DataError` if there is none, because nothing moves in any tile."""
    nothing_moves = False
    for number, span in enumerate(spans):
        nothing_moves = not span and (nothing_moves or number == 0)
        yield from span
    if nothing_moves:
        raise DataError("nothing moves in its tiles: omit the tiles (option tile)")


def _checked(labels: Integer[Array, "H W"], max_objects: int) -> UInt8[Array, "H W"]:
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest > max_objects:
        value = lowest if lowest < 0 else highest
        raise DataError(
            f"label {value} in the masks: give 0 (background) to {max_objects}, which is option max_objects"
        )
    return labels.astype(np.uint8)
