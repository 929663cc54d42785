"""The ELBO of one cell and its gradients, computed once for two uses.

A cell needs the gradients of its ELBO as inputs of the refiner. Training needs the gradient of the same scalar with
respect to the parameters. `CellELBO` computes both in one backward pass through the decoder, inside the forward pass of
training.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from stii_jax.models import likelihood, losses
from stii_jax.models.prior import ConditionalPrior, gaussian_kl, gaussian_sample
from stii_jax.models.refiner import CellGradients, Decoded
from stii_jax.types import Params

_ABSENT = -30.0  # mask logit of absent slots: finite, because it is also an input of their refinement


class CellInputs(NamedTuple):
    """The inputs of the ELBO of cell (t, r), besides parameters."""

    posterior: Float[Array, "B K Z2"]
    h: Float[Array, "B K D"]
    """The temporal hidden state h[t-1]."""
    frame: Float[Array, "B H W C"] | None
    """None in a gradient, because frame and noise have no gradients."""
    noise: Float[Array, "B K Z"] | None
    present: Bool[Array, "B K"] | None = None
    """False for absent slots, which paint no pixel and have no KL. None if all are present."""


class CellOutputs(NamedTuple):
    """The ELBO of a cell, its terms and its gradients."""

    elbo: Float[Array, ""]
    """Summed over the batch. With detached refiner inputs, training differentiates this output only."""
    decoded: Decoded
    gradients: CellGradients
    """Gradients of the ELBO. They carry no gradient themselves, so there are no second-order terms."""
    terms: dict[str, Float[Array, " B"]]
    """The ELBO's terms per video, in nats. They carry no gradient."""


