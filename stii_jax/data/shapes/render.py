"""Render scenes to frames and masks: antialiased objects in order of depth, seen by an imperfect camera."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from stii_jax.data.shapes import backgrounds, outlines, sensor, surfaces
from stii_jax.data.shapes.scene import Scene

Array = np.ndarray


def render(
    scene: Scene, start: int, num_frames: int, image_size: int, step: int = 1
) -> tuple[UInt8[Array, "T S S 3"], UInt8[Array, "T S S"]]:
    """Render every `step`-th frame of a video from `start` on, and the label of the object at each pixel.

    A pixel's label is k + 1 if object k is the nearest one that contains its centre. The background is 0 and includes
    shadows.
    """
    frames = start + step * np.arange(num_frames)
    channels = 1 if scene.gray else 3
    rng = np.random.default_rng([int(scene.seed), 0])
    empty = backgrounds.paint(int(scene.background), scene.background_colors[:, :channels], rng, image_size)
    video = np.repeat(empty[None].astype(np.float32), num_frames, axis=0)
    labels = np.zeros(video.shape[:3], np.uint8)
    actors = [_actor(scene, k, frames, channels) for k in np.flatnonzero(scene.kinds >= 0).tolist()]
    if scene.shadow[0] > 0:
        for actor in actors:
            _shade(video, actor, scene.shadow)
    for actor in actors:
        _draw(video, labels, actor, int(scene.surface))
    if scene.vignette > 0:
        video *= sensor.vignette(float(scene.vignette), image_size)
    video *= scene.brightness[frames, None, None, None]
    if scene.noise > 0:
        video += scene.noise * sensor.noise(int(scene.seed), frames, video.shape[1:])
    if scene.compression > 0:
        video = sensor.compress(video, float(scene.compression) / 255)
    levels = (np.clip(video, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return np.repeat(levels, 3 // channels, axis=-1), labels


class _Actor(NamedTuple):
    """One object in the frames to draw; see `Scene`."""

    label: int
    kind: int
    length: float
    width: float
    traits: Float[Array, " 8"]
    colors: Float[Array, "2 C"]
    positions: Float[Array, "T 2"]
    angles: Float[Array, " T"]
    phases: Float[Array, " T"]


def _actor(scene: Scene, k: int, frames: Int[Array, " T"], channels: int) -> _Actor:
    return _Actor(
        k + 1,
        int(scene.kinds[k]),
        float(scene.lengths[k]),
        float(scene.widths[k]),
        scene.traits[k],
        scene.colors[k, :, :channels],
        *(track[frames, k] for track in (scene.positions, scene.angles, scene.phases)),
    )


class _Window(NamedTuple):
    """The pixels of a square around an object in each frame, and their coordinates relative to it."""

    at: tuple[Int[Array, "T 1 1"], Int[Array, "T W 1"], Int[Array, "T 1 W"]]
    u: Float[Array, "T W W"]
    v: Float[Array, "T W W"]
    distance: Float[Array, "T W W"]
    """See `outlines`."""


def _window(actor: _Actor, image_size: int, reach: float) -> _Window:
    """A window with all pixels of the frame that are up to `reach` lengths from the object's centre."""
    length = np.float32(actor.length * image_size)
    side = min(2 + math.ceil(2 * reach * float(length)), image_size)
    places = actor.positions * np.float32(image_size)
    first = np.clip(np.floor(places - side / 2).astype(int), 0, image_size - side)
    pixels = first[:, :, None] + np.arange(side)
    offsets = (pixels + np.float32(0.5) - places[:, :, None]).astype(np.float32) / length
    x, y = offsets[:, 0, None, :], offsets[:, 1, :, None]
    c, s = np.cos(actor.angles)[:, None, None], np.sin(actor.angles)[:, None, None]
    u, v = c * x + s * y, c * y - s * x
    distance = outlines.distances(actor.kind, actor.width, actor.traits, actor.phases, u, v)
    at = np.arange(len(places))[:, None, None], pixels[:, 1, :, None], pixels[:, 0, None, :]
    return _Window(at, u, v, distance)


def _draw(video: Array, labels: Array, actor: _Actor, surface: int) -> None:
    """Draw an object over the frames, in place. Pixels on its outline are covered in part."""
    size = labels.shape[-1]
    window = _window(actor, size, outlines.REACH)
    share = np.clip(np.float32(0.5) - window.distance * np.float32(actor.length * size), 0, 1)[..., None]
    color = surfaces.colors(surface, actor.colors, actor.width, actor.traits, window.distance, window.u, window.v)
    below = video[window.at]
    video[window.at] = below + share * (color - below)
    labels[window.at] = np.where(window.distance < 0, np.uint8(actor.label), labels[window.at])


def _shade(video: Array, actor: _Actor, shadow: Float[Array, " 4"]) -> None:
    """Darken the background in an object's shadow, in place."""
    strength, offset, softness = shadow[0], shadow[1:3], shadow[3]
    actor = actor._replace(positions=actor.positions + np.float32(actor.length) * offset)
    window = _window(actor, video.shape[1], outlines.REACH + float(softness) / 2)
    share = np.clip(np.float32(0.5) - window.distance / softness, 0, 1)
    video[window.at] *= 1 - strength * share[..., None]
