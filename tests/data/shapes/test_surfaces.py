"""Surfaces: the patterns of textured objects, and the light on shaded ones."""

import numpy as np
import pytest

from stii_jax.data.shapes.options import CHOICES
from stii_jax.data.shapes.surfaces import colors

COLORS = np.array([[0.2, 0.4, 0.9], [0.8, 0.1, 0.5]], np.float32)
U, V = (axis[None] for axis in np.meshgrid(*[np.linspace(-0.5, 0.5, 101, dtype=np.float32)] * 2))


def paint(name, *pattern, width=1.0):
    traits = np.array([0.5] * 4 + list(pattern), np.float32)
    return colors(CHOICES["surfaces"].index(name), COLORS, width, traits, np.hypot(U, V) - np.float32(0.5), U, V)


def test_flat_objects_have_their_first_colour():
    np.testing.assert_array_equal(paint("flat", 0.5, 0.5, 0.5, 0.5), COLORS[0])


@pytest.mark.parametrize(
    ("sort", "along", "across"), [(0.1, 1, 0), (0.5, 6, 0), (0.9, 5, 2)], ids=["halves", "stripes", "spots"]
)
def test_patterns(sort, along, across):
    """Count the changes between the two colours along an object and across it."""
    picture = paint("textured", sort, 0.5, 0.75, 0.5)
    share = (picture - COLORS[0]) / (COLORS[1] - COLORS[0])
    np.testing.assert_allclose(share, share[..., :1].repeat(3, -1), atol=1e-5)
    assert share.min() == pytest.approx(0, abs=1e-6) and share.max() == pytest.approx(1, abs=1e-6)
    second = share[0, ..., 0] > 0.5
    changes = [np.abs(np.diff(second.astype(int), axis=axis)).sum(axis).max() for axis in (1, 0)]
    assert changes == [along, across]


def test_light_falls_from_the_middle_to_the_edge():
    light = paint("shaded", 0.0, 0.5, 0.5, 0.5)[0] / COLORS[0]
    np.testing.assert_allclose(light, light[..., :1].repeat(3, -1), atol=1e-5)
    row = light[50, :, 0]
    np.testing.assert_allclose(row[[0, 50, 100]], [0.5, 1.0, 0.5], atol=1e-3)
    assert (np.diff(row[:50]) > 0).all() and (np.diff(row[51:]) < 0).all()


def test_light_may_come_from_a_side():
    to_the_head, to_the_tail = (paint("shaded", 0.0, tilt, 0.5, 0.5)[0, 50, :, 0] / COLORS[0, 0] for tilt in (1.0, 0.0))
    np.testing.assert_allclose(to_the_head, to_the_tail[::-1], atol=1e-5)
    assert to_the_head[75] - to_the_head[25] == pytest.approx(0.8 * 0.5 * 0.5, abs=1e-3)
