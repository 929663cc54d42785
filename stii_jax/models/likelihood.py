"""The pixel mixture: likelihood, responsibilities, and the refiner's inputs derived from them. Paper section 3.1."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_SMALLEST_MASK = 1e-8  # keeps log masks finite and the gradient of a dead slot's mask bounded


class Mixture(NamedTuple):
    """Log-likelihoods of a frame's pixels, in nats."""

    slots: Float[Array, "B K H W"]
    """log p(x | slot k), summed over channels and divided by the temperature."""
    pixels: Float[Array, "B H W"]
    """tau log sum_k masks_k p(x | slot k)^(1/tau); the exact likelihood has temperature tau = 1."""


def slot_log_likelihood(
    frame: Float[Array, "B H W C"], means: Float[Array, "B K H W C"], sigma: float, kind: str
) -> Float[Array, "B K H W C"]:
    """Return the Gaussian log-likelihood per channel: "joint" is normalised, with standard deviation `sigma`.

    "channelwise" (the `provide` preset) omits the normaliser and uses `sigma` as the variance.
    """
    squared = jnp.square(frame[:, None] - means)
    if kind == "channelwise":
        return -squared / (2 * sigma)
    return -squared / (2 * sigma**2) - math.log(sigma) - 0.5 * math.log(2 * math.pi)


def mixture(
    frame: Float[Array, "B H W C"],
    means: Float[Array, "B K H W C"],
    masks: Float[Array, "B K H W"],
    sigma: float,
    kind: str = "joint",
    temperature: float = 1.0,
) -> Mixture:
    """Frame likelihood (equation 1): one mixture over all channels ("joint") or one per channel ("channelwise").

    With temperature tau, a pixel's log-likelihood is `tau log sum_k masks_k p(x | slot k)^(1/tau)`. Where one slot
    paints the pixel alone, it does not depend on tau. Otherwise a higher tau softens the assignment to slots.
    """
    channels = slot_log_likelihood(frame, means, sigma, kind) / temperature
    slots = channels.sum(-1)
    log_masks = jnp.log(jnp.maximum(masks, _SMALLEST_MASK))
    if kind == "channelwise":
        pixels = jax.nn.logsumexp(log_masks[..., None] + channels, axis=1).sum(-1)
    else:
        pixels = jax.nn.logsumexp(log_masks + slots, axis=1)
    return Mixture(slots, temperature * pixels)


def mask_posterior(
    slots: Float[Array, "B K H W"], masks: Float[Array, "B K H W"], kind: str = "mixture"
) -> Float[Array, "B K H W"]:
    """Return responsibilities p(m_k | x) (equation 5), with the masks as prior ("mixture") or not ("likelihood")."""
    if kind == "likelihood":
        return jax.nn.softmax(slots, axis=1)
    return jax.nn.softmax(slots + jnp.log(jnp.maximum(masks, _SMALLEST_MASK)), axis=1)


def leave_one_out(
    slots: Float[Array, "B K H W"], masks: Float[Array, "B K H W"], kind: str = "as_is"
) -> Float[Array, "B K H W"]:
    """Return how well the other slots explain a pixel: log sum_{j != k} masks_j p(x | slot j). Zero with one slot.

    "renormalized" divides the others' masks by their sum, as if slot k did not exist. With "as_is", a pixel claimed by
    the slot is poorly explained even if another slot paints it just as well.
    """
    num_slots = slots.shape[1]
    if num_slots == 1:
        return jnp.zeros_like(slots)
    log_masks = jnp.log(jnp.maximum(masks, _SMALLEST_MASK))
    others = ~jnp.eye(num_slots, dtype=bool)[:, :, None, None]
    explained = jax.nn.logsumexp((slots + log_masks)[:, None], axis=2, where=others)
    if kind == "as_is":
        return explained
    return explained - jax.nn.logsumexp(log_masks[:, None], axis=2, where=others)


def mask_entropy(masks: Float[Array, "B K H W"]) -> Float[Array, " B"]:
    """Return the masks' entropy, a term of equation 4: -sum over pixels and slots of masks log masks, in nats."""
    return -(masks * jnp.log(jnp.maximum(masks, _SMALLEST_MASK))).sum((1, 2, 3))