class CellELBO:
    """The ELBO of a cell (steps 1 to 5). With `detach`, decoder outputs pass no gradient to the refiner's inputs."""

    def __init__(
        self,
        decoder: nn.Module,
        prior: ConditionalPrior | None,
        weights: Mapping[str, float],
        *,
        latent_dim: int,
        sigma: float,
        likelihood_kind: str,
        temperature: float,
        conditional_decoder: bool,
        detach: bool,
    ):
        self.decoder, self.prior, self.weights = decoder, prior, dict(weights)
        self.latent_dim, self.sigma, self.likelihood_kind = latent_dim, sigma, likelihood_kind
        self.temperature = temperature
        self.conditional_decoder, self.detach = conditional_decoder, detach
        # Inlined into its callers when compiled, and traced once for all of them.
        self._evaluate_with_gradients = jax.jit(self._value_and_gradients, inline=True)
        self._one_pass = jax.custom_vjp(self._evaluate)
        self._one_pass.defvjp(*(self._detached_rules() if detach else self._attached_rules()))

    def __call__(self, params: Params, inputs: CellInputs, active: Bool[Array, ""] | None = None) -> CellOutputs:
        """Evaluate a cell; return zeros, at no cost, if `active` is given and false.

        The derivative is the ELBO's gradient with respect to `params`, posterior and `h`. With `detach`, the backward
        pass scales the gradient that the forward pass computed (equation 11). It stores no activations and does not run
        the decoder again. Otherwise means and masks pass gradients too, and the backward pass runs the decoder again.
        """
        own = {name: params[name] for name in ("decoder", "prior") if name in params}
        outputs = self._one_pass(own, inputs, active)
        return outputs if not self.detach else lax.stop_gradient(outputs)._replace(elbo=outputs.elbo)

    def decode(
        self,
        params: Params,
        z: Float[Array, "B K Z"],
        h: Float[Array, "B K D"],
        present: Bool[Array, "B K"] | None = None,
    ) -> Decoded:
        """Decode latents, given the past, into means and mask logits (step 2; paper section 3.2.3)."""
        inputs = jnp.concatenate([z, h], axis=-1) if self.conditional_decoder else z
        return self._painted(params, inputs, "all", present)

    def code(self, params: Params, z: Float[Array, "B K Z"], h: Float[Array, "B K D"]) -> Float[Array, "B K E"]:
        """Compute the decoder's code of each slot, which determines its appearance and mask."""
        inputs = jnp.concatenate([z, h], axis=-1) if self.conditional_decoder else z
        code = self._decoder(params, inputs.reshape(-1, inputs.shape[-1]), "code")
        return code.reshape(*z.shape[:2], -1)

    def paint(self, params: Params, code: Float[Array, "B K E"], present: Bool[Array, "B K"] | None = None) -> Decoded:
        """Decode codes into means and mask logits; `decode` is `paint` of `code`."""
        return self._painted(params, code, "image", present)

    def _painted(self, params, inputs, part, present):
        means, logits = self._decoder(params, inputs.reshape(-1, inputs.shape[-1]), part)
        shape = inputs.shape[:2]
        means, logits = means.reshape(*shape, *means.shape[1:]), logits.reshape(*shape, *logits.shape[1:])
        return Decoded(means, logits if present is None else jnp.where(present[..., None, None], logits, _ABSENT))

    def _decoder(self, params, inputs, part) -> Any:
        return self.decoder.apply({"params": params["decoder"]}, inputs, part)

    def prior_parameters(self, params: Params, h: Float[Array, "B K D"]) -> Float[Array, "B K Z2"]:
        """Return the prior's mean and log-scale, given the past (step 3; paper 3.2.3).

        Without a conditional prior, they are those of a unit Gaussian.
        """
        if self.prior is None:
            return jnp.zeros((*h.shape[:2], 2 * self.latent_dim))
        prior: Any = self.prior.apply
        return prior({"params": params["prior"]}, h)

    def predicted_elbo(
        self, frame: Float[Array, "B H W C"], means: Float[Array, "B K H W C"], masks: Float[Array, "B K H W"]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, " B"]]]:
        """Return the ELBO, summed over the batch, and its terms for a frame predicted from the prior. Its KL is 0."""
        return self._weighted(frame, means, masks, jnp.zeros(frame.shape[:1]))

    def mixture(
        self, frame: Float[Array, "B H W C"], means: Float[Array, "B K H W C"], masks: Float[Array, "B K H W"]
    ) -> likelihood.Mixture:
        """See `likelihood.mixture`, with this ELBO's `sigma`, kind and temperature."""
        return likelihood.mixture(frame, means, masks, self.sigma, self.likelihood_kind, self.temperature)

    def responsibilities(
        self, frame: Float[Array, "B H W C"], means: Float[Array, "B K H W C"], masks: Float[Array, "B K H W"]
    ) -> Float[Array, "B K H W"]:
        """Return the probability that each slot painted a pixel, given its colour (equation 5)."""
        return likelihood.mask_posterior(self.mixture(frame, means, masks).slots, masks)

    def _evaluate(self, params, inputs, active):
        """Evaluate a cell without a custom derivative."""
        return _if_active(active, self._evaluate_with_gradients, params, inputs)[0]

    def _objective(self, params, posterior, h, shifts, frame, noise, present):
        """Return the ELBO summed over the batch. `shifts` are zeros whose gradients are those of means and masks."""
        decoded = self.decode(params, gaussian_sample(posterior, noise), h, present)
        means, masks = decoded.means + shifts[0], decoded.masks + shifts[1]
        kl = gaussian_kl(posterior, self.prior_parameters(params, h))
        kl = kl.sum(-1) if present is None else kl.sum(-1, where=present)
        value, terms = self._weighted(frame, means, masks, kl)
        return value, (decoded, terms)

    def _weighted(self, frame, means, masks, kl):
        mixture = self.mixture(frame, means, masks)
        entropy = likelihood.mask_entropy(masks)
        terms = {"log_likelihood": mixture.pixels.sum((1, 2)), "kl": kl, "mask_entropy": entropy}
        return losses.elbo(terms, self.weights).sum(), terms

    def _value_and_gradients(self, params, inputs):
        posterior, h, frame, noise, present = inputs
        image = (*posterior.shape[:2], *frame.shape[1:3])
        shifts = jnp.zeros((*image, frame.shape[-1])), jnp.zeros(image)
        value_and_grad = jax.value_and_grad(self._objective, argnums=(0, 1, 2, 3), has_aux=True)
        (value, (decoded, terms)), grads = value_and_grad(params, posterior, h, shifts, frame, noise, present)
        by_params, by_posterior, by_h, (by_means, by_masks) = grads
        outputs = CellOutputs(value, decoded, CellGradients(by_posterior, by_means, by_masks), terms)
        return outputs, (by_params, by_posterior, by_h)

    def _detached_rules(self):
        def forward(params, inputs, active):
            return _if_active(active, self._evaluate_with_gradients, params, inputs)

        def backward(gradients, cotangent):
            by_params, by_posterior, by_h = jax.tree.map(lambda g: g * cotangent.elbo, gradients)
            return by_params, CellInputs(by_posterior, by_h, None, None, None), None

        return forward, backward

    def _attached_rules(self):
        def forward(params, inputs, active):
            return self._evaluate(params, inputs, active), (params, inputs, active)

        def backward(residuals, cotangent):
            params, inputs, active = residuals

            def pull_back(params, inputs, cotangent):
                def outputs(params, posterior, h):
                    _, _, *rest = inputs
                    value, (decoded, _) = self._objective(params, posterior, h, (0.0, 0.0), *rest)
                    return value, decoded

                _, pull_back = jax.vjp(outputs, params, inputs.posterior, inputs.h)
                return pull_back((cotangent.elbo, cotangent.decoded))

            by_params, by_posterior, by_h = _if_active(active, pull_back, params, inputs, cotangent)
            return by_params, CellInputs(by_posterior, by_h, None, None, None), None

        return forward, backward


def _if_active(active, function, *arguments):
    """Return `function(*arguments)`, or zeros of the same shapes if `active` is false."""
    if active is None:
        return function(*arguments)
    shapes = jax.eval_shape(function, *arguments)
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    return lax.cond(active, lambda: function(*arguments), lambda: zeros)
