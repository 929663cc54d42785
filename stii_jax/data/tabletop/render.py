"""Render clips by ray casting: frames, exact masks, and the visible area of every object.

Letters: `T` frames, `K` objects, `S` rays per pixel, `P` pixels per image. The first ray of a pixel goes through its
middle and determines the label. The colour is the mean over all rays. Rays are cast only where an object or its shadow
can be, at one object in all frames at once. Shadows are found by casting rays from the lamp.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from stii_jax.data.tabletop import lights, shapes
from stii_jax.data.tabletop.camera import Camera, directions, on_plane, project

Array = np.ndarray

# The rays' places in a pixel: the middle, and four points of which no two share a row or column.
_RAYS = np.array([(0.5, 0.5), (0.375, 0.125), (0.875, 0.375), (0.125, 0.625), (0.625, 0.875)])
# Number of rays processed at once: their intermediate results fit in a processor's cache.
_RAYS_AT_ONCE = 400_000


class Objects(NamedTuple):
    """The objects of a clip. Colours, materials and shapes are indices, as in `lights` and `shapes`."""

    positions: Float[Array, "T K 3"]
    """Centres of the objects."""
    yaws: Float[Array, "T K"]
    colors: Int[Array, " K"]
    materials: Int[Array, " K"]
    shapes: Int[Array, " K"]


class Rendering(NamedTuple):
    """A rendered clip."""

    video: UInt8[Array, "T H W 3"]
    segmentation: UInt8[Array, "T H W"]
    """0 is the floor, including shadows; k + 1 is object k."""
    visible: Int[Array, "T K"]
    """Number of pixels that show each object."""
    whole: Int[Array, "T K"]
    """Number of pixels that would show it without the other objects."""


class Stage(NamedTuple):
    """The static part of a scene: the camera, the lamp, and every pixel's rays."""

    camera: Camera
    image_size: int
    rays: Float[Array, "3 S P"]
    light_rays: Float[Array, "3 S P"]
    """Vectors from the lamp to the points where the rays meet the floor."""
    floor: Float[Array, "3 S P"]
    """Light from these points if lit."""
    shadow: Float[Array, "3"]
    """Light from these points if in shadow."""
    empty: UInt8[Array, "P 3"]
    """The image without objects."""


def make_stage(camera: Camera, image_size: int) -> Stage:
    """Make the empty stage for images of a given size."""
    rows, columns = np.divmod(np.arange(image_size**2), image_size)
    pixels = np.stack([columns, rows], axis=-1) + _RAYS[:, None]
    rays = directions(camera, pixels, image_size)
    ground = np.moveaxis(on_plane(camera, rays), -1, 0).astype(np.float32)
    lamp = np.broadcast_to(lights.LAMP[:, :, None], ground.shape)
    floor = lights.floor(ground, lamp)
    rays = np.moveaxis(rays, -1, 0).astype(np.float32)
    return Stage(camera, image_size, rays, ground - lamp, floor, lights.SHADOW, lights.to_pixels(floor.mean(1).T))


def with_floor(stage: Stage, tint: Float[Array, "3"]) -> Stage:
    """Scale the floor's red, green and blue by `tint`. Reflections in objects still show the grey floor."""
    floor = np.minimum(stage.floor * tint[:, None, None], 1)
    return stage._replace(floor=floor, shadow=stage.shadow * tint, empty=lights.to_pixels(floor.mean(1).T))


