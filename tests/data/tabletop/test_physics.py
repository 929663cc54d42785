"""Sliding and collisions with known outcomes, and conservation laws for every simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stii_jax.data.tabletop.physics import State, simulate


def run(positions, velocities, radii, num_frames, friction=0.0, spins=None):
    radii = np.array([radii], float)
    spins = np.zeros(radii.shape) if spins is None else np.array([spins], float)
    start = State(np.array([positions], float), np.array([velocities], float), np.zeros(radii.shape), spins)
    return State(*(value[0] for value in simulate(start, radii, friction=friction, num_frames=num_frames)))


def random_scene(seed, num_objects):
    """Make discs on a grid, so that they do not overlap, with random velocities; one scene has an absent disc."""
    rng = np.random.default_rng(seed)
    radii = rng.uniform(0.4, 0.6, (3, num_objects))
    radii[0, -1] = 0
    places = np.stack(np.divmod(rng.permuted(np.tile(np.arange(9), (3, 1)), axis=1)[:, :num_objects], 3), axis=-1)
    velocities = rng.normal(size=places.shape) * 0.3
    return State(1.3 * places, velocities, np.zeros(radii.shape), rng.normal(size=radii.shape) * 0.1), radii


def test_friction_stops_sliding_objects():
    # Speeds of 0.3, 0.2, 0.1 and 0 up to each next frame, in the direction (3, 4) / 5.
    state = run([[0, 0]], [[0.18, 0.24]], [0.5], 5, friction=0.1)
    np.testing.assert_allclose(state.positions[:, 0] @ [0.6, 0.8], [0, 0.3, 0.5, 0.6, 0.6], atol=1e-12)
    np.testing.assert_allclose(state.velocities[3:], 0, atol=1e-12)


def test_friction_stops_a_spin():
    # A rim of radius 0.5 turns at 0.05 per frame, and loses 0.02 per frame.
    state = run([[0, 0]], [[0, 0]], [0.5], 5, friction=0.02, spins=[0.1])
    np.testing.assert_allclose(state.yaws[:, 0], [0, 0.1, 0.16, 0.18, 0.18])


def test_head_on():
    # They touch after one frame at a distance of 1; of the closing speed of 1, 0.8 is left to part.
    state = run([[0, 0], [2, 0]], [[1, 0], [0, 0]], [0.5, 0.5], 3)
    np.testing.assert_allclose(state.positions[1], [[1, 0], [2, 0]])
    np.testing.assert_allclose(state.velocities[2], [[0.1, 0], [0.9, 0]], atol=1e-12)
    np.testing.assert_allclose(state.positions[2], [[1.1, 0], [2.9, 0]])
    assert not state.spins.any()


def test_a_glancing_blow_turns_both_the_same_way():
    # The left disc passes below the centre of the right one and drags its lower left rim to the right.
    state = run([[0, 0], [2, 0.5]], [[1, 0], [0, 0]], [0.5, 0.5], 4)
    assert state.velocities[3, 1, 0] > 0 and state.velocities[3, 1, 1] > 0 > state.velocities[3, 0, 1]
    assert state.spins[3, 0] == pytest.approx(state.spins[3, 1]) and state.spins[3, 0] > 0


def test_objects_of_one_are_alone():
    state = run([[0, 0]], [[0.5, 0]], [0.5], 3)
    np.testing.assert_allclose(state.positions[:, 0, 0], [0, 0.5, 1])


def test_absent_objects_are_not_met():
    state = run([[0, 0], [1, 0]], [[0.5, 0], [0, 0]], [0.5, 0], 4)
    np.testing.assert_allclose(state.positions[:, 0, 0], [0, 0.5, 1, 1.5])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), num_objects=st.integers(2, 9), friction=st.sampled_from([0.0, 0.01]))
def test_discs_keep_apart_and_gain_no_energy(seed, num_objects, friction):
    start, radii = random_scene(seed, num_objects)
    track = simulate(start, radii, friction=friction, num_frames=25)
    gaps = np.linalg.norm(track.positions[:, :, :, None] - track.positions[:, :, None], axis=-1)
    gaps -= (radii[:, :, None] + radii[:, None])[:, None]
    both = np.triu((radii[:, :, None] > 0) & (radii[:, None] > 0), 1)
    assert np.where(both[:, None], gaps, np.inf).min() > -1e-9

    energy = (track.velocities**2).sum(-1) + 0.5 * (radii[:, None] * track.spins) ** 2
    total = np.where(radii[:, None] > 0, energy, 0).sum(-1)
    assert np.diff(total, axis=1).max() < 1e-12


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), num_objects=st.integers(2, 9))
def test_momentum_is_conserved_without_friction(seed, num_objects):
    start, radii = random_scene(seed, num_objects)
    track = simulate(start, radii, friction=0.0, num_frames=25)
    if num_objects == 9:
        assert not np.allclose(track.velocities[:, 0], track.velocities[:, -1]), "some collide"
    momentum = track.velocities.sum(2)
    np.testing.assert_allclose(momentum, momentum[:, :1].repeat(25, 1), atol=1e-9)
    x, v = track.positions, track.velocities
    angular = (x[..., 0] * v[..., 1] - x[..., 1] * v[..., 0] + 0.5 * radii[:, None] ** 2 * track.spins).sum(2)
    np.testing.assert_allclose(angular, angular[:, :1].repeat(25, 1), atol=1e-9)
