"""Convolutions on CPU against the library's own, with both gradients: narrow, wide, and inside a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convolutions import assert_close, normal, plain, pull_back
from jax import lax
from tiny import jit

from stii_jax.models import convolution
from stii_jax.models.convolution import conv3x3


@pytest.mark.parametrize(
    ("n", "height", "width", "inputs", "outputs"),
    [
        # Several pixels per convolution: as many as fit, as divide the width, or one.
        *[(2, 8, 8, 3, 4), (3, 12, 4, 4, 2), (1, 5, 7, 2, 3), (1, 7, 12, 1, 1), (2, 1, 6, 2, 2), (1, 2, 300, 1, 2)],
        *[(2, 4, 6, 16, 16), (1, 4, 6, 33, 2), (1, 4, 6, 2, 33)],
        # Winograd's algorithm, and a height that its tiles do not divide.
        *[(2, 8, 5, 32, 33), (1, 4, 1, 40, 32), (3, 12, 8, 64, 64), (2, 6, 5, 32, 32)],
    ],
)
def test_output_and_both_gradients_are_the_librarys(n, height, width, inputs, outputs):
    x, kernel = normal(0, n, height, width, inputs), normal(1, 3, 3, inputs, outputs)
    cotangent = normal(2, n, height, width, outputs)
    assert_close(pull_back(conv3x3)(x, kernel, cotangent), pull_back(plain)(x, kernel, cotangent))


@pytest.mark.parametrize("channels", [3, 32])
def test_inside_a_scan(channels):
    shape = (2, 8, 5, channels)
    x, kernel, cotangent = normal(0, *shape), normal(1, 3, 3, channels, channels) / channels, normal(2, *shape)

    def scanned(x, kernel):
        return lax.scan(lambda x, _: (jnp.tanh(conv3x3(x, kernel)), None), x, length=3)[0]

    def looped(x, kernel):
        for _ in range(3):
            x = jnp.tanh(plain(x, kernel))
        return x

    assert_close(pull_back(scanned)(x, kernel, cotangent), pull_back(looped)(x, kernel, cotangent))


def test_winograd_rounds_to_a_few_units_in_the_last_place():
    x, kernel = normal(0, 1, 16, 16, 64), normal(1, 3, 3, 64, 64)
    padded = np.pad(x[0].astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    exact = sum(padded[i : i + 16, j : j + 16] @ kernel[i, j].astype(np.float64) for i in range(3) for j in range(3))
    error = np.asarray(jit(conv3x3)(x, kernel))[0] - exact
    assert np.sqrt(np.square(error).mean() / np.square(exact).mean()) < 3e-6  # the library's own: 4e-7


def test_winograds_matrices_give_four_outputs_of_every_filter_of_three():
    """Exact in the rationals: the sum over products is one where output + tap = input, else zero."""
    by_input = np.einsum(
        "bk,kj,ki->bji", convolution._OUTPUT, convolution._KERNEL.astype(np.float64), convolution._INPUT
    )
    expected = [[[float(output + tap == i) for i in range(6)] for tap in range(3)] for output in range(4)]
    np.testing.assert_allclose(by_input, expected, atol=1e-6)


def test_bfloat16_rounds_as_bfloat16_does():
    x, kernel = normal(0, 1, 8, 8, 32), normal(1, 3, 3, 32, 32)
    low = jit(conv3x3)(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    exact = np.asarray(jit(plain)(x, kernel))
    error = np.asarray(low, np.float32) - exact
    assert np.sqrt(np.square(error).mean() / np.square(exact).mean()) < 6e-3


def test_vmap_convolves_a_batch_of_batches_as_one():
    x, kernel = normal(0, 2, 1, 8, 4, 32), normal(1, 3, 3, 32, 32)
    mapped = np.asarray(jit(jax.vmap(conv3x3, (0, None)))(x, kernel))
    assert_close(mapped.reshape(2, 8, 4, 32), jit(plain)(x.reshape(2, 8, 4, 32), kernel))
