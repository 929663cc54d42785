"""The bouncing-balls dataset: its variants, and the stored arrays.

Trajectories are stored instead of pixels. They are written ten times as fast as compressed masks, and take half the
space. Drawing a clip of a few frames is faster than decompressing the whole video.
"""

import dataclasses
import zlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from stii_jax.data.bouncing_balls import physics, render
from stii_jax.data.builder import VideoBuilder
from stii_jax.data.errors import DataError, unknown
from stii_jax.data.options import GeneratedConfig
from stii_jax.data.pipeline import tfds

# Number of videos simulated together. It affects the meaning of a seed, since every block has its own random numbers.
_BLOCK = 256


@dataclasses.dataclass(eq=False, kw_only=True)
class BouncingBallsConfig(GeneratedConfig):
    """Options of the bouncing balls. Lengths are in box units of 6.4 pixels, for 64 pixels and a 10-unit box."""

    num_balls: tuple[int, int] = (4, 4)
    """Minimum and maximum number of balls in a video; each count is equally likely."""
    num_colors: int = 4
    """Ball k has the palette's colour k modulo this number; 0 draws all balls white."""
    palette: str = "paper"
    """One of `render.PALETTES`."""
    shuffle_colors: bool = False
    """True to shuffle the colours in each video, so that none identifies a ball. Needs at least one per ball."""
    random_background: bool = False
    """True to give each video a random background colour, of at most half brightness; otherwise it is black."""
    black_share: float = 0.0
    """Fraction of videos whose background stays black despite `random_background`."""
    one_color_share: float = 0.0
    """Fraction of videos whose balls all have the colour of the first."""
    white_share: float = 0.0
    """Fraction of videos that are white on black."""
    box_size: float = 10.0
    """Side of the box. To keep the balls' size in pixels, scale it with the image: 5.0 for 32 pixels."""
    margin: float = 0.0
    """Width of the box's invisible rim, through which balls leave and enter the frame."""
    screen: float = 0.0
    """Width of a vertical strip in the middle of the frame that hides the balls behind it. It has the background's
    colour."""
    radii: tuple[float, float] = (5.1 / 6.4, 1.0)
    """The two ball radii, equally likely. Mass is proportional to area."""
    speed: tuple[float, float] = (0.7 / 6.4, 1.3 / 6.4)
    """Range of a video's mean speed in its first frame, in box units per frame."""

    @property
    def max_objects(self) -> int:
        """The maximum number of balls in a video."""
        return self.num_balls[1]

    def validate(self) -> None:
        """See `VideoConfig.validate`."""
        super().validate()
        self._count_range(255, "num_balls")
        most = self.num_balls[1]
        if self.palette not in render.PALETTES:
            raise unknown(f"palette of {self.name}", self.palette, render.PALETTES)
        if not 0 <= self.num_colors <= len(render.PALETTES[self.palette]):
            known = len(render.PALETTES[self.palette])
            raise DataError(f"option num_colors={self.num_colors} of {self.name}: give 0 (white) to {known}")
        if self.shuffle_colors and self.num_colors < most:
            raise DataError(
                f"option num_colors={self.num_colors} of {self.name}: shuffle_colors needs {most} or more, one per ball"
            )
        if not (min(self.radii) > 0 and self.box_size > 0 and 0 < self.speed[0] <= self.speed[1]):
            raise DataError(
                f"options radii={self.radii}, box_size={self.box_size}, speed={self.speed} of {self.name}: "
                "give positive lengths, and speed as (lowest, highest)"
            )
        for share in ("black_share", "one_color_share", "white_share"):
            if not 0 <= getattr(self, share) <= 1:
                raise DataError(f"option {share}={getattr(self, share)} of {self.name}: give 0 to 1")
        if not 0 <= 2 * self.margin < self.box_size:
            raise DataError(f"option margin={self.margin} of {self.name}: give 0 to less than half of box_size")
        width = self.box_size - 2 * self.margin
        if not 0 <= self.screen < width:
            raise DataError(f"option screen={self.screen} of {self.name}: give 0 to less than the frame's {width:g}")


