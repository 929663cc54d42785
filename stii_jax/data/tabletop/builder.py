"""The tabletop dataset: its variants, and the stored arrays."""

import dataclasses
import functools
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from stii_jax.data.errors import DataError
from stii_jax.data.options import GeneratedConfig
from stii_jax.data.pipeline import tfds
from stii_jax.data.pipeline.stored import Clip, StoredBuilder
from stii_jax.data.tabletop.camera import make_camera, project
from stii_jax.data.tabletop.render import Stage, make_stage, render, with_floor
from stii_jax.data.tabletop.scene import Motion, Scenes, draw_scenes

# Number of scenes drawn together. It affects the meaning of a seed, since every block has its own random numbers.
_BLOCK = 32
# Range of a coloured floor's red, green and blue relative to the grey floor.
_TINTS = (0.1, 1.3)
# Number of objects in the videos of the split "test6".
_SIX = 6


@dataclasses.dataclass(eq=False, kw_only=True)
class TabletopConfig(GeneratedConfig):
    """Options of the tabletop world. The unit of length is the diameter of a ball."""

    num_frames: int = 64
    num_train: int = 10_000
    num_validation: int = 200
    num_test: int = 1_000
    num_test6: int = 1_000
    """Number of videos in the split "test6", which is like "test" but has six objects per video."""
    num_objects: tuple[int, int] = (3, 5)
    """Minimum and maximum number of objects in a video, except in "test6"; each count is equally likely."""
    view_width: float = 6.5
    """Width of the visible area in the middle of the image. A smaller width brings the camera nearer."""
    speed: tuple[float, float] = (0.05, 0.16)
    """Range of the speed of objects that do not start at rest, per frame."""
    friction: float = 0.001
    """Loss of speed of a sliding object per frame."""
    random_floor: bool = False
    """True to give the floor of each video a random colour; otherwise all floors are grey."""

    @property
    def split_sizes(self) -> dict[str, int]:
        """The number of videos per split."""
        return {**super().split_sizes, "test6": self.num_test6}

    @property
    def max_objects(self) -> int:
        """The maximum number of objects in a video of any split."""
        return max(self.num_objects[1], _SIX)

    def validate(self) -> None:
        """See `VideoConfig.validate`."""
        super().validate()
        self._count_range(20, "num_objects")
        self._multiple_of(4, "image_size")
        if not (2 <= self.view_width <= 12 and 0 < self.speed[0] <= self.speed[1] <= 1 and self.friction >= 0):
            raise DataError(
                f"options view_width={self.view_width}, speed={self.speed}, friction={self.friction} of {self.name}: "
                "give a view_width of 2 to 12, a speed of (lowest, highest) up to 1, and a friction of 0 or more"
            )

    def motion(self, split: str) -> Motion:
        """The parameters of a split's random scenes."""
        counts = (_SIX, _SIX) if split == "test6" else self.num_objects
        return Motion(counts, self.speed, self.friction, self.num_frames, all_inside=split != "train")


class Tabletop(StoredBuilder):
    """Balls, cubes and cylinders that slide, collide and occlude each other on a floor, in the spirit of CLEVRER.

    In "train", objects enter and leave. In the other splits, all objects are always inside the image.
    """

    VERSION = tfds.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[TabletopConfig]] = [
        TabletopConfig(name="default"),
        TabletopConfig(name="large", image_size=128),
        TabletopConfig(
            name="mini",
            num_objects=(2, 3),
            image_size=32,
            view_width=4.6,
            speed=(0.04, 0.12),
            num_frames=40,
            num_train=1_500,
            num_validation=60,
            num_test=100,
            num_test6=100,
        ),
    ]
    builder_config: TabletopConfig

    def extra_features(self) -> dict[str, Any]:
        """The TFDS features of the objects, padded to `max_objects` with zeros, or -1 for their looks."""
        frames, most = self.builder_config.num_frames, self.builder_config.max_objects

        def tensor(dtype: type, *shape: int) -> tfds.Tensor:
            return tfds.Tensor(shape=shape, dtype=dtype, encoding=tfds.Encoding.BYTES)

        return {
            "num_objects": tensor(np.int32),
            # Indices in `lights.COLORS`, `lights.MATERIALS` and `shapes.SHAPES`.
            "colors": tensor(np.int32, most),
            "materials": tensor(np.int32, most),
            "shapes": tensor(np.int32, most),
            # Centres in the world, and in the image in pixels. Hidden and outside objects have them, too.
            "positions": tensor(np.float32, frames, most, 3),
            "image_positions": tensor(np.float32, frames, most, 2),
            # Number of pixels that show an object, and that would show it without the other objects.
            "visible_pixels": tensor(np.int32, frames, most),
            "whole_pixels": tensor(np.int32, frames, most),
        }

    def clips(self, split: str) -> Iterator[Clip]:
        """Draw the videos of a split, block by block. They do not depend on the sizes of the splits."""
        config = self.builder_config
        num_videos = config.split_sizes[split]
        camera = make_camera(config.view_width)
        stage = make_stage(camera, config.image_size)
        bar = tqdm(total=num_videos, desc=f"{config.name} {split}", unit="video", mininterval=0.5)
        with ThreadPoolExecutor(os.cpu_count()) as pool, bar:
            for first in range(0, num_videos, _BLOCK):
                rng = np.random.default_rng([config.seed, zlib.crc32(split.encode()), first // _BLOCK])
                scenes = draw_scenes(rng, _BLOCK, config.motion(split), camera)
                tints = rng.uniform(*_TINTS, (_BLOCK, 3)).astype(np.float32)
                stages = [with_floor(stage, tint) if config.random_floor else stage for tint in tints]
                make = functools.partial(make_clip, scenes, config.max_objects)
                for clip in pool.map(make, range(min(_BLOCK, num_videos - first)), stages):
                    yield clip
                    bar.update()


def make_clip(scenes: Scenes, max_objects: int, index: int, stage: Stage) -> Clip:
    """Render one of several scenes. The clip also holds the stored facts about its objects."""
    objects = scenes.objects(index)
    count = len(objects.shapes)
    rendering = render(stage, objects)

    def padded(values: np.ndarray, dtype: type, axis: int = 1, fill: int = 0) -> np.ndarray:
        missing = [(0, max_objects - count if i == axis else 0) for i in range(values.ndim)]
        return np.pad(values.astype(dtype), missing, constant_values=fill)

    extras: dict[str, np.ndarray] = {
        "num_objects": np.array(count, np.int32),
        "colors": padded(objects.colors, np.int32, axis=0, fill=-1),
        "materials": padded(objects.materials, np.int32, axis=0, fill=-1),
        "shapes": padded(objects.shapes, np.int32, axis=0, fill=-1),
        "positions": padded(objects.positions, np.float32),
        "image_positions": padded(project(stage.camera, objects.positions, stage.image_size), np.float32),
        "visible_pixels": padded(rendering.visible, np.int32),
        "whole_pixels": padded(rendering.whole, np.int32),
    }
    return Clip(rendering.video, rendering.segmentation, extras)
