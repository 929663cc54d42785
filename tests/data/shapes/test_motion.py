"""Motion: exact for single objects; statistics and conservation laws for several."""

import numpy as np
import pytest

from stii_jax.data.shapes.motion import Movers, simulate
from stii_jax.data.shapes.options import CHOICES

RADIUS = 0.05


def movers(motion="inertial", orientation="heading", num_videos=40, num_objects=3, **fields):
    """Videos of equal discs that stay in the frame and pass through one another."""
    size = (num_videos, num_objects)
    defaults = {
        "extents": np.full(size, RADIUS),
        "radii": np.full(size, RADIUS),
        "speeds": np.full(size, 0.02),
        "motions": np.full(num_videos, CHOICES["motions"].index(motion)),
        "orientations": np.full(num_videos, CHOICES["orientations"].index(orientation)),
        "turning": np.full(num_videos, 0.2),
        "stopped": np.full(num_videos, 0.4),
        "collide": np.zeros(num_videos, bool),
        "margins": np.full(num_videos, -1.0),
    }
    return Movers(**defaults | fields)


def run(world, num_frames=40, seed=0):
    return simulate(np.random.default_rng(seed), world, num_frames)


def far(num_videos=40):
    """Margins so wide that no object that starts in the frame meets a wall, for a start with one object."""
    return {"margins": np.full(num_videos, 100.0), "num_videos": num_videos, "num_objects": 1}


def test_inertial_objects_keep_their_velocity():
    motion = run(movers(**far()))
    np.testing.assert_array_equal(motion.velocities, np.repeat(motion.velocities[:, :1], 40, axis=1))
    straight = motion.positions[:, :1] + np.arange(40)[:, None, None] * motion.velocities[:, :1]
    np.testing.assert_allclose(motion.positions, straight, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(motion.velocities, axis=-1), 0.02)


@pytest.mark.parametrize("motion", CHOICES["motions"])
def test_a_velocity_leads_to_the_next_frame_but_for_walls(motion):
    motion = run(movers(motion))
    goal = motion.positions + motion.velocities
    free = ((goal > RADIUS) & (goal < 1 - RADIUS)).all(-1)[:, :-1]
    assert 0.7 < free.mean() < 1
    np.testing.assert_allclose(motion.positions[:, 1:][free], goal[:, :-1][free], atol=1e-12)
    # At a wall, the rest of the path is reflected, and so is the velocity.
    mirrored = np.where(goal < RADIUS, 2 * RADIUS - goal, np.where(goal > 1 - RADIUS, 2 * (1 - RADIUS) - goal, goal))
    np.testing.assert_allclose(motion.positions[:, 1:], mirrored[:, :-1], atol=1e-12)


def test_inertial_objects_are_reflected_by_walls():
    motion = run(movers())
    np.testing.assert_allclose(np.abs(motion.velocities), np.abs(motion.velocities[:, :1]).repeat(40, axis=1))
    assert (motion.velocities[:, -1] != motion.velocities[:, 0]).any()


@pytest.mark.parametrize("motion", CHOICES["motions"])
def test_objects_turn_back_at_the_frame_or_outside_of_it(motion):
    motion_inside = run(movers(motion, collide=np.ones(40, bool)), 80)
    assert motion_inside.positions.min() >= RADIUS and motion_inside.positions.max() <= 1 - RADIUS
    motion = run(movers(motion, margins=np.full(40, 0.1)), 80)
    assert motion.positions.min() >= -0.1 - RADIUS and motion.positions.max() <= 1.1 + RADIUS
    outside = ((motion.positions < -RADIUS) | (motion.positions > 1 + RADIUS)).any(-1)
    assert (~outside[:, :-1] & outside[:, 1:]).any(), "some leave"
    assert (outside[:, :-1] & ~outside[:, 1:]).any(), "some enter"
    assert not outside[:, 0, 0].any(), "the first begins in the frame"


def test_collisions_keep_energy_and_momentum():
    """The discs' mass is their radius squared; walls preserve the energy."""
    radii = np.random.default_rng(1).uniform(0.03, 0.12, (40, 3))
    speeds = np.random.default_rng(2).uniform(0.01, 0.03, (40, 3))
    world = movers(extents=radii, radii=radii, speeds=speeds, collide=np.ones(40, bool))
    motion = run(world)
    mass = radii[:, None, :, None] ** 2
    energy = (mass * motion.velocities**2).sum((2, 3))
    np.testing.assert_allclose(energy, energy[:, :1].repeat(40, axis=1))
    momentum = (mass * motion.velocities).sum(2)
    goal = motion.positions + motion.velocities
    walls = ((goal < radii[:, None, :, None]) | (goal > 1 - radii[:, None, :, None])).any((2, 3))[:, :-1]
    np.testing.assert_allclose(momentum[:, 1:][~walls], momentum[:, :-1][~walls], atol=1e-12)
    hits = (motion.velocities[:, 1:] != motion.velocities[:, :-1]).any((2, 3)) & ~walls
    assert hits.sum() > 20


