"""The refiner's inputs, and the gradients that are stopped there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from stii_jax.models.recurrent import LSTMState
from stii_jax.models.refiner import CellGradients, Decoded, Refiner, refinement_images

B, K, H, W, C, Z, D = 2, 3, 8, 4, 3, 2, 5
OPTIONS = {
    "sigma": 0.3,
    "likelihood_kind": "joint",
    "temperature": 1.0,
    "posterior_input": "mixture",
    "with_leave_one_out": True,
    "leave_one_out_masks": "as_is",
}
# Channels of the slots' images, in their order.
MEANS, MASKS, LOGITS, BY_MEANS, BY_MASKS, POSTERIOR, OTHERS = (
    *(slice(0, 3), slice(3, 4), slice(4, 5)),
    *(slice(5, 8), slice(8, 9), slice(9, 10), slice(10, 11)),
)


def normal(seed, *shape):
    return jax.device_put(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.fixture(scope="module")
def case():
    """Frame, decode and gradients."""
    frame, means = (jax.device_put(np.float32(np.random.default_rng(s).random(shape))) for s, shape in
                    enumerate([(B, H, W, C), (B, K, H, W, C)]))  # fmt: skip
    gradients = CellGradients(normal(3, B, K, 2 * Z), normal(4, B, K, H, W, C), normal(5, B, K, H, W))
    return frame, Decoded(means, normal(2, B, K, H, W)), gradients


@pytest.fixture(scope="module")
def images_and_tangents(case):
    """The images, and their tangents by the decode and by the gradients."""

    def run(frame, decoded, gradients):
        def images(decoded, gradients):
            return refinement_images(frame, decoded, gradients, **OPTIONS)

        ones, nothing = (jax.tree.map(like, (decoded, gradients)) for like in (jnp.ones_like, jnp.zeros_like))
        moves = normal_like(decoded)
        out, by_decode = jax.jvp(images, (decoded, gradients), (moves, nothing[1]))
        _, by_gradients = jax.jvp(images, (decoded, gradients), (nothing[0], ones[1]))
        return out, by_decode, by_gradients

    def normal_like(decoded):
        return jax.tree.map(lambda a: jnp.sin(jnp.arange(a.size, dtype=jnp.float32)).reshape(a.shape), decoded)

    return tiny.jit(run)(*case)


def normalised(x, axes):
    x = np.asarray(x, np.float64)
    return (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True)


def test_images_against_numpy(case, images_and_tangents):
    frame, decoded, gradients = jax.tree.map(np.float64, case)
    masks = np.exp(decoded.mask_logits) / np.exp(decoded.mask_logits).sum(1, keepdims=True)
    density = np.exp(-((frame[:, None] - decoded.means) ** 2) / (2 * 0.3**2)) / (0.3 * np.sqrt(2 * np.pi))
    weighted = masks * density.prod(-1)
    others = np.log(weighted.sum(1, keepdims=True) - weighted)
    slots, shared = images_and_tangents[0]
    np.testing.assert_array_equal(slots[..., MEANS], case[1].means)
    np.testing.assert_allclose(slots[..., 3], masks, rtol=1e-4)
    np.testing.assert_array_equal(slots[..., 4], case[1].mask_logits)
    np.testing.assert_allclose(slots[..., BY_MEANS], normalised(gradients.means, (2, 3, 4)), atol=1e-4)
    np.testing.assert_allclose(slots[..., 8], normalised(gradients.masks, (2, 3)), atol=1e-4)
    np.testing.assert_allclose(slots[..., 9], weighted / weighted.sum(1, keepdims=True), rtol=1e-3)
    np.testing.assert_allclose(slots[..., 10], normalised(others, (2, 3)), atol=1e-3)
    np.testing.assert_array_equal(shared[..., :3], case[0])
    np.testing.assert_allclose(shared[..., 3], normalised(np.log(weighted.sum(1)), (1, 2)), atol=1e-3)
    np.testing.assert_allclose(shared[:, :, 0, 4], np.broadcast_to(np.linspace(-1, 1, H), (B, H)), atol=1e-6)
    np.testing.assert_allclose(shared[:, 0, :, 5], np.broadcast_to(np.linspace(-1, 1, W), (B, W)), atol=1e-6)


@pytest.mark.parametrize("cut", [BY_MEANS, BY_MASKS, OTHERS])
def test_normalised_images_carry_no_gradient(images_and_tangents, cut):
    _, by_decode, by_gradients = images_and_tangents
    assert not np.any(by_decode.slots[..., cut])
    assert not np.any(by_gradients.slots[..., cut])


def test_the_likelihood_image_carries_no_gradient(images_and_tangents):
    assert not np.any(images_and_tangents[1].shared)


@pytest.mark.parametrize("kept", [MEANS, MASKS, LOGITS, POSTERIOR])
def test_tangents_of_the_decode_are_kept(images_and_tangents, kept):
    assert np.any(images_and_tangents[1].slots[..., kept])


def test_options_change_the_images(case):
    frame, decoded, _ = case
    without = jax.eval_shape(lambda *args: refinement_images(*args, **OPTIONS | {"with_leave_one_out": False}), *case)
    assert without.slots.shape[-1] == 10
    options = OPTIONS | {"posterior_input": "likelihood"}
    likelihoods = tiny.jit(lambda *args: refinement_images(*args, **options).slots[..., 9])(*case)
    density = np.exp(-((np.float64(frame)[:, None] - decoded.means) ** 2) / (2 * 0.3**2)).prod(-1)
    np.testing.assert_allclose(likelihoods, density / density.sum(1, keepdims=True), rtol=1e-3)


@pytest.fixture(scope="module")
def derivatives(case):
    """The gradient of the refiner's outputs by each of its inputs."""
    frame, decoded, gradients = case
    refiner = Refiner(4, 6, D)
    temporal, refinement = (LSTMState(normal(n, B, K, D), normal(n + 1, B, K, D)) for n in (6, 8))
    posterior = normal(10, B, K, 2 * Z)

    def total(decoded, posterior, gradients, temporal, refinement):
        images = refinement_images(frame, decoded, gradients, **OPTIONS)
        inputs = (images, posterior, gradients.posterior, temporal, refinement)
        params = tiny.random_like(jax.eval_shape(refiner.init, jax.random.key(0), *inputs))
        out, state = refiner.apply(params, *inputs)
        return (out**2).sum() + (state.h**2).sum() + (state.c**2).sum()

    names = ("decoded", "posterior", "gradients", "temporal", "refinement")
    grads = tiny.jit(jax.grad(total, tuple(range(5))))(decoded, posterior, gradients, temporal, refinement)
    return dict(zip(names, grads))


def test_gradients_shown_to_the_refiner_carry_no_gradient(derivatives):
    assert not any(np.any(leaf) for leaf in derivatives["gradients"])


@pytest.mark.parametrize("name", ["decoded", "posterior", "temporal", "refinement"])
def test_all_other_inputs_carry_a_gradient(derivatives, name):
    assert all(np.any(leaf) for leaf in jax.tree.leaves(derivatives[name]))
