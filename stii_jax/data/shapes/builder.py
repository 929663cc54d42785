"""The dataset of moving shapes: its variants, and the stored arrays.

Scenes are stored instead of pixels, and frames are drawn when they are read. Noisy frames hardly compress, whereas
scenes take a hundredth of the space and are fast to write.
"""

import zlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from stii_jax.data.builder import VideoBuilder
from stii_jax.data.pipeline import tfds
from stii_jax.data.shapes.options import ShapesConfig
from stii_jax.data.shapes.render import render
from stii_jax.data.shapes.scene import Scene, draw_scenes
from stii_jax.data.video.background import Background

Array = np.ndarray

# Number of frames at most from which a video's background is estimated.
_SAMPLES = 31
# Number of videos drawn together. It affects the meaning of a seed, since every block has its own random numbers.
_BLOCK = 256

_PERFECT_CAMERA: dict[str, Any] = {
    **{"shadow_share": 0.0, "vignette_share": 0.0, "compression_share": 0.0},
    **{"noise": (0.0, 0.0), "flicker": (0.0, 0.0)},
}


class Shapes(VideoBuilder):
    """Discs, ellipses, polygons, worms and insects in front of a static camera, in videos of many kinds."""

    VERSION = tfds.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[ShapesConfig]] = [
        ShapesConfig(name="default"),
        ShapesConfig(name="plain", surfaces="flat", backgrounds="black+gray+color", **_PERFECT_CAMERA),
        ShapesConfig(
            name="white",
            contrast=(1.0, 1.0),
            surfaces="flat",
            backgrounds="black",
            gray_share=1.0,
            **_PERFECT_CAMERA,
        ),
        ShapesConfig(
            name="mini",
            num_objects=(1, 3),
            length=(0.2, 0.45),
            image_size=32,
            num_train=2_000,
            num_validation=100,
            num_test=200,
        ),
    ]
    builder_config: ShapesConfig

    def features(self) -> dict[str, Any]:
        """The TFDS features: the arrays of a `Scene`, by name."""
        example = draw_scenes(np.random.default_rng(0), 1, self.builder_config)
        raw = tfds.Encoding.BYTES
        return {
            key: tfds.Tensor(shape=values.shape[1:], dtype=values.dtype, encoding=raw)
            for key, values in example._asdict().items()
        }

    def videos(self, split: str) -> Iterator[dict[str, Any]]:
        """Draw the scenes of a split, block by block. They do not depend on the sizes of the splits."""
        config = self.builder_config
        num_videos = config.split_sizes[split]
        with tqdm(total=num_videos, desc=f"{config.name} {split}", unit="video", mininterval=0.5) as bar:
            for first in range(0, num_videos, _BLOCK):
                rng = np.random.default_rng([config.seed, zlib.crc32(split.encode()), first // _BLOCK])
                scenes = draw_scenes(rng, _BLOCK, config)._asdict()
                for index in range(min(_BLOCK, num_videos - first)):
                    yield {key: values[index] for key, values in scenes.items()}
                    bar.update()

    def decode(self, example: dict[str, Any], start: int, num_frames: int) -> dict[str, np.ndarray]:
        """See `VideoBuilder.decode`."""
        scene = Scene(**{key: np.asarray(example[key]) for key in Scene._fields})
        size = self.builder_config.image_size
        video, masks = render(scene, start, num_frames, size)
        if self.builder_config.difference:
            video = self._difference(scene, video)
        return {"video": video, "segmentation": masks}

    def _difference(self, scene: Scene, video: UInt8[Array, "T S S 3"]) -> UInt8[Array, "T S S 3"]:
        """Remove the background, as found in frames spread over the whole video."""
        config = self.builder_config
        step = -(-config.num_frames // _SAMPLES)
        samples, _ = render(scene, 0, -(-config.num_frames // step), config.image_size, step)
        background = Background(samples)
        return np.stack([background.change(frame) for frame in video])
