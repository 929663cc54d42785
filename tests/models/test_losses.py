"""The weighted sum of the ELBO's terms, and the keys that must agree."""

import jax.numpy as jnp
import numpy as np
import pytest

from stii_jax.models.losses import SIGNS, elbo

TERMS = {"log_likelihood": jnp.array([-5.0, 1.0]), "kl": jnp.array([2.0, 0.5]), "mask_entropy": jnp.array([3.0, 0.0])}
WEIGHTS = {"log_likelihood": 100.0, "kl": 10.0, "mask_entropy": 0.5}


def test_elbo_by_hand():
    np.testing.assert_array_equal(elbo(TERMS, WEIGHTS), [-500.0 - 20.0 - 1.5, 100.0 - 5.0])


def test_order_of_keys_is_no_matter():
    backwards = dict(reversed(TERMS.items()))
    np.testing.assert_array_equal(elbo(backwards, WEIGHTS), elbo(TERMS, WEIGHTS))


def test_likelihood_counts_for_and_divergence_and_entropy_against():
    assert SIGNS == {"log_likelihood": 1.0, "kl": -1.0, "mask_entropy": -1.0}


def test_a_weight_of_zero_takes_a_term_out():
    np.testing.assert_array_equal(elbo(TERMS, {"log_likelihood": 0.0, "kl": 1.0, "mask_entropy": 0.0}), [-2.0, -0.5])


@pytest.mark.parametrize(
    ("terms", "weights"),
    [
        ({**TERMS, "sparsity": TERMS["kl"]}, WEIGHTS),
        (TERMS, {**WEIGHTS, "sparsity": 1.0}),
        ({"kl": TERMS["kl"]}, {"kl": 1.0}),
        ({}, {}),
    ],
    ids=["unknown term", "unknown weight", "missing terms", "nothing"],
)
def test_keys_that_disagree_stop_it(terms, weights):
    with pytest.raises(ValueError, match=r"expected .*'kl', 'log_likelihood', 'mask_entropy'"):
        elbo(terms, weights)
