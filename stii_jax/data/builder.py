"""What every dataset of this package is: a tfds builder that can also decode a window of a stored video."""

import abc
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from stii_jax.data.options import VideoConfig


class VideoBuilder(tfds.core.GeneratorBasedBuilder):
    """Base of the datasets. A new one defines `VERSION`, `BUILDER_CONFIGS` and the abstract methods."""

    BUILDER_CONFIGS: ClassVar[list[VideoConfig]]
    # Nothing is downloaded. Reading checksums would import importlib_resources, which tfds does not require.
    url_infos: ClassVar[dict[str, Any]] = {}
    builder_config: VideoConfig

    @abc.abstractmethod
    def features(self) -> tfds.features.FeaturesDict:
        """What is stored of a video. Give tensors an encoding: tfds's default is ten times slower."""

    @abc.abstractmethod
    def videos(self, split: str) -> Iterator[dict[str, Any]]:
        """The videos of "train", "validation" or "test", in their stored order."""

    @abc.abstractmethod
    def decode(self, example: dict[str, Any], start: int, num_frames: int) -> dict[str, np.ndarray]:
        """Frames `start` to `start + num_frames` of a stored video.

        Returns:
            `video` uint8 `T H W 3` in 0..255 and, where the dataset has labels, `segmentation` uint8 `T H W`
            (0 = background).
        """

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=self.features(),
            # Stored in the order of generation; the readers shuffle.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        sizes = self.builder_config.split_sizes
        bar = tqdm(total=sum(sizes.values()), desc=self.builder_config.name, unit="video", mininterval=0.5)
        return {split: self._generate_examples(split, bar) for split in sizes}

    def _generate_examples(self, split: str, bar: tqdm) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, video in enumerate(self.videos(split)):
            yield index, video
            bar.update()
        if bar.n >= bar.total:
            bar.close()
