"""The spatial-broadcast decoder, conditioned on the past. Paper section 3.2.3 and appendix C."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from stii_jax.models.layers import BroadcastConv3x3, Conv3x3, before_elu, elu


class Decoder(nn.Module):
    """Decode the latents of single slots into appearances and mask logits (step 2).

    `mlp(concat(z, h))`, broadcast over the image with two coordinate channels, four 3x3 convolutions with ELU, one to
    the image's channels and a mask logit.
    """

    channels: int
    height: int
    width: int
    image_channels: int
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, inputs: Float[Array, "N I"]) -> tuple[Float[Array, "N H W C"], Float[Array, "N H W"]]:
        x = elu(nn.Dense(self.channels, kernel_init=before_elu)(inputs))
        x = elu(nn.Dense(self.channels, kernel_init=before_elu)(x))
        x = elu(BroadcastConv3x3(self.channels, self.height, self.width, self.dtype)(x))
        for _ in range(3):
            x = elu(Conv3x3(self.channels, self.dtype)(x))
        x = Conv3x3(self.image_channels + 1, self.dtype)(x).astype(jnp.float32)
        return jax.nn.sigmoid(x[..., :-1]), x[..., -1]
