"""The bouncing-balls dataset: its variants, and what is stored of a video.

Stored are the trajectories, not the pixels: they are written ten times as fast as compressed masks, take half
the space, and drawing a clip of a few frames is faster than decompressing the whole video it is cut from.
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

# Videos simulated at once. Part of what a seed means: every block has its own random numbers.
_BLOCK = 256


@dataclasses.dataclass(eq=False, kw_only=True)
class BouncingBallsConfig(GeneratedConfig):
    """Lengths are in box units: 6.4 pixels in the full-size 64-pixel, 10-unit frame."""

    num_balls: tuple[int, int] = (4, 4)
    """Fewest and most balls of a video; each count is as likely."""
    num_colors: int = 4
    """Ball k has colour k modulo this, of those of the palette; 0 draws all balls white."""
    palette: str = "paper"
    """One of `render.PALETTES`."""
    shuffle_colors: bool = False
    """Each video deals the colours out anew, so that none stands for a ball; there must be enough of them."""
    random_background: bool = False
    """Each video has a background colour of its own, of half brightness at most; otherwise it is black."""
    black_share: float = 0.0
    """Share of the videos whose background is black nevertheless."""
    one_color_share: float = 0.0
    """Share of the videos whose balls all have one colour, that of the first."""
    white_share: float = 0.0
    """Share of the videos that are white on black."""
    box_size: float = 10.0
    """Side of the box. A smaller box in a smaller image keeps the balls' size in pixels: 5.0 in 32 pixels."""
    margin: float = 0.0
    """Width of the rim of the box that is out of sight: balls leave the frame and enter it."""
    radii: tuple[float, float] = (5.1 / 6.4, 1.0)
    """The two sizes of ball, each as likely. Mass is proportional to area."""
    speed: tuple[float, float] = (0.7 / 6.4, 1.3 / 6.4)
    """Range of a video's mean speed in its first frame, in box units a frame."""

    @property
    def max_objects(self) -> int:
        """Most balls of a video."""
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
                f"option shuffle_colors={self.shuffle_colors} of {self.name}: give num_colors as many as balls, {most}"
            )
        if not (min(self.radii) > 0 and self.box_size > 0 and 0 < self.speed[0] <= self.speed[1]):
            raise DataError(
                f"options radii={self.radii}, box_size={self.box_size}, speed={self.speed} of {self.name}: "
                "give positive lengths, and speed as (least, greatest)"
            )
        for share in ("black_share", "one_color_share", "white_share"):
            if not 0 <= getattr(self, share) <= 1:
                raise DataError(f"option {share}={getattr(self, share)} of {self.name}: give 0 to 1")
        if not 0 <= 2 * self.margin < self.box_size:
            raise DataError(f"option margin={self.margin} of {self.name}: give 0 or more, less than half of box_size")


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
        """Trajectories in box units, sizes (0 for an absent ball) and colours."""
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
        """Simulates the videos of a split, block by block. The same whatever the other splits' sizes."""
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
        return {"video": render.render_frames(masks, example["colors"], example["background"]), "segmentation": masks}


def simulate_block(rng: np.random.Generator, config: BouncingBallsConfig) -> tuple[np.ndarray, physics.Trajectories]:
    """A block of random videos: the balls' radii `N K` (0 for an absent ball) and their trajectories."""
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
    """Colours of a block of videos: `N K 3` of the balls and `N 3` of the backgrounds."""
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
