"""Positions in the world and in the image, by worked examples and round trips."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stii_jax.data.tabletop.camera import directions, make_camera, on_plane, project

CAMERA = make_camera(6.5)


def test_known_points():
    points = np.array([[0, 0, 0], [3.25, 0, 0], [-3.25, 0, 0], [1, 0, 0]], float)
    expected = [[32, 32], [64, 32], [0, 32], [32 + 64 / 6.5, 32]]
    np.testing.assert_allclose(project(CAMERA, points, 64), expected, atol=1e-9)


def test_up_is_up_and_far_is_up_and_small():
    above, beyond, nearer = project(CAMERA, np.array([[0, 0, 1], [0, 2, 0], [0, -2, 0]], float), 64)
    assert above[1] < 32 and beyond[1] < 32 < nearer[1]
    ends = np.array([[[-0.5, y, 0], [0.5, y, 0]] for y in (-2.0, 0.0, 2.0)])
    widths = np.ptp(project(CAMERA, ends, 64)[..., 0], axis=1)
    assert widths[0] > widths[1] > widths[2]
    # The camera looks down by 30 degrees, so heights are foreshortened by the cosine of that.
    small = project(CAMERA, np.array([[0, 0, 0], [0, 0, 1e-4], [1e-4, 0, 0]]), 64)
    assert (small[0, 1] - small[1, 1]) / (small[2, 0] - small[0, 0]) == pytest.approx(3**0.5 / 2, rel=1e-3)


def test_objects_behind_the_camera_are_not_drawn():
    assert project(CAMERA, np.array([0.0, -40.0, 0.0]), 64)[1] > 64


@settings(max_examples=50, deadline=None)
@given(x=st.floats(0, 64), y=st.floats(0, 64), height=st.floats(0, 1), width=st.floats(3, 10))
def test_there_and_back(x, y, height, width):
    camera = make_camera(width)
    rays = directions(camera, np.array([x, y]), 64)
    point = on_plane(camera, rays, height)
    assert np.linalg.norm(rays) == pytest.approx(1)
    assert point[2] == pytest.approx(height, abs=1e-9)
    np.testing.assert_allclose(project(camera, point, 64), [x, y], atol=1e-6)
