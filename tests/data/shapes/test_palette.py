"""Colours: of backgrounds by kind, and the contrast of objects."""

import numpy as np
import pytest

from stii_jax.data.shapes.options import CHOICES
from stii_jax.data.shapes.palette import draw_backgrounds, draw_colors


def rms(colors):
    return np.sqrt((colors**2).mean(-1))


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("name", CHOICES["backgrounds"])
def test_backgrounds(name, gray):
    kinds = np.full(500, CHOICES["backgrounds"].index(name))
    colors = draw_backgrounds(np.random.default_rng(0), kinds, np.full(500, 0.5), np.full(500, gray))
    mean, second = colors[:, 0], colors[:, 1]
    assert colors.min() >= 0 and colors.max() <= 1
    assert (rms(second - mean) > 0).any() == (name in ("graded", "textured", "scenery"))
    in_gray = np.ptp(colors, axis=-1).max() < 1e-12
    assert in_gray == (gray or name in ("black", "gray"))
    if name == "black":
        assert not colors.any()
    else:
        assert mean.mean() == pytest.approx(0.5, abs=0.05) and np.ptp(mean) > 0.9


@pytest.mark.parametrize("name", CHOICES["backgrounds"])
def test_backgrounds_of_limited_brightness_are_the_same_ones_scaled(name):
    kinds = np.full(500, CHOICES["backgrounds"].index(name))
    arguments = kinds, np.full(500, 0.5), np.zeros(500, bool)
    colors = draw_backgrounds(np.random.default_rng(0), *arguments)
    limited = draw_backgrounds(np.random.default_rng(0), *arguments, brightness=(0.1, 0.4))
    np.testing.assert_allclose(limited, 0 if name == "black" else 0.1 + 0.3 * colors)


def test_the_second_colour_is_as_far_away_as_told():
    kinds = np.full(500, CHOICES["backgrounds"].index("textured"))

    def difference(pattern):
        colors = draw_backgrounds(np.random.default_rng(0), kinds, np.full(500, pattern), np.zeros(500, bool))
        return colors[:, 1] - colors[:, 0]

    np.testing.assert_allclose(difference(0.5), 0.5 * difference(1.0), atol=1e-12)
    assert not difference(0.0).any()


@pytest.mark.parametrize("gray", [False, True])
def test_the_contrast_is_exact_where_there_is_room(gray):
    rng = np.random.default_rng(0)
    means = rng.random((400, 1)) if gray else rng.random((400, 3))
    means = np.broadcast_to(means, (400, 3))
    contrasts = rng.uniform(0.1, 0.5, (400, 4))  # black or white is at least 0.5 away from any colour
    colors = draw_colors(np.random.default_rng(1), means, np.full(400, gray), contrasts)
    assert colors.min() >= 0 and colors.max() <= 1
    np.testing.assert_allclose(rms(colors - means[:, None, None]), np.repeat(contrasts[..., None], 2, -1), atol=1e-9)
    assert (np.ptp(colors, axis=-1).max() < 1e-9) == gray
    assert np.unique(colors.reshape(-1, 3).round(6), axis=0).shape[0] > 1000


def test_without_room_objects_are_black_or_white():
    means = np.array([[0.4, 0.4, 0.4], [0.9, 0.7, 0.8], [0.0, 0.0, 0.0]])
    colors = draw_colors(np.random.default_rng(0), means, np.zeros(3, bool), np.full((3, 2), 1.0))
    np.testing.assert_allclose(colors[0], 1)
    np.testing.assert_allclose(colors[1], 0, atol=1e-12)
    np.testing.assert_allclose(colors[2], 1)


def test_objects_are_brighter_and_darker():
    means = np.full((300, 3), 0.5)
    colors = draw_colors(np.random.default_rng(0), means, np.ones(300, bool), np.full((300, 1), 0.3))
    assert 0.35 < (colors[:, 0, 0, 0] > 0.5).mean() < 0.65
    np.testing.assert_allclose(np.unique(colors.round(9)), [0.2, 0.8])
