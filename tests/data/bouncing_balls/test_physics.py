"""Collisions with known outcomes, and conservation laws for every simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stii_jax.data import DataError
from stii_jax.data.bouncing_balls import physics


def simulate(positions, velocities, radii, num_frames, box_size=10.0):
    arrays = (np.array([value], float) for value in (positions, velocities, radii))
    positions, velocities = physics.simulate(*arrays, box_size=box_size, num_frames=num_frames)
    return positions[0], velocities[0]


def test_wall_reflects():
    # Hits the right wall (x = 9 for its centre) after half a frame, and keeps its height.
    positions, velocities = simulate([[8.5, 5.0]], [[1.0, 0.25]], [1.0], 3)
    np.testing.assert_allclose(positions[:, 0], [[8.5, 5.0], [8.5, 5.25], [7.5, 5.5]])
    np.testing.assert_allclose(velocities[:, 0], [[1.0, 0.25], [-1.0, 0.25], [-1.0, 0.25]])


def test_corner_reflects_both_ways():
    positions, velocities = simulate([[1.5, 1.5]], [[-1.0, -1.0]], [1.0], 2)
    np.testing.assert_allclose(positions[1, 0], [1.5, 1.5])
    np.testing.assert_allclose(velocities[1, 0], [1.0, 1.0])


def test_equal_balls_swap_velocities_head_on():
    # Centres 4 apart, radii 1, closing at 2: they touch after one frame at x = 4 and 6.
    positions, velocities = simulate([[3.0, 5.0], [7.0, 5.0]], [[1.0, 0.0], [-1.0, 0.0]], [1.0, 1.0], 3)
    np.testing.assert_allclose(positions[1], [[4.0, 5.0], [6.0, 5.0]])
    np.testing.assert_allclose(positions[2], [[3.0, 5.0], [7.0, 5.0]])
    np.testing.assert_allclose(velocities[2], [[-1.0, 0.0], [1.0, 0.0]])


def test_masses_are_areas_head_on():
    # Masses 1 and 1/4: v1 = ((m1 - m2) u1 + 2 m2 u2) / (m1 + m2) = 0.2, v2 = 2.2.
    _, velocities = simulate([[3.0, 5.0], [5.5, 5.0]], [[1.0, 0.0], [-1.0, 0.0]], [1.0, 0.5], 2)
    np.testing.assert_allclose(velocities[1], [[0.2, 0.0], [2.2, 0.0]], atol=1e-12)


def test_equal_balls_part_at_a_right_angle_off_centre():
    _, velocities = simulate([[2.0, 4.0], [5.0, 5.0]], [[1.0, 0.0], [0.0, 0.0]], [1.0, 1.0], 4)
    first, second = velocities[-1]
    assert np.linalg.norm(first) > 0.1 and np.linalg.norm(second) > 0.1
    assert first @ second == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(first + second, [1.0, 0.0], atol=1e-12)


def test_absent_balls_do_nothing():
    positions, _ = simulate([[3.0, 5.0], [4.5, 5.0]], [[1.0, 0.0], [0.0, 0.0]], [1.0, 0.0], 4)
    np.testing.assert_allclose(positions[:, 0, 0], [3.0, 4.0, 5.0, 6.0])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_balls=st.integers(1, 8),
    speed=st.floats(0.01, 3.0),
    box_size=st.floats(8.0, 12.0),
)
def test_energy_is_conserved_and_balls_keep_apart_in_the_box(seed, num_balls, speed, box_size):
    rng = np.random.default_rng(seed)
    radii = rng.uniform(0.5, 1.0, size=(4, num_balls))
    radii[0, rng.integers(num_balls) :] = 0
    radii[0, 0] = 0.8
    start = physics.place(rng, radii, box_size)
    velocities = physics.draw_velocities(rng, radii > 0, (speed, speed))
    positions, velocities = physics.simulate(start, velocities, radii, box_size=box_size, num_frames=40)

    energy = (radii[:, None] ** 2 * (velocities**2).sum(-1)).sum(-1)
    np.testing.assert_allclose(energy, energy[:, :1].repeat(40, 1), rtol=1e-9)
    reach, present = radii[:, None, :, None], (radii > 0)[:, None, :, None]
    assert np.all(((positions > reach - 1e-9) & (positions < box_size - reach + 1e-9)) | ~present)
    gaps = np.linalg.norm(positions[:, :, :, None] - positions[:, :, None], axis=-1)
    gaps -= (radii[:, :, None] + radii[:, None])[:, None]
    both = np.triu((radii[:, :, None] > 0) & (radii[:, None] > 0), 1)
    assert np.where(both[:, None], gaps, np.inf).min() > -1e-9


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_momentum_is_conserved_between_balls(seed):
    rng = np.random.default_rng(seed)
    radii = rng.uniform(0.5, 1.0, size=(3, 5))
    # The box is so large, and the balls so far from its walls, that they only meet each other.
    start = physics.place(rng, radii, 8.0) + 496.0
    _, velocities = physics.simulate(start, rng.normal(size=start.shape), radii, box_size=1000.0, num_frames=30)
    momentum = (radii[:, None, :, None] ** 2 * velocities).sum(2)
    np.testing.assert_allclose(momentum, momentum[:, :1].repeat(30, 1), atol=1e-9)


def test_a_frame_rate_is_only_a_sampling():
    # Half the speed over twice the frames gives the same path.
    rng = np.random.default_rng(0)
    radii = np.ones((5, 4))
    start = physics.place(rng, radii, 10.0)
    velocities = physics.draw_velocities(rng, radii > 0, (0.2, 0.2))
    coarse = physics.simulate(start, velocities, radii, box_size=10.0, num_frames=20).positions
    fine = physics.simulate(start, velocities / 2, radii, box_size=10.0, num_frames=39).positions
    np.testing.assert_allclose(coarse, fine[:, ::2], atol=1e-6)


def test_mean_speed_is_in_range():
    present = np.array([[True, True, False], [True, True, True]])
    velocities = physics.draw_velocities(np.random.default_rng(0), present, (0.5, 0.6))
    speeds = np.linalg.norm(velocities, axis=-1)
    assert speeds[0, 2] == 0
    mean = speeds.sum(1) / present.sum(1)
    assert np.all((mean >= 0.5) & (mean <= 0.6))


@pytest.mark.parametrize(("num_balls", "box_size"), [(1, 1.9), (9, 5.0)])
def test_balls_that_do_not_fit(num_balls, box_size):
    with pytest.raises(DataError, match=rf"{num_balls} balls .* box of side {box_size}.*box_size.*num_balls"):
        physics.place(np.random.default_rng(0), np.ones((2, num_balls)), box_size)
