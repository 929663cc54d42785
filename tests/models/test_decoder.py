"""The decoders' shape, range and dependence on position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from stii_jax.models.decoder import DECODERS


def decode(architecture, dtype):
    decoder = DECODERS[architecture](4, 8, 12, 3, jnp.dtype(dtype))
    inputs = jax.device_put(np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32))
    params = tiny.random_like(jax.eval_shape(decoder.init, jax.random.key(0), inputs))
    return tiny.jit(decoder.apply)(params, inputs)


@pytest.fixture(scope="module", params=DECODERS)
def architecture(request):
    return request.param


@pytest.fixture(scope="module")
def decoded(architecture):
    return decode(architecture, "float32")


def test_means_are_colours_and_logits_are_one_a_pixel(decoded):
    means, logits = decoded
    assert means.shape == (5, 8, 12, 3) and logits.shape == (5, 8, 12)
    assert (means > 0).all() and (means < 1).all()


def test_pixels_know_where_they_are(decoded):
    assert np.asarray(decoded[1]).std(axis=(1, 2)).min() > 0


def test_bfloat16_is_for_convolutions_and_the_result_is_float32(architecture, decoded):
    (means, logits), (low_means, low_logits) = decoded, decode(architecture, "bfloat16")
    assert low_means.dtype == low_logits.dtype == jnp.float32
    np.testing.assert_allclose(low_means, means, atol=0.02)
    np.testing.assert_allclose(low_logits, logits, atol=0.02 * np.abs(logits).max())
    assert np.any(low_means != means)
