"""Slots removed, added and moved: the decoded frame depends on the given slots alone."""

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from stii_jax.analysis.slot_editing import SlotState, concatenate, get_slots, render, select, shift_latent
from stii_jax.analysis.traversal import ObservedFrame

pytestmark = pytest.mark.usefixtures("quick_compiles")


@pytest.fixture(scope="module")
def model():
    return tiny.build()


@pytest.fixture(scope="module")
def params(model):
    return tiny.params_of(model)


@pytest.fixture(scope="module")
def observed():
    """Slots observed in a video, all of them different."""
    rng = np.random.default_rng(1)
    shapes = {"frame": (tiny.B, tiny.H, tiny.W, 3), "masks": (tiny.B, tiny.K, tiny.H, tiny.W)}
    shapes |= {"posterior": (tiny.B, tiny.K, 2 * tiny.Z), "prior": (tiny.B, tiny.K, 2 * tiny.Z)}
    shapes["h"] = (tiny.B, tiny.K, tiny.D)
    return ObservedFrame(**{name: jnp.float32(rng.normal(size=shape)) for name, shape in shapes.items()}, time=1)


@pytest.fixture(scope="module")
def slots(observed):
    return get_slots(observed, 1)


def decoded(model, params, slots):
    found = tiny.jit(model.elbo.decode)(params, slots.latents[None], slots.h[None])
    return np.asarray(found.means)[0], np.asarray(found.mask_logits)[0]


def mixture(means, logits):
    weights = np.exp(logits - logits.max(axis=0))
    return (means * (weights / weights.sum(axis=0))[..., None]).sum(axis=0) * 255


def test_slots_are_the_posterior_means_and_the_state_of_one_video(observed, slots):
    np.testing.assert_array_equal(slots.latents, observed.posterior[1, :, : tiny.Z])
    np.testing.assert_array_equal(slots.h, observed.h[1])


def test_a_slot_that_is_not_used_paints_nothing(model, params, observed, slots):
    present = jnp.ones((tiny.B, tiny.K), bool).at[1, 1].set(False)
    unused = get_slots(observed._replace(present=present), 1)
    np.testing.assert_allclose(render(model, params, unused), render(model, params, select(slots, [0, 2])), atol=1)


def test_the_others_share_the_pixels_of_one_that_is_gone(model, params, slots):
    means, logits = decoded(model, params, slots)
    without = render(model, params, select(slots, [0, 2]))
    np.testing.assert_allclose(without, mixture(means[[0, 2]], logits[[0, 2]]), atol=1)
    assert np.abs(without.astype(int) - render(model, params, slots)).max() > 3


def test_order_makes_no_difference(model, params, slots):
    in_order, reversed_ = render(model, params, slots), render(model, params, select(slots, [2, 1, 0]))
    np.testing.assert_allclose(in_order.astype(int), reversed_, atol=1)


def test_slots_of_two_videos_make_a_frame(model, params, observed, slots):
    both = concatenate(select(slots, [0, 1]), select(get_slots(observed, 0), [2]))
    own, other = decoded(model, params, slots), decoded(model, params, get_slots(observed, 0))
    means, logits = (np.concatenate([ours[:2], theirs[2:]]) for ours, theirs in zip(own, other))
    np.testing.assert_allclose(render(model, params, both), mixture(means, logits), atol=1)


def test_one_number_is_moved(slots):
    moved = shift_latent(slots, 2, 1, 0.5)
    difference = np.asarray(moved.latents - slots.latents)
    assert difference[2, 1] == pytest.approx(0.5, abs=1e-6) and np.count_nonzero(difference) == 1
    np.testing.assert_array_equal(moved.h, slots.h)


@pytest.mark.parametrize("numbers", [[], [3], [-1]])
def test_only_slots_that_there_are_can_be_picked(numbers):
    with pytest.raises(ValueError, match="numbers from 0 to 2"):
        select(SlotState(jnp.zeros((3, 2)), jnp.zeros((3, 4)), jnp.ones(3, bool)), numbers)


@pytest.mark.parametrize(("number", "dimension", "says"), [(3, 0, "slot is 3"), (0, 2, "dimension is 2")])
def test_only_existing_latents_can_be_moved(number, dimension, says):
    with pytest.raises(ValueError, match=says):
        shift_latent(SlotState(jnp.zeros((3, 2)), jnp.zeros((3, 4)), jnp.ones(3, bool)), number, dimension, 1.0)
