"""The pixel mixture against slow loops in float64, and at its extremes."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import jit

from stii_jax.models import likelihood

mixture = jit(likelihood.mixture, static_argnames=("sigma", "kind", "temperature"))
mask_posterior = jit(likelihood.mask_posterior, static_argnames="kind")
leave_one_out = jit(likelihood.leave_one_out, static_argnames="kind")
mask_entropy = jit(likelihood.mask_entropy)

B, H, W, C = 2, 3, 4, 3
SIGMA = 0.3


def case(num_slots, seed=0):
    """Frame, means and masks."""
    rng = np.random.default_rng(seed)
    masks = rng.dirichlet(np.ones(num_slots), (B, H, W))
    arrays = rng.random((B, H, W, C)), rng.random((B, num_slots, H, W, C)), np.moveaxis(masks, -1, 1)
    return tuple(jnp.asarray(array, jnp.float32) for array in arrays)


def normal_density(x, mean):
    return math.exp(-((x - mean) ** 2) / (2 * SIGMA**2)) / (SIGMA * math.sqrt(2 * math.pi))


def unnormalised(x, mean):
    return math.exp(-((x - mean) ** 2) / (2 * SIGMA))  # sigma read as a variance


def slow(frame, means, masks, kind):
    """Slot densities `B K H W` and log-likelihoods of pixels `B H W`, pixel by pixel."""
    frame, means, masks = (np.asarray(array, np.float64) for array in (frame, means, masks))
    density = normal_density if kind == "joint" else unnormalised
    slots, pixels = np.ones(masks.shape), np.zeros((B, H, W))
    for b, i, j in itertools.product(range(B), range(H), range(W)):
        channels = np.array([[density(frame[b, i, j, c], mean[i, j, c]) for c in range(C)] for mean in means[b]])
        slots[b, :, i, j] = channels.prod(1)
        weights = masks[b, :, i, j]
        if kind == "joint":
            pixels[b, i, j] = math.log(weights @ channels.prod(1))
        else:
            pixels[b, i, j] = sum(math.log(weights @ channels[:, c]) for c in range(C))
    return slots, pixels


@pytest.mark.parametrize("num_slots", [1, 2, 4])
@pytest.mark.parametrize("kind", ["joint", "channelwise"])
def test_mixture_against_loops(kind, num_slots):
    frame, means, masks = case(num_slots)
    slots, pixels = slow(frame, means, masks, kind)
    actual = mixture(frame, means, masks, sigma=SIGMA, kind=kind)
    np.testing.assert_allclose(actual.slots, np.log(slots), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(actual.pixels, pixels, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_slot_alone_has_the_same_likelihood_at_any_temperature(temperature):
    frame, means, masks = case(1)
    alone = mixture(frame, means, masks, sigma=SIGMA)
    tempered = mixture(frame, means, masks, sigma=SIGMA, temperature=temperature)
    np.testing.assert_allclose(tempered.pixels, alone.pixels, rtol=1e-6)
    np.testing.assert_allclose(tempered.slots * temperature, alone.slots, rtol=1e-6)


def test_grey_frames_channel_by_channel_are_those_together_at_temperature_three():
    """The two mixtures agree if all channels do, up to the normaliser C log(1 / (sigma sqrt(2 pi)))."""
    frame, means, masks = case(3)
    frame, means = (jnp.repeat(image[..., :1], C, -1) for image in (frame, means))
    channelwise = mixture(frame, means, masks, sigma=SIGMA, kind="channelwise")
    together = mixture(frame, means, masks, sigma=math.sqrt(SIGMA), temperature=float(C))
    normaliser = -C * math.log(math.sqrt(SIGMA * 2 * math.pi))
    np.testing.assert_allclose(together.pixels, channelwise.pixels + normaliser, rtol=1e-5, atol=1e-5)


def test_the_mixture_over_channels_together_is_the_default():
    frame, means, masks = case(3)
    np.testing.assert_array_equal(
        mixture(frame, means, masks, sigma=SIGMA).pixels, mixture(frame, means, masks, sigma=SIGMA, kind="joint").pixels
    )


def test_perfect_means_have_the_likelihood_of_the_mode():
    frame, _, masks = case(2)
    pixels = mixture(frame, jnp.asarray(np.stack([frame, frame], 1)), masks, sigma=SIGMA).pixels
    np.testing.assert_allclose(pixels, C * math.log(1 / (SIGMA * math.sqrt(2 * math.pi))), rtol=1e-5)


@pytest.mark.parametrize("num_slots", [1, 2, 4])
def test_posterior_against_bayes(num_slots):
    frame, means, masks = case(num_slots)
    slots = mixture(frame, means, masks, sigma=SIGMA).slots
    joint = np.asarray(masks) * np.exp(np.asarray(slots, np.float64))
    np.testing.assert_allclose(mask_posterior(slots, masks), joint / joint.sum(1, keepdims=True), rtol=1e-4)
    likelihoods = np.exp(np.asarray(slots, np.float64))
    expected = likelihoods / likelihoods.sum(1, keepdims=True)
    np.testing.assert_allclose(mask_posterior(slots, masks, kind="likelihood"), expected, rtol=1e-4)


@pytest.mark.parametrize("num_slots", [2, 4])
def test_leave_one_out_against_loops(num_slots):
    frame, means, masks = case(num_slots)
    slots = mixture(frame, means, masks, sigma=SIGMA).slots
    weighted = np.asarray(masks) * np.exp(np.asarray(slots, np.float64))
    expected = np.stack([np.log(np.delete(weighted, k, 1).sum(1)) for k in range(num_slots)], 1)
    np.testing.assert_allclose(leave_one_out(slots, masks), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_slots", [2, 4])
def test_leave_one_out_of_renormalised_masks_against_loops(num_slots):
    frame, means, masks = case(num_slots)
    slots = mixture(frame, means, masks, sigma=SIGMA).slots
    densities, shares = np.exp(np.asarray(slots, np.float64)), np.asarray(masks, np.float64)
    expected = np.empty(masks.shape)
    for k in range(num_slots):
        rest = np.delete(shares, k, 1)
        rest = rest / rest.sum(1, keepdims=True)
        expected[:, k] = np.log((rest * np.delete(densities, k, 1)).sum(1))
    found = leave_one_out(slots, masks, kind="renormalized")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    if num_slots == 2:  # only the other slot is left
        np.testing.assert_allclose(found, slots[:, ::-1], rtol=1e-6, atol=1e-5)


def test_two_slots_of_the_same_colour_can_do_without_each_other():
    """If two slots paint a pixel, it is explained equally well without its owner, once masks are renormalised."""
    frame, means, _ = case(2)
    masks = jnp.stack([jnp.full((B, H, W), share) for share in (0.9, 0.1)], 1)
    slots = mixture(frame, jnp.stack([means[:, 0], means[:, 0]], 1), masks, sigma=SIGMA).slots
    np.testing.assert_allclose(leave_one_out(slots, masks, kind="renormalized"), slots, atol=1e-5)
    np.testing.assert_allclose(leave_one_out(slots, masks)[:, 0], slots[:, 0] + math.log(0.1), atol=1e-5)


def test_a_single_slot_leaves_nothing_out():
    frame, means, masks = case(1)
    slots = mixture(frame, means, masks, sigma=SIGMA).slots
    for kind in ("as_is", "renormalized"):
        np.testing.assert_array_equal(leave_one_out(slots, masks, kind=kind), np.zeros((B, 1, H, W)))
    np.testing.assert_array_equal(mask_posterior(slots, masks), np.ones((B, 1, H, W)))


def test_entropy():
    _, _, masks = case(4)
    exact = np.asarray(masks, np.float64)
    np.testing.assert_allclose(mask_entropy(masks), -(exact * np.log(exact)).sum((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(mask_entropy(np.full((B, 4, H, W), 0.25, np.float32)), H * W * math.log(4), rtol=1e-6)
    hard = np.zeros((B, 4, H, W), np.float32)
    hard[:, 2] = 1
    np.testing.assert_array_equal(mask_entropy(hard), [0.0, 0.0])


@pytest.mark.parametrize("kind", ["joint", "channelwise"])
@pytest.mark.parametrize("num_slots", [1, 3])
def test_extremes_are_finite_with_finite_gradients(kind, num_slots):
    """Masks of 0 and 1, and means that are right or far away."""

    def total(frame, means, masks):
        pixels = likelihood.mixture(frame, means, masks, SIGMA, kind)
        posterior = likelihood.mask_posterior(pixels.slots, masks)
        others = sum(likelihood.leave_one_out(pixels.slots, masks, kind).sum() for kind in ("as_is", "renormalized"))
        return pixels.pixels.sum() + (posterior**2).sum() + others + likelihood.mask_entropy(masks).sum()

    frame = np.zeros((1, 2, 2, C), np.float32)
    masks = np.zeros((1, num_slots, 2, 2), np.float32)
    masks[:, 0] = 1
    value_and_grad = jit(jax.value_and_grad(total, (1, 2)))
    for offset in (0.0, 1.0, 1e4):
        means = np.full((1, num_slots, 2, 2, C), offset, np.float32)
        value, gradients = value_and_grad(frame, means, masks)
        assert np.isfinite(value)
        assert all(np.isfinite(gradient).all() for gradient in gradients)
