"""The ELBO as a weighted sum of named terms, whose keys and signs are in one table."""

import functools
import operator
from collections.abc import Mapping

from jaxtyping import Array, Float

SIGNS = {"log_likelihood": 1.0, "kl": -1.0, "mask_entropy": -1.0}
"""Every term of the ELBO and its sign; the keys of `config.loss` weights are the same."""


def elbo(terms: Mapping[str, Float[Array, "*B"]], weights: Mapping[str, float]) -> Float[Array, "*B"]:
    """Return `beta log_likelihood - psi kl - gamma mask_entropy` per video (equation 4); the terms are in nats.

    Raises:
        ValueError: the keys of the terms differ from those of the weights or of `SIGNS`.
    """
    if not set(terms) == set(weights) == set(SIGNS):
        raise ValueError(f"loss terms {sorted(terms)}, weights {sorted(weights)}, expected {sorted(SIGNS)}")
    weighted = [SIGNS[key] * weights[key] * terms[key] for key in sorted(SIGNS)]
    return functools.reduce(operator.add, weighted)
