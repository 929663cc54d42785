"""Random scenes: the full description of a video, without its pixels."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from stii_jax.data.shapes.motion import Movers, simulate
from stii_jax.data.shapes.options import CHOICES, ShapesConfig
from stii_jax.data.shapes.outlines import WIDTHS
from stii_jax.data.shapes.palette import draw_backgrounds, draw_colors

Array = np.ndarray

NUM_TRAITS = 8
"""Random numbers per object, from 0 to 1, for its form (see `outlines`) and its pattern (see `surfaces`)."""

_STILL = 0.05  # minimum fraction of the flicker that is renewed per frame


class Scene(NamedTuple):
    """The stored arrays of one video, or of a block of videos with a leading axis `N`.

    Lengths are in units of the frame's side, with x to the right and y downwards. Angles are in radians. Objects are in
    order of depth, the nearest last. Absent objects have a `kinds` of -1 and zeros elsewhere. `kinds`, `surface`,
    `background`, `motion` and `orientation` are indices in `options.CHOICES`.
    """

    positions: Float[Array, "*N T K 2"]
    velocities: Float[Array, "*N T K 2"]
    angles: Float[Array, "*N T K"]
    phases: Float[Array, "*N T K"]
    kinds: Int[Array, "*N K"]
    lengths: Float[Array, "*N K"]
    widths: Float[Array, "*N K"]
    """Relative to the length."""
    traits: Float[Array, "*N K 8"]
    colors: Float[Array, "*N K 2 3"]
    surface: Int[Array, "*N"]
    background: Int[Array, "*N"]
    background_colors: Float[Array, "*N 2 3"]
    shadow: Float[Array, "*N 4"]
    """Fraction of the light that shadows block; their offset (x, y) and softness in object lengths."""
    vignette: Float[Array, "*N"]
    gray: Bool[Array, "*N"]
    noise: Float[Array, "*N"]
    brightness: Float[Array, "*N T"]
    """Factor for each frame."""
    compression: Float[Array, "*N"]
    motion: Int[Array, "*N"]
    orientation: Int[Array, "*N"]
    collide: Bool[Array, "*N"]
    leave: Bool[Array, "*N"]
    seed: Int[Array, "*N"]
    """Seed of the background's pattern and of the noise."""


def draw_scenes(rng: np.random.Generator, number: int, config: ShapesConfig) -> Scene:
    """Draw a block of videos. Options of one group of properties do not affect the draws of the others."""
    objects, moves, looks, seeds = rng.spawn(4)
    kinds, lengths, widths, traits = _draw_objects(objects, number, config)
    present = kinds >= 0

    motion, orientation = (_choose(moves, number, config, option) for option in ("motions", "orientations"))
    speed, turning, stopped, margin = (
        _between(moves, getattr(config, option), number) for option in ("speed", "turning", "stopped", "margin")
    )
    collide, leave = (moves.random(number) < share for share in (config.collide_share, config.leave_share))
    movers = Movers(
        extents=lengths / 2,
        radii=lengths / 2 * np.sqrt(widths),
        speeds=speed[:, None] * moves.uniform(0.5, 1.5, lengths.shape),
        motions=motion,
        orientations=orientation,
        turning=turning,
        stopped=stopped,
        collide=collide,
        margins=np.where(leave, margin, -1.0),
    )
    tracks = simulate(moves, movers, config.num_frames)

    gray = looks.random(number) < config.gray_share
    surface, background = (_choose(looks, number, config, option) for option in ("surfaces", "backgrounds"))
    patterns = _between(looks, config.pattern, number)
    background_colors = draw_backgrounds(looks, background, patterns, gray, config.brightness)
    contrasts = _between(looks, config.contrast, *lengths.shape)
    colors = draw_colors(looks, background_colors[:, 0], gray, contrasts)
    one_color = looks.random(number) < config.one_color_share
    colors = np.where(one_color[:, None, None, None], colors[:, :1], colors) * present[..., None, None]
    strength = _between(looks, config.shadow, number) * (looks.random(number) < config.shadow_share)
    vignette = _between(looks, config.vignette, number) * (looks.random(number) < config.vignette_share)
    compression = _between(looks, config.compression, number) * (looks.random(number) < config.compression_share)
    fall, reach, softness = looks.uniform(-np.pi, np.pi, number), looks.uniform(0.1, 0.5, number), looks.random(number)
    arrays = Scene(
        **tracks._asdict(),
        kinds=kinds,
        lengths=lengths,
        widths=widths,
        traits=traits,
        colors=colors,
        surface=surface,
        background=background,
        background_colors=background_colors,
        shadow=np.stack([strength, reach * np.cos(fall), reach * np.sin(fall), 0.1 + 0.4 * softness], axis=1),
        vignette=vignette,
        gray=gray,
        noise=_between(looks, config.noise, number),
        brightness=_draw_brightness(looks, _between(looks, config.flicker, number), config.num_frames),
        compression=compression,
        motion=motion,
        orientation=orientation,
        collide=collide,
        leave=leave,
        seed=seeds.integers(0, 2**31, number),
    )
    return Scene(*map(_narrow, arrays))


