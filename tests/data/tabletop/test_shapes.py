"""Intersections of rays and unit shapes: worked examples, and hits that lie on the surface."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stii_jax.data.tabletop import shapes

KINDS = [shapes.CUBE, shapes.CYLINDER, shapes.SPHERE]


def meet(kind, origin, ray):
    enter, leave = shapes.interval(kind, np.array([origin], float).T, np.array([ray], float).T)
    return enter[0], leave[0]


@pytest.mark.parametrize("kind", KINDS)
def test_straight_through(kind):
    for ray in np.eye(3):
        # Rays along a plane divide by zero, yet the result is right.
        assert meet(kind, -3 * ray, ray) == pytest.approx((2, 4))
        assert meet(kind, -3 * ray, 2 * ray) == pytest.approx((1, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_past(kind):
    enter, leave = meet(kind, [-3, 0, 1.01], [1, 0, 0])
    assert not enter < leave
    enter, leave = meet(kind, [-3, 1.5, 0], [1, 0.1, -0.1])
    assert not enter < leave


def test_edges_tell_the_shapes_apart():
    # At 0.9 to the right and 0.9 behind, only the cube is hit; at 0.9 to the right, the sphere is lower.
    tops = [meet(kind, [0.9, 0.9, 3], [0, 0, -1]) for kind in KINDS]
    assert [enter < leave for enter, leave in tops] == [True, False, False]
    tops = [meet(kind, [0.9, 0, 3], [0, 0, -1])[0] for kind in KINDS]
    assert tops == pytest.approx([2, 2, 3 - 0.19**0.5])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(KINDS))
def test_rays_enter_and_leave_through_the_surface(seed, kind):
    rng = np.random.default_rng(seed)
    origins = rng.normal(size=(3, 50))
    origins *= 3 / np.linalg.norm(origins, axis=0)
    rays = rng.uniform(-0.5, 0.5, (3, 50)) - origins
    ends = shapes.interval(kind, origins, rays)
    for end in ends:
        x, y, z = points = origins + end * rays
        size = {
            shapes.CUBE: np.abs(points).max(0),
            shapes.CYLINDER: np.maximum(np.hypot(x, y), np.abs(z)),
            shapes.SPHERE: np.linalg.norm(points, axis=0),
        }[kind]
        np.testing.assert_allclose(size, 1, atol=1e-9)
        outward = shapes.normals(kind, points, np.zeros(50))
        np.testing.assert_allclose(np.linalg.norm(outward, axis=0), 1)
        # Into the shape against the normal, out of it along the normal.
        assert np.all(shapes.dot(outward, rays) * (1 if end is ends[1] else -1) > 0)


def test_a_turned_cube():
    eighth = np.full(1, np.pi / 4)
    half, edge = shapes.HALF_SIZES[shapes.CUBE], shapes.RADII[shapes.CUBE]
    local = shapes.to_local(shapes.CUBE, np.array([[edge], [0.0], [half]]), eighth)
    np.testing.assert_allclose(local[:, 0], [1, -1, 1])
    face = shapes.normals(shapes.CUBE, np.array([[1.0], [0.2], [0.1]]), eighth)
    np.testing.assert_allclose(face[:, 0], [0.5**0.5, 0.5**0.5, 0], atol=1e-12)
    # The rotation of a ball is invisible.
    np.testing.assert_allclose(shapes.to_local(shapes.SPHERE, np.array([[0.5], [0.0], [0.0]]), eighth)[:, 0], [1, 0, 0])
