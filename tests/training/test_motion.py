"""Tests of motion learned from the tracks of synthetic objects with known dynamics."""

import jax.numpy as jnp
import numpy as np
import pytest

from stii_jax.models.motion import HISTORY, MotionModel, rollout
from stii_jax.training import motion
from stii_jax.training.motion import Tracks, learn

pytestmark = pytest.mark.usefixtures("quick_compiles")

SETTINGS = {"batch_size": 32, "learning_rate": 5e-3, "horizon": 5, "symmetries": True, "seed": 0}
SIDE = 0.4  # half the side of the box


def bouncing(num_videos=60, num_frames=24, num_slots=2, seed=0):
    """Tracks of points that bounce off the walls of a box. Their codes are their positions."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(-SIDE, SIDE, (num_videos, 1, num_slots, 2))
    velocity = rng.uniform(-0.06, 0.06, start.shape)
    free = start + velocity * np.arange(num_frames)[:, None, None]
    position = (np.abs((free - SIDE) % (4 * SIDE) - 2 * SIDE) - SIDE).astype(np.float32)
    area = np.full(position.shape[:-1], 0.03, np.float32)
    return Tracks(np.concatenate([position, np.ones_like(position)], -1), position, area)


def moving_codes(seed=0):
    """The same tracks, with codes that hold nothing but the position."""
    tracks = bouncing(seed=seed)
    return tracks._replace(code=np.concatenate([tracks.position, -tracks.position], -1))


@pytest.fixture(scope="module")
def learned():
    losses = []
    report = lambda step, loss: losses.append((step, loss))  # noqa: E731
    found = learn(MotionModel(4, "none", 32), bouncing(), num_steps=450, report=report, **SETTINGS)
    return found, losses


def test_walls_are_learned(learned):
    """Points turn round at a wall, which constant velocity cannot predict."""
    found, _ = learned
    assert found.errors["motion"] < 0.7 * found.errors["velocity"]
    assert 0 < found.params["noise"] < 0.01


def test_codes_follow_positions(learned):
    found, _ = learned
    model, tracks = MotionModel(4, "none", 32), bouncing(seed=1)
    start, end = (Tracks(*(jnp.asarray(a[:, t]) for a in tracks)) for t in (3, 15))
    moved = model.placement.apply({"params": found.params["placement"]}, start.code, start.position, end.position)
    assert np.abs(moved - end.code).mean() < 0.1 * np.abs(start.code - end.code).mean()


def test_progress_is_reported(learned):
    _, losses = learned
    assert [step for step, _ in losses] == [100, 200, 300, 400, 450]
    assert losses[-1][1] < 0.5 * losses[0][1]


@pytest.mark.slow
def test_a_transformer_learns_codes_and_positions():
    """Constant codes and positions are the start, and the worst that it may be after a few steps."""
    model, settings = MotionModel(4, "slotformer", 16), SETTINGS | {"batch_size": 16, "horizon": 1}
    found = learn(model, moving_codes(), num_steps=200, **settings | {"learning_rate": 3e-3})
    held_out = [jnp.moveaxis(jnp.asarray(a[:, : HISTORY + 1]), 1, 2) for a in moving_codes(seed=1)]
    last, true = (tuple(a[:, :, t] for a in held_out[:2]) for t in (HISTORY - 1, HISTORY))
    predicted = rollout(model, found.params, *(a[:, :, :HISTORY] for a in held_out), 1)
    for before, now, after in zip(last, predicted, true, strict=True):
        assert np.abs(now[:, :, 0] - after).mean() < 0.8 * np.abs(before - after).mean()


@pytest.mark.slow
def test_the_same_seed_learns_the_same():
    model = MotionModel(4, "relational", 8)
    first, second = (learn(model, bouncing(8), num_steps=3, **(SETTINGS | {"horizon": 2})) for _ in range(2))
    assert first.errors == second.errors


def test_no_object_has_no_error():
    tracks = bouncing(4)
    hidden = tracks._replace(area=np.zeros_like(tracks.area))
    found = learn(MotionModel(4, "none", 8), hidden, num_steps=2, **SETTINGS)
    assert np.isnan(found.errors["motion"])
    assert all(np.isfinite(leaf).all() for leaf in found.params["transition"]["Dense_0"].values())


def test_one_video_in_ten_is_held_out():
    training, held_out = motion.split(bouncing(25))
    assert len(training.area) == 23 and len(held_out.area) == 2
    np.testing.assert_array_equal(np.concatenate([held_out.position, training.position]), bouncing(25).position)


@pytest.mark.parametrize("horizon", (1, 18))
def test_clips_may_be_as_long_as_the_videos(horizon):
    assert HISTORY + horizon <= 24
    found = learn(MotionModel(4, "none", 8), bouncing(4), num_steps=1, **(SETTINGS | {"horizon": horizon}))
    assert np.isfinite(found.errors["velocity"])
