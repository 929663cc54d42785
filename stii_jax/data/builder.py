"""The base class of all datasets: a TFDS builder that can also decode a window of a stored video."""

import abc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stii_jax.data.options import VideoConfig
from stii_jax.data.pipeline import tfds


def partial_dir(folder: Path) -> Path:
    """The `VideoBuilder.partial_dir` of the dataset in `folder`."""
    return folder.with_name(f"partial.{folder.name}")


class _LocalInfo(tfds.DatasetInfo):
    """Dataset info that skips TFDS's bucket: the look-up needs the network and leaves a temporary folder behind."""

    def initialize_from_bucket(self) -> None:
        """Do nothing: the bucket holds none of these datasets."""


class VideoBuilder(tfds.GeneratorBasedBuilder):
    """The base class of all datasets. Subclasses define `VERSION`, `BUILDER_CONFIGS` and the abstract methods.

    A dataset built from files that the user has to download sets `MANUAL_DOWNLOAD_INSTRUCTIONS` and finds the files in
    `manual_dir`.
    """

    BUILDER_CONFIGS: ClassVar[list[VideoConfig]]
    # Nothing is downloaded. Reading checksums would import importlib_resources, which TFDS does not require.
    url_infos: ClassVar[dict[str, Any]] = {}
    builder_config: VideoConfig
    manual_dir: Path
    """The folder of the files that the user has downloaded; set while the dataset is built."""

    @abc.abstractmethod
    def features(self) -> dict[str, Any]:
        """The TFDS features of a stored video. Give tensors an encoding: TFDS's default is ten times slower."""

    @abc.abstractmethod
    def videos(self, split: str) -> Iterator[dict[str, Any]]:
        """The videos of a split, in their stored order, with a progress bar."""

    @abc.abstractmethod
    def decode(self, example: dict[str, Any], start: int, num_frames: int) -> dict[str, np.ndarray]:
        """Decode frames `start` to `start + num_frames` of a stored video.

        Returns:
            `video` uint8 `T H W 3` in 0..255 and, where the split has labels, `segmentation` uint8 `T H W`
            (0 = background).
        """

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits that were built, or will be built."""
        return tuple(self.info.splits) or self.builder_config.splits

    def frames_of(self, split: str) -> int:
        """The number of frames per stored video of a split. Once built, it may be lower than in the config."""
        return self.builder_config.frames_of(split)

    def fingerprint(self) -> str:
        """A string that changes with the dataset's source files; "" if changes are not tracked."""
        return ""

    @property
    def partial_dir(self) -> Path:
        """A folder for intermediate results, so that a killed build can resume. It is removed after the build."""
        # While TFDS builds, its own folder has a temporary name that differs every time.
        return partial_dir(Path(self.data_path).with_name(str(self.version)))

    def _info(self) -> tfds.DatasetInfo:
        return _LocalInfo(
            builder=self,
            features=tfds.FeaturesDict(self.features()),
            metadata=tfds.MetadataDict(),
            # Videos are stored in the order of generation; the readers shuffle.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        if self.MANUAL_DOWNLOAD_INSTRUCTIONS:
            self.manual_dir = Path(dl_manager.manual_dir)
        self.info.metadata["fingerprint"] = self.fingerprint()
        return {split: enumerate(self.videos(split)) for split in self.splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        raise AssertionError("TFDS requires this method, but `_split_generators` already returns the videos")
