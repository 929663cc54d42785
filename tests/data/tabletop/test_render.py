"""Masks against independently computed geometry; shadows, counts and colours."""

import numpy as np
import pytest

from stii_jax.data.tabletop import lights, render, shapes
from stii_jax.data.tabletop.camera import directions, make_camera, project

CAMERA = make_camera(6.5)
STAGE = render.make_stage(CAMERA, 64)
CENTRES = np.stack(np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5), axis=-1)


def scene(*things, num_frames=1):
    """Make objects (shape, x, y) or (shape, x, y, yaw) at rest, in different colours."""
    kinds = np.array([thing[0] for thing in things])
    places = np.array([(*thing[1:3], shapes.HALF_SIZES[thing[0]]) for thing in things], float)
    yaws = np.array([thing[3] if len(thing) > 3 else 0.0 for thing in things])
    still = (np.tile(values, (num_frames, 1, 1)[: values.ndim + 1]) for values in (places, yaws))
    return render.Objects(*still, 1 + np.arange(len(things)), np.zeros(len(things), int), kinds)


def random_scene(seed, num_objects=6, num_frames=3, spread=3.0):
    """Place objects anywhere, also outside of the image; they may overlap."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 3, num_objects)
    places = rng.uniform(-spread, spread, (num_frames, num_objects, 2))
    heights = np.tile(shapes.HALF_SIZES[kinds], (num_frames, 1))[..., None]
    looks = rng.integers(0, 8, num_objects), rng.integers(0, 2, num_objects), kinds
    return render.Objects(np.concatenate([places, heights], -1), rng.uniform(0, 6, places.shape[:2]), *looks)


def inner(mask):
    """Return the part of a mask that has no pixel of another object beside it."""
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return np.all([np.roll(mask, shift, axis=(0, 1)) for shift in shifts], axis=0)


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (1.7, -1.9), (-2.0, 3.0), (-3.2, 0.4)])
def test_a_ball_is_what_is_seen_under_its_angle(x, y):
    mask = render.render(STAGE, scene((shapes.SPHERE, x, y))).segmentation[0]
    offset = np.array([x, y, 0.5]) - CAMERA.position
    distance = np.linalg.norm(offset)
    cosine = directions(CAMERA, CENTRES, 64) @ offset / distance
    np.testing.assert_array_equal(mask > 0, cosine > np.sqrt(1 - (0.5 / distance) ** 2))


@pytest.mark.parametrize("kind", [shapes.CUBE, shapes.CYLINDER])
@pytest.mark.parametrize(("x", "y", "yaw"), [(0.0, 0.0, 0.0), (1.6, -1.5, 0.5), (-2.0, 2.0, 4.0)])
def test_a_solid_is_the_hull_of_its_rims(kind, x, y, yaw):
    spatial = pytest.importorskip("scipy.spatial")
    mask = render.render(STAGE, scene((kind, x, y, yaw))).segmentation[0]
    count = 4 if kind == shapes.CUBE else 720
    angles = yaw + np.pi / 4 + 2 * np.pi * np.arange(count) / count
    radius, height = shapes.RADII[kind], 2 * shapes.HALF_SIZES[kind]
    rim = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=-1)
    rims = np.concatenate([np.insert(rim, 2, z, axis=1) for z in (0, height)])
    hull = spatial.ConvexHull(project(CAMERA, rims, 64))
    inside = (CENTRES @ hull.equations[:, :2].T + hull.equations[:, 2] < 0).all(axis=-1)
    assert mask.sum() > 40
    np.testing.assert_array_equal(mask > 0, inside)


def test_the_nearer_one_is_seen():
    pair = [(shapes.CUBE, 0.0, -0.6), (shapes.SPHERE, 0.1, 0.6)]
    front, behind = (render.render(STAGE, scene(thing)).segmentation[0] > 0 for thing in pair)
    assert (front & behind).sum() > 10
    for order in (1, -1):
        seen = render.render(STAGE, scene(*pair[::order])).segmentation[0]
        numbers = [1, 2][::order]
        np.testing.assert_array_equal(seen == numbers[0], front)
        np.testing.assert_array_equal(seen == numbers[1], behind & ~front)


def test_counts_are_those_of_the_masks():
    objects = random_scene(0)
    rendering = render.render(STAGE, objects)
    for k in range(6):
        np.testing.assert_array_equal(rendering.visible[:, k], (rendering.segmentation == k + 1).sum((1, 2)))
        alone = objects._replace(positions=objects.positions[:, k : k + 1], yaws=objects.yaws[:, k : k + 1])
        looks = {name: getattr(objects, name)[k : k + 1] for name in ("colors", "materials", "shapes")}
        shown = render.render(STAGE, alone._replace(**looks)).segmentation
        np.testing.assert_array_equal(rendering.whole[:, k], (shown > 0).sum((1, 2)))
    assert (rendering.visible < rendering.whole).any()


def test_shadows_are_floor_and_fall_away_from_the_lamp():
    rendering = render.render(STAGE, scene((shapes.CYLINDER, 0.0, 0.0)))
    empty = STAGE.empty.reshape(64, 64, 3).astype(int)
    floor = rendering.segmentation[0] == 0
    change = rendering.video[0].astype(int) - empty
    dark = floor & (change.sum(-1) < -30)
    assert dark.sum() > 20
    # No part of the floor is brighter, except at the object's outline, where pixels are mixed.
    assert change[inner(floor)].max() <= 0
    # The lamp is on the left, on the camera's side.
    shadow, foot = CENTRES[dark].mean(0), project(CAMERA, np.zeros(3), 64)
    assert shadow[0] > foot[0] + 3 and shadow[1] < foot[1]
    # Far from the object, nothing changes.
    assert not change[:, :20].any()


def test_an_object_throws_its_shadow_on_another():
    lit, behind = (shapes.CYLINDER, 0.9, 0.9), (shapes.CYLINDER, 0.2, 0.2)
    alone = render.render(STAGE, scene(lit))
    shaded = render.render(STAGE, scene(lit, behind))
    both = inner((shaded.segmentation[0] == 1) & (alone.segmentation[0] == 1))
    change = shaded.video[0].astype(int).sum(-1) - alone.video[0].astype(int).sum(-1)
    assert change[both].min() < -20 and change[both].max() <= 0


@pytest.mark.parametrize(("seed", "view_width"), [(1, 6.5), (2, 6.5), (3, 3.0), (4, 12.0)])
def test_rays_that_are_not_cast_would_change_nothing(seed, view_width, monkeypatch):
    objects, stage = random_scene(seed, spread=view_width / 2), render.make_stage(make_camera(view_width), 64)
    quick = render.render(stage, objects)
    monkeypatch.setattr(render, "_window", lambda stage, points: np.tile([0, 0, 64, 64], (len(points), 1)))
    monkeypatch.setattr(render, "_may_shade", lambda objects, k, other: np.ones(len(objects.yaws), bool))
    for one, other in zip(quick, render.render(stage, objects)):
        np.testing.assert_array_equal(one, other)


def test_a_frame_does_not_depend_on_others(monkeypatch):
    objects = random_scene(4, num_frames=7)
    whole = render.render(STAGE, objects)
    monkeypatch.setattr(render, "_RAYS_AT_ONCE", 3 * STAGE.rays[0].size)
    for one, other in zip(whole, render.render(STAGE, objects)):
        np.testing.assert_array_equal(one, other)


def test_nothing_to_see():
    rendering = render.render(STAGE, scene((shapes.CUBE, 30.0, 0.0), (shapes.SPHERE, 0.0, -40.0), num_frames=2))
    assert not rendering.segmentation.any() and not rendering.visible.any() and not rendering.whole.any()
    np.testing.assert_array_equal(rendering.video.reshape(2, -1, 3), np.tile(STAGE.empty, (2, 1, 1)))


def test_other_sizes_show_the_same():
    objects = scene((shapes.SPHERE, 0.5, 0.5), (shapes.CUBE, -1.0, 0.0, 0.4))
    small, large = render.render(STAGE, objects), render.render(render.make_stage(CAMERA, 128), objects)
    np.testing.assert_allclose(large.visible, 4 * small.visible, rtol=0.08)
    halved = large.video[0].astype(float).reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(halved - small.video[0]).mean() < 1.5


def test_colours_and_materials_can_be_told_apart():
    def look(color, material, kind=shapes.SPHERE):
        objects = scene((kind, 0.0, 0.0))._replace(colors=np.array([color]), materials=np.array([material]))
        rendering = render.render(STAGE, objects)
        return rendering.video[0][inner(rendering.segmentation[0] > 0)].astype(float)

    for kind in range(3):
        looks = np.array([look(color, material, kind) for color in range(8) for material in (0, 1)])
        apart = np.linalg.norm(looks[:, None] - looks, axis=-1).mean(-1) + 1e3 * np.eye(16)
        assert apart.min() > 15
    for color, name in enumerate(lights.COLORS):
        if name not in ("yellow", "cyan"):  # objects of nearly maximal brightness
            assert look(color, 1).max(0).min() > look(color, 0).max(0).min() + 40, f"a glint on {name} metal"
