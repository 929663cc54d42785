"""Tests of measured positions, predicted positions and moved slots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from stii_jax.models import motion
from stii_jax.models.motion import HISTORY, MotionModel, Placement, Recent, Transition

WIDTH = 8
CODE = 4


def random_history(batch=2, num_slots=3, seed=0):
    rng = np.random.default_rng(seed)
    position = rng.uniform(-0.5, 0.5, (batch, num_slots, HISTORY, 2)).astype(np.float32)
    return position, rng.uniform(0.01, 0.2, position.shape[:3]).astype(np.float32)


def history(position, area):
    position, area = jnp.asarray(position), jnp.asarray(area)
    return Recent(jnp.zeros((*area.shape[:2], CODE)), position[:, :, -1], position, area)


def transition(interaction, position, area, trained=True):
    module, position, area = Transition(interaction, WIDTH), jnp.asarray(position), jnp.asarray(area)
    params = jax.eval_shape(module.init, jax.random.key(0), position, area)
    params = tiny.random_like(params) if trained else module.init(jax.random.key(0), position, area)
    return np.asarray(tiny.jit(module.apply)(params, position, area))


@pytest.fixture(scope="module", params=("relational", "attention", "none"))
def interaction(request):
    return request.param


def test_position_and_area_are_those_of_the_slots_pixels():
    labels = np.zeros((8, 8), int)
    labels[2:4, 5:8] = 1
    assignment = jax.nn.one_hot(labels, 3, axis=0)
    position, area = motion.measure(assignment)
    np.testing.assert_allclose(area, [58 / 64, 6 / 64, 0], rtol=1e-6)
    np.testing.assert_allclose(position[1], [3 / 8 - 0.5, 6.5 / 8 - 0.5], atol=1e-6)
    np.testing.assert_array_equal(position[2], [0, 0])
    # The area-weighted mean of all positions is the frame's centre.
    np.testing.assert_allclose((area[:, None] * position).sum(0), [0, 0], atol=1e-6)


def test_a_hidden_slot_stays_where_it_was_seen_last():
    recent = motion.no_frames(1, 2, CODE)
    seen = jax.nn.one_hot(np.eye(4, dtype=int), 2, axis=0)[None]
    hidden = jnp.zeros_like(seen).at[:, 0].set(1)
    recent = motion.observe(recent, jnp.ones((1, 2, CODE)), seen)
    after = motion.observe(recent, jnp.full((1, 2, CODE), 2.0), hidden)
    np.testing.assert_array_equal(after.code[0, :, 0], [2, 1])
    np.testing.assert_array_equal(after.position[0, 1, -1], recent.position[0, 1, -1])
    np.testing.assert_array_equal(after.anchor[0, 1], recent.anchor[0, 1])
    np.testing.assert_allclose(after.area[0, :, -2:], [[12 / 16, 1], [4 / 16, 0]])


def test_a_forgotten_slot_has_no_past():
    position, area = random_history(1, 2)
    recent = history(position, area)
    forgotten = motion.forget(recent, jnp.array([[True, False]]))
    assert (forgotten.area[0, 0] == 0).all()
    np.testing.assert_array_equal(forgotten.area[0, 1], area[0, 1])


def seen_in_a_frame(labels, num_slots=4):
    """The history after one frame with these labels, of which slot 0 is the background."""
    recent = motion.no_frames(1, num_slots, CODE, labels.shape)
    return motion.observe(recent, jnp.zeros((1, num_slots, CODE)), jax.nn.one_hot(labels, num_slots, axis=0)[None])


def displaced(recent, *offsets):
    """The history with one more position per slot, displaced by pixels of an 8x8 frame."""
    moved = recent.position[:, :, -1] + jnp.array(offsets)[None] / 8
    return recent._replace(position=jnp.concatenate([recent.position[:, :, 1:], moved[:, :, None]], 2))


def test_pixels_move_with_their_object():
    labels = np.zeros((8, 8), int)
    labels[2:4, 2:5] = 1
    labels[6, 6] = 2
    moved = motion.carry(displaced(seen_in_a_frame(labels), (1, 1), (3, 1), (0, 1), (5, 5)))
    expected = np.zeros((8, 8), int)
    expected[5:7, 3:6] = 1
    expected[6, 7] = 2
    np.testing.assert_allclose(moved[0], jax.nn.one_hot(expected, 4, axis=0), atol=1e-5)


def test_pixels_that_leave_the_frame_are_gone_and_meeting_objects_share():
    labels = np.zeros((8, 8), int)
    labels[0, 0:2] = 1
    labels[4, 0:2] = 2
    moved = motion.carry(displaced(seen_in_a_frame(labels), (0, 0), (4, -1), (0, 0), (0, 0)))
    np.testing.assert_allclose(moved.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(moved[0, :3, 4, :2], [[0, 0], [0.5, 0], [0.5, 1]], atol=1e-5)


def test_a_slot_that_was_given_up_does_not_come_back():
    labels = np.zeros((8, 8), int)
    labels[2:4, 2:5] = 3
    recent = seen_in_a_frame(labels)
    empty = jax.nn.one_hot(np.zeros((8, 8), int), 4, axis=0)[None]
    after = motion.observe(recent, jnp.zeros((1, 4, CODE)), empty)
    np.testing.assert_array_equal(motion.carry(after)[0, 3], np.zeros((8, 8)))


def test_before_training_every_object_keeps_its_velocity(interaction):
    position, area = random_history()
    expected = 2 * position[:, :, -1] - position[:, :, -2]
    np.testing.assert_allclose(transition(interaction, position, area, trained=False), expected, atol=1e-6)


def test_the_order_of_slots_is_no_matter(interaction):
    position, area = random_history()
    order = [2, 0, 1]
    moved = transition(interaction, position[:, order], area[:, order])
    np.testing.assert_allclose(moved, transition(interaction, position, area)[:, order], atol=1e-5)


@pytest.mark.parametrize("hidden", (False, True))
def test_objects_are_moved_by_visible_others(interaction, hidden):
    position, area = random_history()
    if hidden:
        area[:, 2] = 0
    changed = position.copy()
    changed[:, 2] += 0.1
    before, after = (transition(interaction, at, area)[:, :2] for at in (position, changed))
    assert np.allclose(before, after, atol=1e-6) == (hidden or interaction == "none")


def test_a_slot_at_its_own_place_is_not_changed():
    rng = np.random.default_rng(0)
    code, start = (jnp.asarray(rng.normal(size=(5, size)), jnp.float32) for size in (CODE, 2))
    module = Placement(WIDTH)
    params = tiny.random_like(jax.eval_shape(module.init, jax.random.key(0), code, start, start))
    np.testing.assert_allclose(module.apply(params, code, start, start), code, atol=1e-6)
    assert not np.allclose(module.apply(params, code, start, start + 0.1), code, atol=1e-3)


def test_constant_velocity_extrapolates_and_a_new_object_rests():
    position, area = random_history(1, 2)
    area[0, 1, :-1] = 0
    model = MotionModel(CODE, "none", WIDTH)
    recent = history(position, area)
    _, first = model.next(model.init(jax.random.key(0)), recent, "velocity")
    _, second = model.next(model.init(jax.random.key(0)), first, "velocity")
    now, before = position[0, :, -1], position[0, :, -2]
    np.testing.assert_allclose(second.position[0, 0, -1], 3 * now[0] - 2 * before[0], atol=1e-5)
    np.testing.assert_array_equal(second.position[0, 1, -1], now[1])


def test_futures_differ_by_the_noise_of_a_step():
    position, area = random_history(1, 2)
    model = MotionModel(CODE, "relational", WIDTH)
    params = {**model.init(jax.random.key(0)), "noise": jnp.float32(0.5)}
    recent = history(position, area)
    noise = jnp.array([[[1.0, 0.0], [0.0, -2.0]]])
    sampled, likely = (model.next(params, recent, noise=n)[1].position[:, :, -1] for n in (noise, None))
    np.testing.assert_allclose(sampled - likely, 0.5 * noise, atol=1e-6)


def test_sampled_futures_follow_the_order_of_slots(interaction):
    model, order = MotionModel(CODE, interaction, WIDTH), np.array([2, 0, 1])
    params = tiny.random_like(jax.eval_shape(model.init, jax.random.key(0)))
    noise = np.random.default_rng(1).normal(size=(2, 3, 2)).astype(np.float32)
    recent = history(*random_history())
    other = jax.tree.map(lambda a: a[:, order], recent)
    sample = tiny.jit(lambda recent, noise: model.next(params, recent, noise=noise)[1].position)
    np.testing.assert_allclose(sample(other, noise[:, order]), sample(recent, noise)[:, order], atol=1e-5)


def test_noise_has_the_typical_error_of_a_step():
    model = MotionModel(CODE, "none", WIDTH)
    params = tiny.random_like(jax.eval_shape(model.init, jax.random.key(0))) | {"noise": jnp.float32(0.25)}
    recent, noise = history(*random_history()), jnp.ones((2, 3, 2))
    step = tiny.jit(lambda noise: model.next(params, recent, noise=noise)[1].position[:, :, -1])
    np.testing.assert_allclose(step(noise) - step(0 * noise), np.full((2, 3, 2), 0.25), atol=1e-5)


def random_codes():
    """A history with codes, and a model of these with random parameters."""
    model = MotionModel(CODE, "slotformer", WIDTH)
    params = tiny.random_like(jax.eval_shape(model.init, jax.random.key(0)))
    recent = history(*random_history())
    codes = jnp.asarray(np.random.default_rng(2).normal(size=(*recent.area.shape, CODE)), jnp.float32)
    return model, params, recent._replace(code=codes[:, :, -1], codes=codes)


def test_before_training_a_transformer_keeps_codes_and_positions():
    model, _, recent = random_codes()
    code, after = model.next(model.init(jax.random.key(0)), recent)
    np.testing.assert_allclose(code, recent.code, atol=1e-6)
    np.testing.assert_allclose(after.position[:, :, -1], recent.position[:, :, -1], atol=1e-6)


def test_a_transformer_predicts_codes_in_any_order_of_slots_and_remembers_them():
    model, params, recent = random_codes()
    predict = tiny.jit(lambda recent: model.next(params, recent))
    code, after = predict(recent)
    np.testing.assert_array_equal(after.codes[:, :, -1], code)
    np.testing.assert_array_equal(after.codes[:, :, :-1], recent.codes[:, :, 1:])
    order = np.array([2, 0, 1])
    moved, _ = predict(jax.tree.map(lambda a: a[:, order], recent))
    np.testing.assert_allclose(moved, code[:, order], atol=1e-5)
    assert not np.allclose(code, recent.code, atol=1e-2)


def test_a_hidden_slot_does_not_attend_and_keeps_its_code():
    model, params, recent = random_codes()
    recent = recent._replace(area=recent.area.at[:, 2].set(0.0))
    changed = recent._replace(codes=recent.codes.at[:, 2, :-1].add(1.0))
    predict = tiny.jit(lambda recent: model.next(params, recent)[0])
    before, after = predict(recent), predict(changed)
    np.testing.assert_allclose(after, before, atol=1e-5)
    np.testing.assert_allclose(after[:, 2], recent.code[:, 2], atol=1e-5)


def test_a_sampled_future_draws_the_object_where_it_is():
    model, params, recent = random_codes()
    params |= {"noise": jnp.float32(0.1)}
    noise = jnp.asarray(np.random.default_rng(3).normal(size=(*recent.area.shape[:2], 2)), jnp.float32)
    predict = tiny.jit(lambda noise: model.next(params, recent, noise=noise))
    (code, after), (drawn, moved) = predict(0 * noise), predict(noise)
    start, end = after.position[:, :, -1], moved.position[:, :, -1]
    np.testing.assert_allclose(end - start, 0.1 * noise, atol=1e-5)
    np.testing.assert_allclose(drawn, model.place(params, code, start, end), atol=1e-4)
    assert not np.allclose(drawn, code, atol=1e-2)


def test_velocity_needs_no_transformer():
    model, params, recent = random_codes()
    code, after = model.next(params, recent, "velocity")
    now, before = recent.position[:, :, -1], recent.position[:, :, -2]
    np.testing.assert_allclose(after.position[:, :, -1], 2 * now - before, atol=1e-5)
    np.testing.assert_array_equal(after.codes[:, :, -1], code)
