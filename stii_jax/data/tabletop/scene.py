"""Random scenes: their objects, and the objects' motion."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from stii_jax.data.errors import DataError
from stii_jax.data.tabletop import lights, shapes
from stii_jax.data.tabletop.camera import Camera, directions, on_plane, project
from stii_jax.data.tabletop.physics import State, simulate
from stii_jax.data.tabletop.render import Objects

Array = np.ndarray

_TRIES = 30  # tries to place an object without overlapping the previous ones
_ROUNDS = 40  # rounds of drawing candidates until enough are good
_RESTING = 0.25  # fraction of objects that start at rest
_ENTERING = 0.35  # fraction of objects that start outside the image, if allowed
_AIMS = 3  # number of random targets per object that starts inside; it heads for the farthest
_OUTSIDE = (0.3, 3.0)  # distance from the image of objects that start outside
_MIDDLE = (0.15, 0.85)  # part of the image, along each axis, where objects start or head for


class Motion(NamedTuple):
    """The parameters of random scenes."""

    num_objects: tuple[int, int]
    """Minimum and maximum number of objects; each count is equally likely."""
    speed: tuple[float, float]
    """Range of the speed of objects that do not start at rest, in world units per frame."""
    friction: float
    num_frames: int
    all_inside: bool
    """True if every object is entirely inside the image in every frame; otherwise objects enter and leave."""


class Scenes(NamedTuple):
    """A block of scenes. `present` marks the objects of each scene, which come before its absent ones."""

    present: Bool[Array, "N K"]
    colors: Int[Array, "N K"]
    materials: Int[Array, "N K"]
    shapes: Int[Array, "N K"]
    positions: Float[Array, "N T K 3"]
    """Centres of the objects."""
    yaws: Float[Array, "N T K"]

    def objects(self, index: int) -> Objects:
        """The objects of one scene, for rendering."""
        here = self.present[index]
        looks = (value[index, here] for value in (self.colors, self.materials, self.shapes))
        return Objects(self.positions[index][:, here], self.yaws[index][:, here], *looks)


def draw_scenes(rng: np.random.Generator, num_scenes: int, motion: Motion, camera: Camera) -> Scenes:
    """Draw random scenes with enough visible objects; see `_is_good`.

    Raises:
        DataError: too few random scenes have enough visible objects.
    """
    good: list[Scenes] = []
    count = 0
    for candidates in _candidates(rng, num_scenes, motion, camera):
        chosen = _is_good(candidates, motion, camera)
        good.append(Scenes(*(value[chosen] for value in candidates)))
        count += int(chosen.sum())
        if count >= num_scenes:
            return Scenes(*(np.concatenate(values)[:num_scenes] for values in zip(*good)))
    raise DataError(
        f"only {count} of {_ROUNDS * num_scenes} random scenes keep their objects in the image: give fewer objects "
        f"(num_objects, now up to {motion.num_objects[1]}), slower ones (speed, friction), shorter videos "
        "(num_frames) or a larger view_width"
    )


def _candidates(rng: np.random.Generator, count: int, motion: Motion, camera: Camera) -> Iterator[Scenes]:
    fewest, most = motion.num_objects
    for _ in range(_ROUNDS):
        present = np.arange(most) < rng.integers(fewest, most, size=(count, 1), endpoint=True)
        colors, materials, kinds = draw_looks(rng, present.shape)
        radii = shapes.RADII[kinds] * present
        start, placed = _draw_start(rng, radii, motion, camera)
        track = simulate(start, radii * placed[:, None], friction=motion.friction, num_frames=motion.num_frames)
        heights = np.broadcast_to(shapes.HALF_SIZES[kinds][:, None, :, None], (*track.yaws.shape, 1))
        positions = np.concatenate([track.positions, heights], axis=-1)
        scenes = Scenes(present, colors, materials, kinds, positions, track.yaws)
        yield Scenes(*(value[placed] for value in scenes))


def draw_looks(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Draw colours, materials and shapes `N K`. No two objects of a scene share all three."""
    sizes = (len(lights.COLORS), len(lights.MATERIALS), len(shapes.SHAPES))
    deck = np.tile(np.arange(np.prod(sizes)), (shape[0], 1))
    colors, materials, kinds = np.unravel_index(rng.permuted(deck, axis=1)[:, : shape[1]], sizes)
    return colors, materials, kinds


