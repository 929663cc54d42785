"""Backgrounds: their colours, and their independence of the resolution."""

import numpy as np
import pytest

from stii_jax.data.shapes.backgrounds import paint
from stii_jax.data.shapes.options import CHOICES

COLORS = np.array([[0.3, 0.5, 0.6], [0.5, 0.45, 0.7]], np.float32)


def picture(name, size=64, seed=0, colors=COLORS):
    return paint(CHOICES["backgrounds"].index(name), colors, np.random.default_rng(seed), size)


@pytest.mark.parametrize("name", ["black", "gray", "color"])
def test_flat_backgrounds(name):
    np.testing.assert_array_equal(picture(name), np.tile(COLORS[0], (64, 64, 1)))


def test_a_gradient_is_a_plane_between_two_colours():
    for seed in range(5):
        share = (picture("graded", seed=seed) - COLORS[0]) / (COLORS[1] - COLORS[0])
        np.testing.assert_allclose(share, share[..., :1].repeat(3, -1), atol=1e-4)
        np.testing.assert_allclose(share.mean(), 0, atol=1e-4)
        np.testing.assert_allclose(np.diff(share, 2, axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(np.diff(share, 2, axis=1), 0, atol=1e-4)
        assert 0.97 < np.abs(share).max() <= 1


def test_a_texture_reaches_the_second_colour_and_no_further():
    share = np.stack([picture("textured", seed=seed) for seed in range(20)]) - COLORS[0]
    share /= COLORS[1] - COLORS[0]
    np.testing.assert_allclose(np.abs(share).max((1, 2, 3)), 1, atol=1e-4)
    assert abs(share.mean()) < 0.1 and share.std() > 0.2


@pytest.mark.parametrize("name", CHOICES["backgrounds"])
def test_pictures_of_any_size_are_alike(name):
    for seed in range(4):
        large, small = picture(name, 128, seed), picture(name, 64, seed)
        shrunk = large.reshape(64, 2, 64, 2, 3).mean((1, 3))
        assert np.abs(shrunk - small).mean() < 0.01
        assert large.min() >= 0 and large.max() <= 1


@pytest.mark.parametrize("name", ["graded", "textured", "scenery"])
def test_patterns_differ_and_may_be_gray(name):
    assert not np.array_equal(picture(name, seed=0), picture(name, seed=1))
    gray = picture(name, colors=np.array([[0.4], [0.6]], np.float32))
    assert gray.shape == (64, 64, 1) and gray.std() > 0.01


def test_sceneries_have_edges_as_sharp_as_a_pixel():
    steps = [np.abs(np.diff(picture("scenery", seed=seed), axis=1)).max() for seed in range(10)]
    smooth = [np.abs(np.diff(picture("graded", seed=seed), axis=1)).max() for seed in range(10)]
    assert np.median(steps) > 4 * np.median(smooth)