def _draw_objects(
    rng: np.random.Generator, number: int, config: ShapesConfig
) -> tuple[Int[Array, "N K"], Float[Array, "N K"], Float[Array, "N K"], Float[Array, "N K 8"]]:
    """Draw kinds, lengths, widths and traits. Present objects come before absent ones."""
    fewest, most = config.num_objects
    size = (number, most)
    counts = fewest + (rng.random(number) * (most - fewest + 1)).astype(int)
    low, high = config.length
    typical = low * (high / low) ** rng.random((number, 1))
    lengths = np.clip(typical * (1 + config.length_spread * rng.uniform(-1, 1, size)), low, high)
    kinds, widths, traits = _choose(rng, size, config, "kinds"), rng.random(size), rng.random((*size, NUM_TRAITS))
    alike = (rng.random(number) < config.one_kind_share)[:, None]
    kinds, widths = np.where(alike, kinds[:, :1], kinds), np.where(alike, widths[:, :1], widths)
    traits = np.where(alike[..., None], traits[:, :1], traits)
    ranges = np.array([WIDTHS[kind] for kind in CHOICES["kinds"]])[kinds]
    widths = ranges[..., 0] + widths * (ranges[..., 1] - ranges[..., 0])
    present = np.arange(most) < counts[:, None]
    return np.where(present, kinds, -1), lengths * present, widths * present, traits * present[..., None]


def _draw_brightness(rng: np.random.Generator, flicker: Float[Array, " N"], num_frames: int) -> Float[Array, "N T"]:
    """Draw stationary sequences around 1, each with its own correlation time of up to 20 frames."""
    fresh = _STILL + (1 - _STILL) * rng.random(len(flicker))
    value, values = rng.standard_normal(len(flicker)), []
    for _ in range(num_frames):
        values.append(value)
        value = (1 - fresh) * value + np.sqrt(1 - (1 - fresh) ** 2) * rng.standard_normal(len(flicker))
    return np.maximum(1 + flicker[:, None] * np.stack(values, axis=1), 0)


def _choose(rng: np.random.Generator, size: int | tuple[int, int], config: ShapesConfig, option: str) -> Array:
    """Draw indices of the names that an option lists."""
    return np.searchsorted(np.cumsum(config.weights(option))[:-1], rng.random(size), side="right")


def _between(rng: np.random.Generator, limits: tuple[float, float], *size: int) -> Array:
    return limits[0] + (limits[1] - limits[0]) * rng.random(size)


def _narrow(values: Array) -> Array:
    """Cast an array to its stored type: float32, int32 or bool."""
    kind = {"f": np.float32, "i": np.int32, "b": np.bool_}[values.dtype.kind]
    return values.astype(kind)
