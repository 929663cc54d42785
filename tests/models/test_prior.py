"""The KL against numerical integration, and both interpretations of the prior's second head."""

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny import jit

from stii_jax.models import prior

gaussian_kl = jit(prior.gaussian_kl)

Z = 3


def parameters(seed):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(size=Z), rng.uniform(-1, 1, Z)]).astype(np.float32)


def test_kl_of_equal_gaussians_is_exactly_zero():
    q = parameters(0)
    assert gaussian_kl(q, q) == 0.0


def test_kl_by_hand():
    standard, shifted = np.zeros(2, np.float32), np.array([2, 0], np.float32)
    assert gaussian_kl(shifted, standard) == 2.0  # half the squared distance
    doubled = np.array([0, np.log(2)], np.float32)
    np.testing.assert_allclose(gaussian_kl(standard, doubled), np.log(2) + 1 / 8 - 1 / 2, rtol=1e-6)
    np.testing.assert_allclose(gaussian_kl(doubled, standard), -np.log(2) + 4 / 2 - 1 / 2, rtol=1e-6)


def test_kl_against_the_integral():
    from scipy.integrate import quad

    def log_density(x, mean, scale):
        return -(((x - mean) / scale) ** 2) / 2 - np.log(scale * np.sqrt(2 * np.pi))

    def integrand(x, ours, theirs):
        return np.exp(log_density(x, *ours)) * (log_density(x, *ours) - log_density(x, *theirs))

    q, p = parameters(1), parameters(2)
    integral = 0.0
    for z in range(Z):
        ours, theirs = ((float(a[z]), np.exp(float(a[Z + z]))) for a in (q, p))
        low, high = ours[0] - 12 * ours[1], ours[0] + 12 * ours[1]
        integral += quad(integrand, low, high, (ours, theirs))[0]
    np.testing.assert_allclose(gaussian_kl(q, p), integral, rtol=1e-5)


def test_kl_has_one_value_a_slot():
    q = np.array([[parameters(3), parameters(4)], [parameters(5), parameters(5)]])
    kl = gaussian_kl(q, np.broadcast_to(parameters(5), q.shape))
    assert kl.shape == (2, 2)
    np.testing.assert_allclose(kl[0, 1], gaussian_kl(parameters(4), parameters(5)), rtol=1e-6)
    np.testing.assert_array_equal(kl[1], [0.0, 0.0])


numbers = arrays(np.float32, 2 * Z, elements=st.floats(-5, 5, width=32))


@given(numbers, numbers)
def test_kl_is_never_negative(q, p):
    assert gaussian_kl(q, p) >= -1e-5


def apply(h, params, scale="log_scale"):
    return jit(prior.ConditionalPrior(Z, 6, scale).apply)({"params": params}, h)


def prior_params():
    rng = np.random.default_rng(0)
    shapes = {"Dense_0": (5, 6), "Dense_1": (6, 2 * Z)}
    params = {name: {"kernel": rng.normal(size=s), "bias": rng.normal(size=s[1])} for name, s in shapes.items()}
    return jax.tree.map(np.float32, params)


def test_prior_against_matrix_products():
    h, params = np.random.default_rng(1).normal(size=(2, 4, 5)).astype(np.float32), prior_params()
    hidden = h @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    hidden = np.where(hidden > 0, hidden, np.expm1(hidden))
    expected = hidden @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
    np.testing.assert_allclose(apply(h, params), expected, rtol=1e-4, atol=1e-5)

    softplus = apply(h, params, "softplus_log_variance")
    np.testing.assert_allclose(softplus[..., :Z], expected[..., :Z], rtol=1e-4, atol=1e-5)
    log_variance = np.log1p(np.exp(expected[..., Z:]))
    np.testing.assert_allclose(2 * softplus[..., Z:], log_variance, rtol=1e-4, atol=1e-5)
    assert (softplus[..., Z:] > 0).all()  # wider than a unit Gaussian


def test_prior_of_the_first_frame_is_one_learned_constant():
    out = np.asarray(apply(np.zeros((2, 3, 5), np.float32), prior_params()))
    np.testing.assert_array_equal(out, np.broadcast_to(out[0, 0], out.shape))
    assert out.any()
