"""Masks and frames against discs drawn by hand and by a slow loop."""

import itertools

import numpy as np
import pytest

from stii_jax.data.bouncing_balls import render


def test_a_disc_by_hand():
    masks = render.render_masks(np.array([[[2.5, 1.5]]]), np.array([1.2]), 5)
    expected = [[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(masks[0], expected)


def test_masks_against_a_loop():
    rng = np.random.default_rng(0)
    positions = np.stack([rng.uniform(5, 15, size=(3, 2)), rng.uniform(20, 30, size=(3, 2))], axis=1)
    radii = np.array([5.1, 4.0])
    masks = render.render_masks(positions, radii, 32)
    expected = np.zeros((3, 32, 32), np.uint8)
    for frame, row, column in np.ndindex(3, 32, 32):
        for ball, (x, y) in enumerate(positions[frame]):
            if (column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2 < radii[ball] ** 2:
                expected[frame, row, column] = ball + 1
    np.testing.assert_array_equal(masks, expected)


def test_absent_balls_are_not_drawn():
    assert not render.render_masks(np.full((2, 1, 2), 8.0), np.zeros(1), 16).any()


def test_frames_have_the_balls_colours_on_the_background():
    masks = np.array([[[0, 1], [2, 2]]], np.uint8)
    frames = render.render_frames(masks, render.PALETTES["paper"][:2], np.array([1, 2, 3], np.uint8))
    np.testing.assert_array_equal(frames[0, 0, 0], [1, 2, 3])
    np.testing.assert_array_equal(frames[0, 0, 1], [227, 206, 166])
    np.testing.assert_array_equal(frames[0, 1, 0], [180, 120, 31])


@pytest.mark.parametrize("palette", render.PALETTES)
def test_colours_differ(palette):
    assert len({tuple(color) for color in render.PALETTES[palette].tolist()}) == {"both": 16}.get(palette, 8)


def test_first_vivid_colours_are_further_apart_than_the_papers():
    def nearest(palette):
        colors = render.PALETTES[palette][:3].astype(float)
        return min(np.linalg.norm(a - b) for a, b in itertools.combinations(colors, 2))

    assert nearest("vivid") > 3 * nearest("paper")