def render(stage: Stage, objects: Objects) -> Rendering:
    """Render objects that do not overlap."""
    num_frames = len(objects.positions)
    step = max(1, _RAYS_AT_ONCE // stage.rays[0].size)
    parts = [
        _render(stage, objects._replace(positions=objects.positions[at], yaws=objects.yaws[at]))
        for at in (slice(first, first + step) for first in range(0, num_frames, step))
    ]
    return Rendering(*map(np.concatenate, zip(*parts)))


def _render(stage: Stage, objects: Objects) -> Rendering:
    num_frames, num_objects = objects.yaws.shape
    num_rays, num_pixels = stage.rays.shape[1:]
    depth = np.full((num_rays, num_frames * num_pixels), np.inf, np.float32)
    labels = np.zeros(depth.shape, np.uint8)
    dark = np.zeros(depth.shape, bool)
    whole = np.zeros((num_frames, num_objects), np.int64)
    eye = np.repeat(stage.camera.position[:, None].astype(np.float32), num_rays, axis=1)
    for k in range(num_objects):
        hits = _cast(stage, objects, k, eye, stage.rays, _seen_window(stage, objects, k))
        nearer = hits.hit & (hits.distance < depth[:, hits.at])
        depth[:, hits.at] = np.where(nearer, hits.distance, depth[:, hits.at])
        labels[:, hits.at] = np.where(nearer, np.uint8(k + 1), labels[:, hits.at])
        whole[:, k] = np.bincount(hits.at[hits.hit[0]] // num_pixels, minlength=num_frames)
        hits = _cast(stage, objects, k, lights.LAMP, stage.light_rays, _shadow_window(stage, objects, k))
        dark[:, hits.at] |= hits.hit

    masks = labels[0].reshape(num_frames, stage.image_size, stage.image_size)
    visible = [np.bincount(mask.ravel(), minlength=num_objects + 1)[1:] for mask in masks]
    video = np.tile(stage.empty, (num_frames, 1))
    changed = np.flatnonzero(((labels > 0) | dark).any(axis=0))
    video[changed] = _color(stage, objects, changed, depth[:, changed], labels[:, changed], dark[:, changed])
    return Rendering(video.reshape(*masks.shape, 3), masks, np.stack(visible), whole)


class _Hits(NamedTuple):
    at: Int[Array, " N"]
    """Indices of frames and pixels, as frame * P + pixel."""
    hit: Bool[Array, "S N"]
    distance: Float[Array, "S N"]


def _cast(stage: Stage, objects: Objects, k: int, origins: Array, rays: Array, window: Array) -> _Hits:
    """Cast the rays of the pixels in a window at object k. The window may differ from frame to frame.

    Args:
        stage: see `make_stage`.
        objects: see `Objects`.
        k: index of the object.
        origins: origins of the rays, `3 S`.
        rays: directions of every pixel's rays, `3 S P`.
        window: left, top, right and bottom edge in each frame, `T 4`.
    """
    frame, pixel = _pixels(window, stage.image_size)
    shape, yaws = int(objects.shapes[k]), objects.yaws[:, k].astype(np.float32)
    offsets = origins[..., None] - objects.positions[:, k].T[:, None].astype(np.float32)
    local = shapes.to_local(shape, offsets, yaws)
    enter, leave = shapes.interval(
        shape, local.take(frame, axis=-1), shapes.to_local(shape, rays.take(pixel, axis=-1), yaws[frame])
    )
    return _Hits(frame * rays.shape[-1] + pixel, enter < leave, enter)


def _pixels(window: Int[Array, "T 4"], image_size: int) -> tuple[Int[Array, " N"], Int[Array, " N"]]:
    """The frame and pixel numbers of all pixels in the windows of all frames."""
    left, top, right, bottom = window.T
    width = right - left
    areas = width * (bottom - top)
    frame = np.repeat(np.arange(len(window)), areas)
    place = np.arange(areas.sum()) - np.repeat(np.cumsum(areas) - areas, areas)
    row, column = np.divmod(place, width[frame])
    return frame, (top[frame] + row) * image_size + left[frame] + column


def _corners(objects: Objects, k: int) -> tuple[Float[Array, "T 4 3"], Float[Array, "T 4 3"]]:
    """The four lower and the four upper corners of an upright box around object k."""
    shape = objects.shapes[k]
    radius, height = shapes.RADII[shape], shapes.HALF_SIZES[shape]
    below = np.array([(x, y, -height) for x in (-radius, radius) for y in (-radius, radius)])
    centres = objects.positions[:, k, None]
    return centres + below, centres + below + (0, 0, 2 * height)


def _window(stage: Stage, points: Float[Array, "T C 3"]) -> Int[Array, "T 4"]:
    """The bounding box of points, clipped to the image: left, top, right and bottom."""
    places = project(stage.camera, points, stage.image_size)
    corners = np.concatenate([np.floor(places.min(1)), np.ceil(places.max(1))], axis=-1)
    return np.clip(corners, 0, stage.image_size).astype(np.int64)


def _seen_window(stage: Stage, objects: Objects, k: int) -> Int[Array, "T 4"]:
    return _window(stage, np.concatenate(_corners(objects, k), axis=1))


def _shadow_window(stage: Stage, objects: Objects, k: int) -> Int[Array, "T 4"]:
    below, above = _corners(objects, k)
    lamp = lights.LAMP.T.astype(np.float64)[:, None, None]
    falls = lamp + (above - lamp) * (lamp[..., 2:] / (lamp[..., 2:] - above[..., 2:]))
    return _window(stage, np.concatenate([below, *falls], axis=1))


def _color(stage: Stage, objects: Objects, at: Array, depth: Array, labels: Array, dark: Array) -> UInt8[Array, "N 3"]:
    """The colours of the pixels `at` (frame * P + pixel), from the results `S N` of their rays."""
    frame, pixel = np.divmod(at, len(stage.empty))
    light = np.where(dark, stage.shadow[:, None, None], stage.floor.take(pixel, axis=-1))
    for k in range(objects.yaws.shape[1]):
        ray, place = np.nonzero(labels == k + 1)
        if not ray.size:
            continue
        when, rays = frame[place], stage.rays[:, ray, pixel[place]]
        points = stage.camera.position.astype(np.float32)[:, None] + depth[ray, place] * rays
        shape, yaws = int(objects.shapes[k]), objects.yaws[when, k].astype(np.float32)
        local = shapes.to_local(shape, points - objects.positions[when, k].T.astype(np.float32), yaws)
        lit = ~_in_shadow(objects, k, when, points, lights.LAMP[:, ray])
        light[:, ray, place] = lights.objects(
            points,
            shapes.normals(shape, local, yaws),
            rays,
            lights.LAMP[:, ray],
            lit,
            lights.ALBEDOS[objects.colors[k]],
            int(objects.materials[k]),
        )
    return lights.to_pixels(np.minimum(light, 1).mean(1).T)


def _in_shadow(objects: Objects, k: int, frame: Array, points: Array, lamp: Array) -> Bool[Array, " N"]:
    """True for points of object k with another object between them and the lamp."""
    dark = np.zeros(len(frame), bool)
    for other in range(objects.yaws.shape[1]):
        near = np.flatnonzero(_may_shade(objects, k, other)[frame]) if other != k else np.zeros(0, int)
        if not near.size:
            continue
        shape, when = int(objects.shapes[other]), frame[near]
        yaws = objects.yaws[when, other].astype(np.float32)
        offsets = lamp[:, near] - objects.positions[when, other].T.astype(np.float32)
        rays = shapes.to_local(shape, points[:, near] - lamp[:, near], yaws)
        enter, leave = shapes.interval(shape, shapes.to_local(shape, offsets, yaws), rays)
        dark[near] |= (enter < leave) & (enter < 1)
    return dark


def _may_shade(objects: Objects, k: int, other: int) -> Bool[Array, " T"]:
    """True for frames in which object k is near the shadow of another object of any shape."""
    here = objects.positions[:, k, :2]
    offset, toward = objects.positions[:, other, :2] - here, lights.LAMP[:2, 0] - here
    distance = np.linalg.norm(toward, axis=-1)
    toward /= distance[:, None]
    ahead = (offset * toward).sum(-1)
    aside = np.abs(offset[:, 0] * toward[:, 1] - offset[:, 1] * toward[:, 0])
    # Discs have a radius of 0.57, and objects are up to 1 high. The lamp is 14 high, with a radius of 3 with margin.
    return (ahead > -1.2) & (ahead < 1.2 + (distance + 3) / 13) & (aside < 1.5)