class BouncingBalls(VideoBuilder):
    """Balls of two sizes that bounce off each other and off the walls of a box, without occlusion."""

    VERSION = tfds.Version("1.1.0")
    BUILDER_CONFIGS: ClassVar[list[BouncingBallsConfig]] = [
        BouncingBallsConfig(name="binary4", num_balls=(4, 4), num_colors=0),
        BouncingBallsConfig(name="binary678", num_balls=(6, 8), num_colors=0),
        BouncingBallsConfig(name="color4", num_balls=(4, 4), num_colors=4),
        BouncingBallsConfig(name="color678_4colors", num_balls=(6, 8), num_colors=4),
        BouncingBallsConfig(name="color678_8colors", num_balls=(6, 8), num_colors=8),
        BouncingBallsConfig(
            name="mini",
            num_balls=(2, 3),
            image_size=32,
            box_size=5.0,
            num_train=2_000,
            num_validation=100,
            num_test=200,
        ),
    ]
    builder_config: BouncingBallsConfig

    def features(self) -> tfds.FeaturesDict:
        """The TFDS features: trajectories and radii (0 for an absent ball) in box units, and colours."""
        config = self.builder_config
        track = (config.num_frames, config.max_objects, 2)
        raw = tfds.Encoding.BYTES
        return tfds.FeaturesDict(
            {
                "positions": tfds.Tensor(shape=track, dtype=np.float32, encoding=raw),
                "velocities": tfds.Tensor(shape=track, dtype=np.float32, encoding=raw),
                "radii": tfds.Tensor(shape=(config.max_objects,), dtype=np.float32, encoding=raw),
                "background": tfds.Tensor(shape=(3,), dtype=np.uint8, encoding=raw),
                "colors": tfds.Tensor(shape=(config.max_objects, 3), dtype=np.uint8, encoding=raw),
            }
        )

    def videos(self, split: str) -> Iterator[dict[str, Any]]:
        """Simulate the videos of a split, block by block. They do not depend on the sizes of the splits."""
        config = self.builder_config
        num_videos = config.split_sizes[split]
        bar = tqdm(total=num_videos, desc=f"{config.name} {split}", unit="video", mininterval=0.5)
        for first in range(0, num_videos, _BLOCK):
            rng = np.random.default_rng([config.seed, zlib.crc32(split.encode()), first // _BLOCK])
            radii, trajectories = simulate_block(rng, config)
            colors, backgrounds = draw_colors(rng, config)
            for index in range(min(_BLOCK, num_videos - first)):
                yield {
                    "positions": trajectories.positions[index].astype(np.float32),
                    "velocities": trajectories.velocities[index].astype(np.float32),
                    "radii": radii[index].astype(np.float32),
                    "background": backgrounds[index],
                    "colors": colors[index],
                }
                bar.update()
        bar.close()

    def decode(self, example: dict[str, Any], start: int, num_frames: int) -> dict[str, np.ndarray]:
        """See `VideoBuilder.decode`."""
        config = self.builder_config
        scale = np.float32(config.image_size / (config.box_size - 2 * config.margin))
        positions = (example["positions"][start : start + num_frames] - np.float32(config.margin)) * scale
        masks = render.render_masks(positions, example["radii"] * scale, config.image_size)
        if hidden := round(config.screen * float(scale)):
            left = (config.image_size - hidden) // 2
            masks[:, :, left : left + hidden] = 0
        return {"video": render.render_frames(masks, example["colors"], example["background"]), "segmentation": masks}


def simulate_block(rng: np.random.Generator, config: BouncingBallsConfig) -> tuple[np.ndarray, physics.Trajectories]:
    """Simulate a block of random videos: the balls' radii `N K` (0 for an absent ball) and their trajectories."""
    fewest, most = config.num_balls
    counts = rng.integers(fewest, most, size=_BLOCK, endpoint=True)
    present = np.arange(most) < counts[:, None]
    radii = np.array(config.radii)[rng.integers(0, 2, size=present.shape)] * present
    positions = physics.place(rng, radii, config.box_size)
    velocities = physics.draw_velocities(rng, present, config.speed)
    trajectories = physics.simulate(
        positions, velocities, radii, box_size=config.box_size, num_frames=config.num_frames
    )
    return radii, trajectories


def draw_colors(rng: np.random.Generator, config: BouncingBallsConfig) -> tuple[np.ndarray, np.ndarray]:
    """Draw the colours of a block of videos: `N K 3` for the balls and `N 3` for the backgrounds."""
    if config.num_colors == 0:
        colors = np.tile(render.WHITE, (_BLOCK, config.max_objects, 1))
    else:
        order = np.tile(np.arange(config.num_colors), (_BLOCK, 1))
        if config.shuffle_colors:
            order = rng.permuted(order, axis=1)
        colors = render.PALETTES[config.palette][order[:, np.arange(config.max_objects) % config.num_colors]]
    backgrounds = np.zeros((_BLOCK, 3), np.uint8)
    if config.random_background:
        backgrounds = rng.integers(0, 128, (_BLOCK, 3), np.uint8)
    if any(shares := (config.black_share, config.one_color_share, config.white_share)):
        black, one_color, white = rng.random((3, _BLOCK)) < np.array(shares)[:, None]
        colors = np.where(one_color[:, None, None], colors[:, :1], colors)
        colors = np.where(white[:, None, None], render.WHITE, colors)
        backgrounds = np.where((black | white)[:, None], np.uint8(0), backgrounds)
    return colors, backgrounds
