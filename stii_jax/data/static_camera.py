"""One long recording of a camera that stands still, cut into sequences."""

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

_THREADS = 4  # of the decoder


@dataclasses.dataclass(eq=False, kw_only=True)
class RecordingConfig(VideoConfig):
    """How a recording is cut: in time, training comes first, then validation, then test."""

    image_size: int = 128
    num_frames: int = 20
    region: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Left edge, upper edge, width and height of what is seen, in pixels; all 0 is the frame's middle square."""
    frame_stride: int = 1  # type: ignore[misc]  # of the class where a dataset has no such option
    """Every how many frames one is taken."""
    gap: int = 0
    """Frames left out between one sequence and the next."""
    validation_fraction: float = 0.1
    """Share of the sequences that is kept for validation: one at least, or 0 for no such split."""
    test_fraction: float = 0.1
    """The same for testing."""
    max_objects: int = 10  # type: ignore[assignment]  # a property elsewhere
    """How many objects are in sight, about; nothing is labelled."""

    @property
    def splits(self) -> tuple[str, ...]:
        """See `VideoConfig.splits`."""
        return tuple(self.fractions)

    @property
    def fractions(self) -> dict[str, float]:
        """Share of the sequences of each split, in the order of time."""
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
    """How a recording of your own is cut."""

    paths: ClassVar[tuple[str, ...]] = ("file",)
    file: str = ""
    """The recording."""

    def validate(self) -> None:
        """See `VideoConfig.validate`."""
        super().validate()
        if not self.file:
            raise DataError("which file is your recording? Give --config.data.options.file=/my/video.mp4")


class StaticCamera(StoredBuilder):
    """Sequences of a recording of yours."""

    VERSION = tfds.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[RecordingConfig]] = [StaticCameraConfig(name="default")]
    builder_config: RecordingConfig

    def find(self) -> Path:
        """The recording's file.

        Raises:
            DataError: there is none.
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
            # Nothing but a sequence is held in memory, and of that what is seen.
            seen = [
                config.view.frame(frame)
                for offset, frame in zip(range(period), frames)
                if offset < _span(config) and offset % config.frame_stride == 0
            ]
            yield Clip(np.stack(seen))

    @functools.cached_property
    def _sequences(self) -> dict[str, tuple[int, int]]:
        """Numbers of the first sequence of each split, and of the one after the last."""
        path, config = self.find(), self.builder_config
        try:
            num_frames = count_frames(path, _THREADS, f"{self.name}: counting frames")
        except DamageError as error:
            print(f"warning: {error}. The frames before are used", flush=True)
            num_frames = error.num_frames
        return cut(num_frames, config, path)


def cut(num_frames: int, config: RecordingConfig, path: Path) -> dict[str, tuple[int, int]]:
    """Shares the sequences of a recording out: the numbers of each split's first, and of the one after its last.

    Raises:
        DataError: there are not enough for one a split.
    """
    span = _span(config)
    total = max(0, num_frames + config.gap) // (span + config.gap)
    sizes = {split: max(1, round(total * share)) for split, share in config.fractions.items()}
    sizes["train"] = total - sum(sizes[split] for split in sizes if split != "train")
    if sizes["train"] < 1:
        needed = len(sizes) * (span + config.gap) - config.gap
        raise DataError(
            f"{path} has {num_frames} frames: one sequence for each of {', '.join(sizes)} takes {needed}. "
            "Give a longer recording, or a smaller num_frames, frame_stride or gap"
        )
    ends = np.cumsum(list(sizes.values())).tolist()
    return {split: (end - size, end) for (split, size), end in zip(sizes.items(), ends)}


def _span(config: RecordingConfig) -> int:
    """Frames of the recording from a sequence's first to its last."""
    return (config.num_frames - 1) * config.frame_stride + 1


@dataclasses.dataclass(eq=False, kw_only=True)
class GrandCentralConfig(RecordingConfig):
    """How the recording of Grand Central Station is cut."""

    region: tuple[int, int, int, int] = (296, 176, 128, 128)


class GrandCentral(StaticCamera):
    """Grand Central Station in New York: people crossing a hall, from above.

    Zhou, Wang, Tang (2012): Understanding Collective Crowd Behaviors: Learning a Mixture Model of Dynamic
    Pedestrian-Agents.
    """

    BUILDER_CONFIGS: ClassVar[list[RecordingConfig]] = [GrandCentralConfig(name="default")]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Fetch the video (grandcentral.avi, 720x480 pixels, half an hour) of "Train Station" from the page of Zhou, Wang and
    Tang, "Understanding Collective Crowd Behaviors" (CVPR 2012).
    """

    def find(self) -> Path:
        """See `StaticCamera.find`."""
        videos = sorted(path for path in self.manual_dir.iterdir() if path.suffix.lower() == ".avi")
        named = [path for path in videos if path.name.lower() == "grandcentral.avi"]
        if len(named or videos) != 1:
            found = ", ".join(path.name for path in videos) or "none"
            raise DataError(f"which file in {self.manual_dir} is the recording? It is grandcentral.avi; .avi: {found}")
        return (named or videos)[0]

    def fingerprint(self) -> str:
        """Not watched: the recording is the same for everybody."""
        return ""
