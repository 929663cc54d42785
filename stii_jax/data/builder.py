"""What every dataset of this package is: a tfds builder that can also decode a window of a stored video."""

import abc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stii_jax.data.options import VideoConfig
from stii_jax.data.pipeline import tfds


def partial_dir(folder: Path) -> Path:
    """`VideoBuilder.partial_dir` of the dataset in `folder`."""
    return folder.with_name(f"partial.{folder.name}")


class _LocalInfo(tfds.DatasetInfo):
    """Does not look for the dataset in tfds's bucket, which takes the network, and leaves a temporary folder."""

    def initialize_from_bucket(self) -> None:
        """Nothing of ours is there."""


class VideoBuilder(tfds.GeneratorBasedBuilder):
    """Base of the datasets. A new one defines `VERSION`, `BUILDER_CONFIGS` and the abstract methods.

    One that is read from files which the user has to fetch says so in `MANUAL_DOWNLOAD_INSTRUCTIONS`, and finds them
    in `manual_dir`.
    """

    BUILDER_CONFIGS: ClassVar[list[VideoConfig]]
    # Nothing is downloaded. Reading checksums would import importlib_resources, which tfds does not require.
    url_infos: ClassVar[dict[str, Any]] = {}
    builder_config: VideoConfig
    manual_dir: Path
    """Where the files are that the user has fetched; set while the dataset is built."""

    @abc.abstractmethod
    def features(self) -> dict[str, Any]:
        """tfds features of what is stored of a video. Give tensors an encoding: tfds's default is ten times slower."""

    @abc.abstractmethod
    def videos(self, split: str) -> Iterator[dict[str, Any]]:
        """The videos of a split, in their stored order, with a progress bar."""

    @abc.abstractmethod
    def decode(self, example: dict[str, Any], start: int, num_frames: int) -> dict[str, np.ndarray]:
        """Frames `start` to `start + num_frames` of a stored video.

        Returns:
            `video` uint8 `T H W 3` in 0..255 and, where the split has labels, `segmentation` uint8 `T H W`
            (0 = background).
        """

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits: those that were built, or are to be built."""
        return tuple(self.info.splits) or self.builder_config.splits

    def frames_of(self, split: str) -> int:
        """Frames of a stored video of a split, once it is built: those that the config says, or fewer."""
        return self.builder_config.frames_of(split)

    def fingerprint(self) -> str:
        """Changes when the files change that the dataset was made from; "" where that is not watched."""
        return ""

    @property
    def partial_dir(self) -> Path:
        """Where a build may keep what it would not do again after a kill; removed once the dataset is whole."""
        # While tfds builds, its folder has another name, and each time another.
        return partial_dir(Path(self.data_path).with_name(str(self.version)))

    def _info(self) -> tfds.DatasetInfo:
        return _LocalInfo(
            builder=self,
            features=tfds.FeaturesDict(self.features()),
            metadata=tfds.MetadataDict(),
            # Stored in the order of generation; the readers shuffle.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        if self.MANUAL_DOWNLOAD_INSTRUCTIONS:
            self.manual_dir = Path(dl_manager.manual_dir)
        self.info.metadata["fingerprint"] = self.fingerprint()
        return {split: enumerate(self.videos(split)) for split in self.splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        raise AssertionError("tfds wants this method; `_split_generators` gives the videos themselves")
