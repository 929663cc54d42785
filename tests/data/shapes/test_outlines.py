"""Outlines against exact shapes, and the properties that antialiasing relies on."""

import numpy as np
import pytest

from stii_jax.data.shapes.options import CHOICES
from stii_jax.data.shapes.outlines import REACH, WIDTHS, distances

KINDS = CHOICES["kinds"]
STEP = np.float32(1 / 200)
U, V = (axis[None] for axis in np.meshgrid(*[np.arange(-150, 151, dtype=np.float32) * STEP] * 2))


def outline(name, width=0.4, traits=(0.5,) * 8, phase=0.0, u=U, v=V):
    phases = np.full(len(u), phase)
    return distances(KINDS.index(name), width, np.array(traits, np.float32), phases, u, v)


def random_outlines(name, count=20):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield outline(name, rng.uniform(*WIDTHS[name]), rng.random(8), rng.uniform(0, 100))[0]


def test_a_disc_is_exact():
    np.testing.assert_allclose(outline("disc", width=1.0), np.hypot(U, V) - 0.5, atol=1e-3)


def test_an_ellipse_has_the_right_inside():
    np.testing.assert_array_equal(outline("ellipse") < 0, (U / 0.5) ** 2 + (V / 0.2) ** 2 < 1)


@pytest.mark.parametrize(("trait", "corners"), [(0.1, 3), (0.3, 4), (0.6, 5), (0.9, 6)])
def test_polygons_are_convex_with_their_number_of_corners(trait, corners):
    inside = outline("polygon", 0.8, (trait, 0.5, 0.3, 0, 0, 0, 0, 0))[0] < 0
    rows, columns = np.nonzero(inside)
    rng = np.random.default_rng(0)
    first, second = rng.integers(len(rows), size=(2, 5000))
    middle = (rows[first] + rows[second]) // 2, (columns[first] + columns[second]) // 2
    assert inside[middle].mean() > 0.995  # up to rounding
    # Along the outline, the direction of the nearest side takes one value per side.
    distance = outline("polygon", 0.8, (trait, 0.5, 0.3, 0, 0, 0, 0, 0))[0]
    down, right = np.gradient(distance, STEP)
    at = np.abs(distance) < STEP
    directions = np.round(np.arctan2(down[at], right[at]), 2)
    _, counts = np.unique(directions, return_counts=True)
    assert (counts > 20).sum() == corners


@pytest.mark.parametrize("name", KINDS)
def test_distances_are_right_to_first_order(name):
    for distance in random_outlines(name):
        slope = np.hypot(*np.gradient(distance, STEP))
        near = slope[np.abs(distance) < 2 * STEP]
        assert np.median(near) == pytest.approx(1, abs=0.02)
        assert (np.abs(near - 1) < 0.1).mean() > 0.75  # except at corners and joints


@pytest.mark.parametrize("name", KINDS)
def test_objects_are_as_long_as_told_and_within_reach(name):
    for distance in random_outlines(name):
        inside = distance < 0
        assert not inside[np.hypot(U[0], V[0]) > REACH].any()
        assert np.hypot(U[0], V[0])[inside].max() > 0.35
        assert np.hypot(U[0][inside].mean(), V[0][inside].mean()) < 0.17, "the centre is in the middle"


def test_worms_bend_and_legs_swing():
    for name in KINDS:
        first, second = (outline(name, 0.3, phase=phase)[0] < 0 for phase in (0.0, 1.5))
        assert (first != second).any() == (name in ("worm", "insect", "walker"))


def test_a_wave_runs_along_a_worm():
    """Without the slow bend, the third trait, the form repeats after one cycle."""
    start, half, whole = (outline("worm", 0.2, (0.5, 0.5, *(0.0,) * 6), n * np.pi)[0] for n in range(3))
    np.testing.assert_allclose(start, whole, atol=1e-4)
    assert np.abs(start - half).max() > 0.05
    bent = [outline("worm", 0.2, (0.5, 0.5, 1.0, *(0.0,) * 5), n * np.pi)[0] for n in (0, 2)]
    assert np.abs(bent[0] - bent[1]).max() > 0.05


@pytest.mark.parametrize(("name", "trait", "legs"), [("insect", 0.1, 6), ("insect", 0.9, 8), ("walker", 0.5, 2)])
def test_numbers_of_legs(name, trait, legs):
    inside = outline(name, 0.3, (trait, 0.9, *(0.5,) * 6))[0] < 0
    # A cut beside or behind the body crosses as many pieces as there are legs.
    cut = inside[np.abs(V[0, :, 0] - 0.16).argmin()] if legs > 2 else inside[:, np.abs(U[0, 0] + 0.43).argmin()]
    pieces = np.count_nonzero(np.diff(cut.astype(int)) == 1)
    assert pieces == (2 if legs == 2 else legs // 2)


@pytest.mark.parametrize("name", ["insect", "walker"])
def test_legs_of_the_two_sides_swing_in_turn(name):
    forward, back = (outline(name, 0.3, (0.1, 0.9, *(0.5,) * 6), phase)[0] < 0 for phase in (0.5 * np.pi, 1.5 * np.pi))
    assert (forward != forward[::-1]).any()
    np.testing.assert_array_equal(forward, back[::-1])


def test_some_insects_have_wings():
    areas = [(outline("insect", 0.3, (0.1, wings, *(0.5,) * 6)) < 0).sum() for wings in (0.1, 0.9)]
    assert areas[0] > 1.2 * areas[1]


def test_frames_are_independent():
    phases = np.array([0.0, 2.0])
    both = distances(KINDS.index("worm"), 0.2, np.full(8, 0.5, np.float32), phases, U.repeat(2, 0), V.repeat(2, 0))
    for frame, phase in enumerate(phases):
        np.testing.assert_allclose(both[frame], outline("worm", 0.2, phase=phase)[0], atol=1e-6)