def _draw_start(
    rng: np.random.Generator, radii: Array, motion: Motion, camera: Camera
) -> tuple[State, Bool[Array, " N"]]:
    """Draw the objects' initial state, and True for the scenes in which they do not overlap."""
    count, most = radii.shape
    enters = (rng.random(radii.shape) < _ENTERING) & (not motion.all_inside)
    rests = (rng.random(radii.shape) < _RESTING) & ~enters
    rests[:, 0] = False  # something moves in every video
    targets = _draw_places(rng, (count, most, _TRIES), camera)
    angles = rng.uniform(0, 2 * np.pi, (count, most, _TRIES))
    heading = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    outside = rng.uniform(*_OUTSIDE, size=(count, most, _TRIES, 1))
    starts = np.where(enters[..., None, None], _leave(targets, heading, camera) - outside * heading, targets)
    choice, placed = _place(starts, radii)
    index = (*np.indices(radii.shape), choice)
    positions = starts[index]
    aims = _draw_places(rng, (*radii.shape, _AIMS), camera) - positions[:, :, None]
    aims = aims[(*np.indices(radii.shape), np.linalg.norm(aims, axis=-1).argmax(axis=-1))]
    distances = np.linalg.norm(aims, axis=-1)
    way_in = outside[index][..., 0] * enters
    speeds = _draw_speeds(rng, motion, distances, way_in) * ~rests
    aims = np.where(enters[..., None], heading[index], aims / np.maximum(distances, 1e-9)[..., None])
    turns = rng.uniform(0, 2 * np.pi, radii.shape)
    return State(positions, speeds[..., None] * aims, turns, np.zeros(radii.shape)), placed


def _place(starts: Float[Array, "N K M 2"], radii: Float[Array, "N K"]) -> tuple[Int[Array, "N K"], Bool[Array, " N"]]:
    """Choose one of its places for each object in turn. Return the choices, and True for scenes that succeed."""
    scenes = np.arange(len(radii))
    choice, placed = np.zeros(radii.shape, np.int64), np.ones(len(radii), bool)
    for k in range(radii.shape[1]):
        earlier = starts[scenes[:, None], np.arange(k), choice[:, :k]]
        gaps = np.linalg.norm(starts[:, k, :, None] - earlier[:, None], axis=-1)
        clear = ((gaps > radii[:, None, :k] + radii[:, k, None, None]) | (radii[:, None, :k] == 0)).all(axis=-1)
        choice[:, k] = clear.argmax(axis=1)
        placed &= clear.any(axis=1)
    return choice, placed


def _draw_speeds(rng: np.random.Generator, motion: Motion, distances: Array, way_in: Array) -> Float[Array, "N K"]:
    """Draw the objects' speeds, given their distances from their targets and, if outside, from the image."""
    least, greatest = motion.speed
    limit = np.full(distances.shape, greatest)
    if motion.all_inside:  # objects that overshoot their target would leave
        time, friction = motion.num_frames, motion.friction
        stops = 2 * distances < friction * time**2
        exact = np.where(stops, np.sqrt(2 * friction * distances), distances / time + friction * time / 2)
        limit = np.clip(exact, least, greatest)
    speeds = least + (limit - least) * rng.random(distances.shape)
    # Objects outside start faster, so that friction slows them to the drawn speed when they reach the image.
    return np.sqrt(speeds**2 + 2 * motion.friction * way_in)


def _draw_places(rng: np.random.Generator, shape: tuple[int, ...], camera: Camera) -> Float[Array, "... 2"]:
    """Draw places on the floor, uniformly in the middle of the image."""
    pixels = rng.uniform(*_MIDDLE, size=(*shape, 2))
    return on_plane(camera, directions(camera, pixels, 1), 0.5)[..., :2]


def _leave(places: Array, heading: Array, camera: Camera) -> Array:
    """The first points outside the image on the way back from places, against their heading."""
    low, high = np.zeros(places.shape[:-1]), np.full(places.shape[:-1], 2 * np.linalg.norm(camera.position))
    height = np.full((*places.shape[:-1], 1), 0.5)
    for _ in range(12):
        middle = (low + high) / 2
        back = places - middle[..., None] * heading
        outside = ~_inside(np.concatenate([back, height], axis=-1), camera)
        low, high = np.where(outside, low, middle), np.where(outside, middle, high)
    return places - high[..., None] * heading


def _inside(points: Float[Array, "*shape 3"], camera: Camera) -> Bool[Array, "*shape"]:
    pixels = project(camera, points, 1)
    return np.all((pixels > 0) & (pixels < 1), axis=-1)


def wholly_inside(scenes: Scenes, camera: Camera) -> Bool[Array, "N T K"]:
    """True if the whole box around an object is inside the image."""
    positions, kinds = scenes.positions, scenes.shapes[:, None]
    radius, height = shapes.RADII[kinds], shapes.HALF_SIZES[kinds]
    inside = np.ones(positions.shape[:-1], bool)
    for x, y, z in np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), axis=-1).reshape(-1, 3):
        corner = positions + np.stack(np.broadcast_arrays(x * radius, y * radius, z * height), axis=-1)
        inside &= _inside(corner, camera)
    return inside


def _is_good(scenes: Scenes, motion: Motion, camera: Camera) -> Bool[Array, " N"]:
    """True for scenes with enough visible objects.

    All objects must be entirely inside the image in every frame. If objects may enter and leave, at least half of them
    must have their centre inside in every frame. Each one must do so in at least a quarter of the frames.
    """
    present = scenes.present[:, None]
    if motion.all_inside:
        return (wholly_inside(scenes, camera) | ~present).all(axis=(1, 2))
    inside = _inside(scenes.positions, camera) & present
    enough = (2 * inside.sum(2) >= present.sum(2)).all(axis=1)
    return enough & ((4 * inside.sum(1) >= motion.num_frames) | ~scenes.present).all(axis=1)
