"""The refinement network and its inputs. Paper section 3.2.1, appendix C; IODINE."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from stii_jax.models import likelihood
from stii_jax.models.encoder import ENCODERS, RefinementImages
from stii_jax.models.layers import coordinates, layer_norm
from stii_jax.models.recurrent import LSTM2D, LSTMState


class Decoded(NamedTuple):
    """The decoder's outputs for all slots of a frame."""

    means: Float[Array, "B K H W C"]
    mask_logits: Float[Array, "B K H W"]

    @property
    def masks(self) -> Float[Array, "B K H W"]:
        return jax.nn.softmax(self.mask_logits, axis=1)


class CellGradients(NamedTuple):
    """Gradients of a cell's ELBO, summed over the batch."""

    posterior: Float[Array, "B K Z2"]
    means: Float[Array, "B K H W C"]
    masks: Float[Array, "B K H W"]


def refinement_images(
    frame: Float[Array, "B H W C"],
    decoded: Decoded,
    gradients: CellGradients,
    *,
    sigma: float,
    likelihood_kind: str,
    temperature: float,
    posterior_input: str,
    with_leave_one_out: bool,
    leave_one_out_masks: str,
) -> RefinementImages:
    """Return the refiner's inputs (step 6). Gradients, likelihood and leave-one-out are normalised and detached."""
    means, masks = decoded.means, decoded.masks
    pixels = likelihood.mixture(frame, means, masks, sigma, likelihood_kind, temperature)
    posterior = likelihood.mask_posterior(pixels.slots, masks, posterior_input)

    def normalized(image, num_axes):
        return lax.stop_gradient(layer_norm(image, num_axes))

    slots = [
        means,
        masks[..., None],
        decoded.mask_logits[..., None],
        normalized(gradients.means, 3),
        normalized(gradients.masks, 2)[..., None],
        posterior[..., None],
    ]
    if with_leave_one_out:
        others = likelihood.leave_one_out(pixels.slots, masks, leave_one_out_masks)
        slots.append(normalized(others, 2)[..., None])
    grid = jnp.broadcast_to(coordinates(*frame.shape[1:3]), (*frame.shape[:3], 2))
    shared = [frame, normalized(pixels.pixels, 2)[..., None], grid]
    return RefinementImages(jnp.concatenate(slots, axis=-1), jnp.concatenate(shared, axis=-1))


class Refiner(nn.Module):
    """The network that refines a cell's posterior (steps 7 to 9): an encoder, a 2D-LSTM step and a parameter update."""

    channels: int
    feature_dim: int
    hidden_dim: int
    cell: str = "md"
    architecture: str = "paper"
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(
        self,
        images: RefinementImages,
        posterior: Float[Array, "B K Z2"],
        posterior_gradient: Float[Array, "B K Z2"],
        temporal: LSTMState,
        refinement: LSTMState,
    ) -> tuple[Float[Array, "B K Z2"], LSTMState]:
        """Return the refined posterior parameters and the refinement state.

        The gradient is layer-normalised and carries no gradient itself.
        """
        encoder = ENCODERS[self.architecture](self.channels, self.feature_dim, self.dtype, name="Encoder_0")
        features = encoder(images)
        gradient = lax.stop_gradient(layer_norm(posterior_gradient, 1))
        inputs = jnp.concatenate([features, posterior, gradient], axis=-1)
        h, state = LSTM2D(self.hidden_dim, self.cell)(inputs, temporal, refinement)
        return posterior + nn.Dense(posterior.shape[-1])(h), state
