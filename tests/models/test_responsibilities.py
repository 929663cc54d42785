"""Segmentation by responsibilities: the mixture's posterior over slots, given a pixel's colour."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from stii_jax.models.baselines.iodine import Iodine
from stii_jax.models.restarts import RestartedSTII
from stii_jax.models.stii import STII

IODINE = {"conditional_prior": False, "conditional_decoder": False, "posterior_start": "learned"}


def decompose(model, video, keys):
    return tiny.jit(model.decompose)(tiny.params_of(model), video, keys)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [(STII, {}), (STII, {"likelihood": "channelwise", "first_noise": "once"}), (Iodine, IODINE), (RestartedSTII, {})],
)
def test_they_are_bayes_rule_and_change_nothing_else(kind, changes, video, keys):
    settings = tiny.settings_of(**changes)
    plain, _ = decompose(kind(**settings), video, keys)
    resolved, _ = decompose(kind(**settings, segmentation="responsibilities"), video, keys)
    assert plain.responsibilities is None
    for name in ("means", "masks", "posterior", "reconstruction"):
        np.testing.assert_allclose(getattr(resolved, name), getattr(plain, name), rtol=1e-5, atol=1e-6)

    variance = settings["sigma"] if settings["likelihood"] == "channelwise" else settings["sigma"] ** 2
    distance = np.square(np.asarray(video)[:, :, None] - np.asarray(plain.means)).sum(-1)
    joint = np.asarray(plain.masks) * np.exp(-distance / (2 * variance))
    np.testing.assert_allclose(resolved.responsibilities, joint / joint.sum(2, keepdims=True), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(resolved.segmentation, joint.argmax(2))
    np.testing.assert_array_equal(plain.segmentation, np.argmax(plain.masks, 2))
    assert (resolved.segmentation != plain.segmentation).any(), "both agree everywhere: this would show nothing"


def test_a_pixel_goes_to_the_slot_of_its_colour():
    """A black and a white slot of equal weight: every pixel goes to the slot of its colour."""
    model = tiny.build(sigma=0.3)
    frame = np.zeros((1, tiny.H, tiny.W, 3), np.float32)
    frame[:, 2:5, 3:6] = 1
    means = np.stack([np.zeros_like(frame), np.ones_like(frame)], 1)
    found = model.elbo.responsibilities(jnp.asarray(frame), jnp.asarray(means), jnp.full((1, 2, tiny.H, tiny.W), 0.5))
    np.testing.assert_allclose(found[:, 1], frame[..., 0], atol=1e-6)


def test_no_pixel_of_a_predicted_frame_is_known(video, keys):
    model = tiny.build(segmentation="responsibilities")
    params = tiny.params_of(model)
    _, state = decompose(model, video, keys)
    predicted, _ = tiny.jit(lambda params, state: model.predict(params, state, 2))(params, state)
    np.testing.assert_array_equal(predicted.responsibilities, predicted.masks)
    np.testing.assert_array_equal(predicted.segmentation, np.argmax(predicted.masks, 2))


def test_frame_after_frame_they_are_those_of_the_clip(video, keys):
    model = tiny.build(segmentation="responsibilities")
    params = tiny.params_of(model)
    whole, _ = decompose(model, video, keys)
    state, step = model.initial_state(params, tiny.B), tiny.jit(model.stream)
    for t in range(tiny.T):
        found, state = step(params, state, video[:, t], keys)
        expected = jax.tree.map(lambda a, t=t: a[:, t : t + 1], whole)
        np.testing.assert_allclose(found.responsibilities, expected.responsibilities, rtol=1e-4, atol=1e-5)
