"""Tests of predictions with a motion model, and of inference, which does not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from stii_jax.models import motion


@pytest.fixture(scope="module")
def model():
    return tiny.build(predictor="motion", motion_width=8, first_noise="once")


@pytest.fixture(scope="module")
def params(model):
    return tiny.random_like(jax.eval_shape(model.init, jax.random.key(0)))


@pytest.fixture(scope="module")
def decomposed(model, params):
    video = np.random.default_rng(0).uniform(size=(tiny.B, tiny.T, tiny.H, tiny.W, tiny.C)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), tiny.B)
    return video, keys, tiny.jit(model.decompose)(params, video, keys)


def test_inference_is_that_of_the_paper(params, decomposed):
    video, keys, (found, state) = decomposed
    plain, without = tiny.jit(tiny.build(first_noise="once").decompose)(params, video, keys)
    for name, ours, theirs in zip(plain._fields, found, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=name) if theirs is not None else None
    np.testing.assert_allclose(state.temporal.h, without.temporal.h, atol=1e-5)


def test_the_history_holds_the_last_frames(decomposed):
    _, _, (found, state) = decomposed
    position, area = motion.measure(found.masks)
    assert (state.recent.area[:, :, : -tiny.T] == 0).all()
    np.testing.assert_allclose(state.recent.area[:, :, -tiny.T :], area.swapaxes(1, 2), atol=1e-6)
    seen = np.asarray(area.swapaxes(1, 2) > 0)
    np.testing.assert_allclose(state.recent.position[:, :, -tiny.T :][seen], position.swapaxes(1, 2)[seen], atol=1e-5)


def test_an_object_that_rests_looks_as_it_does(model, params, decomposed):
    """The last frame's code, painted at its own position, equals the last frame's decode."""
    _, _, (found, state) = decomposed
    visible = np.asarray(state.recent.area[:, :, -1] > 0)
    painted = tiny.jit(model.elbo.paint)(params, state.recent.code)
    np.testing.assert_allclose(painted.means[visible], found.means[:, -1][visible], atol=1e-5)


def test_predictions_go_on_where_they_ended(model, params, decomposed):
    _, _, (_, state) = decomposed
    whole, _ = tiny.jit(lambda p, s: model.predict(p, s, 5))(params, state)
    first, after = tiny.jit(lambda p, s: model.predict(p, s, 3))(params, state)
    second, end = tiny.jit(lambda p, s: model.predict(p, s, 2))(params, after)
    assert end.frame == tiny.T + 5
    np.testing.assert_allclose(np.concatenate([first.means, second.means], 1), whole.means, atol=1e-5)


def test_futures_are_drawn_with_keys(model, params, decomposed):
    _, keys, (_, state) = decomposed
    noisy = {**params, "motion": {**params["motion"], "noise": jnp.float32(0.3)}}
    predict = tiny.jit(lambda keys: model.predict(noisy, state, 2, keys)[0].means)
    others = jax.vmap(jax.random.fold_in, (0, None))(keys, 1)
    np.testing.assert_array_equal(predict(keys), predict(keys))
    assert not np.allclose(predict(keys), predict(others), atol=1e-3)


def test_without_noise_a_future_is_the_prediction(model, params, decomposed):
    _, keys, (_, state) = decomposed
    silent = {**params, "motion": {**params["motion"], "noise": jnp.float32(0)}}
    predict = tiny.jit(lambda keys: model.predict(silent, state, 3, keys)[0])
    for future, expected in zip(predict(keys)[:3], predict(None)[:3], strict=True):
        np.testing.assert_allclose(future, expected, atol=1e-5)


def test_the_noise_of_predicted_frames_is_independent():
    """Also with a `first_noise` that gives the first decodes of all frames the same noise."""
    model = tiny.build(predictor="motion", motion_width=8, first_noise="clip")
    keys = jax.random.split(jax.random.key(0), 500)
    one, other = (np.asarray(model._step_noise(keys, jnp.int32(frame))) for frame in (3, 4))
    assert one.shape == (500, tiny.K, tiny.Z)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.1 and one.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("architecture", ("paper", "pyramid"))
def test_decoding_is_painting_a_code(architecture):
    model = tiny.build(architecture=architecture)
    params = tiny.random_like(jax.eval_shape(model.init, jax.random.key(0)))
    rng = np.random.default_rng(0)
    z, h = (rng.normal(size=(tiny.B, tiny.K, size)).astype(np.float32) for size in (tiny.Z, tiny.D))
    decoded = tiny.jit(model.elbo.decode)(params, z, h)
    painted = tiny.jit(lambda *inputs: model.elbo.paint(params, model.elbo.code(params, *inputs)))(z, h)
    for ours, expected in zip(painted, decoded, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)