@pytest.mark.parametrize("motion", CHOICES["motions"])
def test_objects_overlap_only_where_they_do_not_collide(motion):
    def nearest(collide):
        x = run(movers(motion, num_objects=2, collide=np.full(40, collide))).positions
        return np.linalg.norm(x[:, :, 0] - x[:, :, 1], axis=-1)

    assert nearest(True).min() > 2 * RADIUS - 1e-9
    assert np.isclose(nearest(True), 2 * RADIUS).any(), "they touch"
    assert nearest(False).min() < RADIUS


def test_stopping_objects_rest_for_their_share_of_the_frames():
    share = np.repeat([0.0, 0.3, 0.8], 200)
    motion = run(movers("stopping", num_videos=600, stopped=share, num_objects=1), 100)
    speeds = np.linalg.norm(motion.velocities[:, :, 0], axis=-1)
    rests = speeds == 0
    np.testing.assert_allclose(speeds[~rests], 0.02)
    for part in (0.0, 0.3, 0.8):
        assert rests[share == part].mean() == pytest.approx(part, abs=0.04)
    # Stops last 8 / (1 - share) frames on average.
    ends = (rests[:, :-1] & ~rests[:, 1:])[share == 0.3].sum() / rests[:, :-1][share == 0.3].sum()
    assert ends == pytest.approx(0.7 / 8, rel=0.15)
    assert (np.linalg.norm(run(movers("turning")).velocities, axis=-1) > 0.0199).all()


def test_turning_objects_change_direction_as_much_as_told():
    turning = np.repeat([0.05, 0.3], 100)
    motion = run(movers("turning", turning=turning, **far(200)))
    heading = np.arctan2(motion.velocities[..., 1], motion.velocities[..., 0])
    change = (np.diff(heading, axis=1) + np.pi) % (2 * np.pi) - np.pi
    for part in (0.05, 0.3):
        assert change[turning == part].std() == pytest.approx(part, rel=0.05)


def test_objects_look_where_they_go():
    for motion in CHOICES["motions"]:
        track = run(movers(motion, stopped=np.zeros(40), **far()))
        facing = np.stack([np.cos(track.angles), np.sin(track.angles)], axis=-1)
        # A turn of more than 0.6 is rare at 0.2 per frame.
        near = (facing * track.velocities).sum(-1) > 0.02 * np.cos(0.3)
        assert near.mean() > (0.999 if motion == "inertial" else 0.99)
    bounced = run(movers())
    assert np.abs(np.diff(bounced.angles, axis=1)).max() == pytest.approx(0.6)


def test_other_orientations_are_constant():
    upright, free = run(movers("turning", "upright")).angles, run(movers("turning", "free")).angles
    np.testing.assert_array_equal(upright, -np.pi / 2)
    np.testing.assert_array_equal(free, free[:, :1].repeat(40, axis=1))
    assert np.unique(free).size == 120


def test_the_gait_follows_the_way():
    speeds = np.array([[0.0], [0.01], [0.1]])
    motion = run(movers(speeds=speeds, **far(3)))
    expected = [0.05, 2 * np.pi * 0.01 / (0.6 * 2 * RADIUS), 1.2]
    np.testing.assert_allclose(np.diff(motion.phases[..., 0], axis=1), np.tile(expected, (39, 1)).T, rtol=1e-6)


def test_absent_objects_take_no_part():
    extents = np.array([[RADIUS, RADIUS, 0.0]] * 40)
    motion = run(movers(extents=extents, radii=extents, collide=np.ones(40, bool)))
    for values in motion:
        assert not values[:, :, 2].any() and values[:, :, :2].all(-1).any()


@pytest.mark.parametrize("motion", CHOICES["motions"])
def test_a_longer_simulation_begins_like_a_shorter_one(motion):
    world = movers(motion, collide=np.ones(40, bool))
    for short, long in zip(run(world, 10), run(world, 30)):
        np.testing.assert_array_equal(short, long[:, :10])
