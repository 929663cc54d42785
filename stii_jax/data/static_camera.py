"""One long recording by a static camera, cut into clips."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from stii_jax.data.errors import DamageError, DataError
from stii_jax.data.options import VideoConfig
from stii_jax.data.pipeline import tfds
from stii_jax.data.pipeline.stored import Clip, StoredBuilder
from stii_jax.data.video.videofile import count_frames, read_frames
from stii_jax.data.video.view import View

_THREADS = 4  # decoder threads


@dataclasses.dataclass(eq=False, kw_only=True)
class RecordingConfig(VideoConfig):
    """Options for cutting a recording into clips: the training clips come first, then validation, then test."""

    image_size: int = 128
    num_frames: int = 20
    region: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Left edge, top edge, width and height of the visible region, in pixels; all 0 is the centred square."""
    frame_stride: int = 1  # type: ignore[misc]  # a class variable in datasets without this option
    """Step between the frames that are taken: 1 takes every frame."""
    gap: int = 0
    """Number of frames skipped between two clips."""
    validation_fraction: float = 0.1
    """Fraction of the clips held out for validation: at least one clip, or 0 for no such split."""
    test_fraction: float = 0.1
    """Fraction of the clips held out for testing; see `validation_fraction`."""
    max_objects: int = 10  # type: ignore[assignment]  # a property elsewhere
    """Approximate number of visible objects; there are no labels."""

    @property
    def splits(self) -> tuple[str, ...]:
        """See `VideoConfig.splits`."""
        return tuple(self.fractions)

    @property
    def fractions(self) -> dict[str, float]:
        """The fraction of the clips in each split, in temporal order."""
        shares = {"validation": self.validation_fraction, "test": self.test_fraction}
        return {"train": 1 - sum(shares.values())} | {split: share for split, share in shares.items() if share}

    @property
    def view(self) -> View:
        """See `VideoConfig.view`."""
        whole = not any(self.region)
        return View(size=self.image_size, region=None if whole else self.region, square=whole)

    def validate(self) -> None:
        """See `VideoConfig.validate`."""
        super().validate()
        self._at_least(1, "frame_stride", "max_objects")
        self._at_least(0, "gap", "validation_fraction", "test_fraction")
        if self.fractions["train"] <= 0:
            raise DataError(
                f"options validation_fraction={self.validation_fraction}, test_fraction={self.test_fraction} of "
                f"{self.name}: give a sum below 1"
            )
        if any(self.region) and (min(self.region) < 0 or min(self.region[2:]) < 1):
            raise DataError(f"option region={self.region} of {self.name}: give (left, top, width, height) in pixels")


@dataclasses.dataclass(eq=False, kw_only=True)
class StaticCameraConfig(RecordingConfig):
    """Options for cutting a recording of your own."""

    paths: ClassVar[tuple[str, ...]] = ("file",)
    file: str = ""
    """Path of the recording."""

    def validate(self) -> None:
        """See `VideoConfig.validate`."""
        super().validate()
        if not self.file:
            raise DataError("no recording given: set --config.data.options.file=/my/video.mp4")


class StaticCamera(StoredBuilder):
    """Clips from a recording of your own."""

    VERSION = tfds.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[RecordingConfig]] = [StaticCameraConfig(name="default")]
    builder_config: RecordingConfig

    def find(self) -> Path:
        """Return the path of the recording.

        Raises:
            DataError: there is no such file.
        """
        assert isinstance(self.builder_config, StaticCameraConfig)
        path = Path(self.builder_config.file)
        if not path.is_file():
            raise DataError(f"there is no file {path}: give your recording as --config.data.options.file")
        return path

    def fingerprint(self) -> str:
        """See `VideoBuilder.fingerprint`."""
        try:
            stat = self.find().stat()
        except DataError:
            return ""
        return f"{stat.st_size} {stat.st_mtime_ns}"

    def clips(self, split: str) -> Iterator[Clip]:
        """See `StoredBuilder.clips`."""
        config = self.builder_config
        path = self.find()
        first, last = self._sequences[split]
        period = _span(config) + config.gap
        frames = read_frames(path, _THREADS, first * period)
        for _ in tqdm(range(last - first), desc=f"{self.name} {split}", unit="clip", mininterval=0.5):
            # Only one clip is held in memory, cropped to the visible region.
            seen = [
                config.view.frame(frame)
                for offset, frame in zip(range(period), frames)
                if offset < _span(config) and offset % config.frame_stride == 0
            ]
            yield Clip(np.stack(seen))

    @functools.cached_property
    def _sequences(self) -> dict[str, tuple[int, int]]:
        """The range of clips in each split, as the first number and the one after the last."""
        path, config = self.find(), self.builder_config
        try:
            num_frames = count_frames(path, _THREADS, f"{self.name}: counting frames")
        except DamageError as error:
            print(f"warning: {error}. The frames before the damage are used", flush=True)
            num_frames = error.num_frames
        return cut(num_frames, config, path)


def cut(num_frames: int, config: RecordingConfig, path: Path) -> dict[str, tuple[int, int]]:
    """Assign the clips of a recording to the splits. Return each split's first clip number and the one after its last.

    Raises:
        DataError: the recording is too short for one clip per split.
    """
    span = _span(config)
    total = max(0, num_frames + config.gap) // (span + config.gap)
    sizes = {split: max(1, round(total * share)) for split, share in config.fractions.items()}
    sizes["train"] = total - sum(sizes[split] for split in sizes if split != "train")
    if sizes["train"] < 1:
        needed = len(sizes) * (span + config.gap) - config.gap
        raise DataError(
            f"{path} has {num_frames} frames, but one clip for each of {', '.join(sizes)} takes {needed}. "
            "Give a longer recording, or a smaller num_frames, frame_stride or gap"
        )
    ends = np.cumsum(list(sizes.values())).tolist()
    return {split: (end - size, end) for (split, size), end in zip(sizes.items(), ends)}


def _span(config: RecordingConfig) -> int:
    """The number of the recording's frames from a clip's first to its last."""
    return (config.num_frames - 1) * config.frame_stride + 1


@dataclasses.dataclass(eq=False, kw_only=True)
class GrandCentralConfig(RecordingConfig):
    """Options for cutting the recording of Grand Central Station."""

    region: tuple[int, int, int, int] = (296, 176, 128, 128)


class GrandCentral(StaticCamera):
    """Grand Central Station in New York: people crossing a hall, filmed from above.

    Zhou, Wang, Tang (2012): Understanding Collective Crowd Behaviors: Learning a Mixture Model of Dynamic
    Pedestrian-Agents.
    """

    BUILDER_CONFIGS: ClassVar[list[RecordingConfig]] = [GrandCentralConfig(name="default")]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download the "Train Station" video (grandcentral.avi, 720x480 pixels, half an hour) from the page of Zhou, Wang and
    Tang, "Understanding Collective Crowd Behaviors" (CVPR 2012).
    """

    def find(self) -> Path:
        """See `StaticCamera.find`."""
        videos = sorted(path for path in self.manual_dir.iterdir() if path.suffix.lower() == ".avi")
        named = [path for path in videos if path.name.lower() == "grandcentral.avi"]
        if len(named or videos) != 1:
            found = ", ".join(path.name for path in videos) or "none"
            raise DataError(f"put one file named grandcentral.avi in {self.manual_dir}; .avi files there: {found}")
        return (named or videos)[0]

    def fingerprint(self) -> str:
        """Return "": the recording is the same for everybody."""
        return ""
