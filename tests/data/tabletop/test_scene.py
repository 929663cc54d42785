"""Properties of all random scenes: different objects without overlap, and enough of them in view."""

import numpy as np
import pytest

from stii_jax.data import DataError
from stii_jax.data.tabletop import lights, render, scene, shapes
from stii_jax.data.tabletop.camera import make_camera, project

CAMERA = make_camera(6.5)
MOTION = scene.Motion((3, 5), (0.05, 0.16), 0.001, 64, all_inside=False)


def draw(num_scenes=40, seed=0, **changes):
    return scene.draw_scenes(np.random.default_rng(seed), num_scenes, MOTION._replace(**changes), CAMERA)


def test_all_looks_come_up_and_none_twice_in_a_scene():
    colors, materials, kinds = scene.draw_looks(np.random.default_rng(0), (200, 6))
    looks = np.stack([colors, materials, kinds], axis=-1)
    assert all(len({tuple(look) for look in row.tolist()}) == 6 for row in looks)
    assert len({tuple(look) for look in looks.reshape(-1, 3).tolist()}) == 48
    assert (looks.max((0, 1)) + 1).tolist() == [len(lights.COLORS), len(lights.MATERIALS), len(shapes.SHAPES)]


@pytest.mark.parametrize("all_inside", [False, True])
def test_objects_stand_on_the_floor_and_keep_apart(all_inside):
    scenes = draw(all_inside=all_inside)
    assert set(scenes.present.sum(1).tolist()) == {3, 4, 5}
    assert (np.diff(scenes.present.astype(int), axis=1) <= 0).all(), "absent ones come last"
    np.testing.assert_array_equal(scenes.positions[..., 2], shapes.HALF_SIZES[scenes.shapes][:, None].repeat(64, 1))
    places, radii = scenes.positions[..., :2], shapes.RADII[scenes.shapes]
    gaps = np.linalg.norm(places[:, :, :, None] - places[:, :, None], axis=-1)
    gaps -= (radii[:, :, None] + radii[:, None])[:, None]
    both = np.triu(scenes.present[:, :, None] & scenes.present[:, None], 1)
    assert np.where(both[:, None], gaps, np.inf).min() > -1e-9


def test_all_stay_inside():
    scenes = draw(all_inside=True)
    stage = render.make_stage(CAMERA, 64)
    for index in range(4):
        objects = scenes.objects(index)
        rendering = render.render(stage, objects)
        # The same object gains no pixel in an image twice as wide.
        wide = render.render(render.make_stage(make_camera(13.0), 128), objects)
        assert rendering.whole.min() > 15
        assert (wide.whole <= 1.5 * rendering.whole + 5).all()
        pixels = project(CAMERA, objects.positions, 64)
        assert pixels.min() > 2 and pixels.max() < 62


def test_wholly_inside_by_hand():
    scenes = draw(num_scenes=1, all_inside=True)
    kinds = np.zeros((1, 5), int)
    # On the left, the image ends at -3.25 at the distance of the origin, and at -3.045 at the boxes' near edge.
    x = np.array([0.0, -2.45, -2.55, -3.2, 9.0])
    positions = np.stack([x, np.zeros(5), np.full(5, 0.4)], axis=-1)[None, None]
    inside = scene.wholly_inside(scenes._replace(shapes=kinds, positions=positions), CAMERA)
    assert inside[0, 0].tolist() == [True, True, False, False, False]


def test_objects_enter_and_leave_but_enough_is_to_be_seen():
    scenes = draw(200)
    pixels = project(CAMERA, scenes.positions, 64)
    inside = ((pixels > 0) & (pixels < 64)).all(-1)
    present = scenes.present
    assert (2 * (inside & present[:, None]).sum(2) >= present.sum(1, keepdims=True)).all()
    assert (inside.mean(1)[present] >= 0.25).all()
    first, last = inside[:, 0][present], inside[:, -1][present]
    assert 0.05 < (~first & last).mean() < 0.5, "some enter"
    assert 0.05 < (first & ~last).mean() < 0.5, "some leave"
    assert inside.mean(1)[present].mean() > 0.75, "most are in view most of the time"


def test_speeds():
    for all_inside in (False, True):
        scenes = draw(200, all_inside=all_inside)
        pixels = project(CAMERA, scenes.positions, 64)
        speeds = np.linalg.norm(np.diff(scenes.positions, axis=1), axis=-1)
        assert (speeds[:, 0, 0] >= 0.05 - 1e-9).all(), "something moves in every video"
        starts = speeds[:, 0][scenes.present]
        assert 0.1 < (starts == 0).mean() < 0.4, "some begin at rest"
        moved = np.linalg.norm(np.diff(pixels, axis=1), axis=-1)[scenes.present[:, None].repeat(63, 1)]
        assert 0.25 < np.median(moved[moved > 0.05]) < 1 and np.quantile(moved, 0.99) < 2.5


def test_impossible_scenes_are_refused():
    with pytest.raises(DataError, match=r"num_objects, now up to 5.*speed.*num_frames.*view_width"):
        draw(2, all_inside=True, speed=(1.0, 1.0), friction=0.0, num_frames=16)
    with pytest.raises(DataError, match="num_objects, now up to 20"):
        scene.draw_scenes(
            np.random.default_rng(0), 2, MOTION._replace(num_objects=(20, 20), num_frames=8), make_camera(2.0)
        )
