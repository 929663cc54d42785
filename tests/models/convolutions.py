"""The library's convolution and both gradients of a function, for comparison."""

import jax
import numpy as np
from jax import lax
from tiny import jit


def plain(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pull_back(function):
    """Compile (x, kernel, cotangent) -> (output, both gradients)."""

    def run(x, kernel, cotangent):
        y, pull = jax.vjp(function, x, kernel)
        return y, *pull(cotangent)

    return jit(run)


def assert_close(actual, desired, tolerance=1e-5):
    """Assert equality within `tolerance` times the largest entry, leaf by leaf."""

    def check(a, b):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max() + 1e-30)

    jax.tree.map(check, actual, desired)
