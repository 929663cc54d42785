"""Decoders of single slots, conditioned on the past. Paper section 3.2.3 and appendix C.

The first two layers compute a slot's code from its latents and its past. The slot's appearance and mask depend on the
code alone.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from stii_jax.models.layers import BroadcastConv3x3, Conv3x3, before_elu, depth_to_space, elu, smooth, upsample

Part = Literal["all", "code", "image"]
"""The layers to apply: all, those that compute the code, or those that paint a given code."""


class BroadcastDecoder(nn.Module):
    """Decode the latents of single slots into appearances and mask logits (step 2), with the paper's layers.

    The layers are `mlp(concat(z, h))`, a broadcast over the image with coordinates, and four 3x3 convolutions with ELU.
    """

    channels: int
    height: int
    width: int
    image_channels: int
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, inputs: Float[Array, "N I"], part: Part = "all"):
        """Return appearance in [0, 1] (`N H W C`) and mask logits (`N H W`) of slots, or their codes (`N D`).

        Args:
            inputs: latents concatenated with the past; codes if `part` is "image".
            part: see `Part`.
        """
        x = inputs if part == "image" else _code(inputs, self.channels)
        if part == "code":
            return x
        x = elu(BroadcastConv3x3(self.channels, self.height, self.width, self.dtype)(x))
        for _ in range(3):
            x = elu(Conv3x3(self.channels, self.dtype)(x))
        x = Conv3x3(self.image_channels + 1, self.dtype)(x).astype(jnp.float32)
        return jax.nn.sigmoid(x[..., :-1]), x[..., -1]


class PyramidDecoder(nn.Module):
    """A decoder that broadcasts at a quarter of the resolution and upsamples twice.

    The last convolution runs at half the resolution, and depth-to-space turns its channels into pixels. That produces
    checkerboards, with which two slots could share a grey area, so the output is blurred. Height and width must be
    divisible by 4.
    """

    channels: int
    height: int
    width: int
    image_channels: int
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, inputs: Float[Array, "N I"], part: Part = "all"):
        """See `BroadcastDecoder`."""
        x = inputs if part == "image" else _code(inputs, self.channels)
        if part == "code":
            return x
        x = elu(BroadcastConv3x3(self.channels, self.height // 4, self.width // 4, self.dtype)(x))
        x = elu(Conv3x3(self.channels, self.dtype)(x))
        x = elu(Conv3x3(self.channels, self.dtype)(upsample(x)))
        x = Conv3x3(4 * (self.image_channels + 1), self.dtype)(x)
        x = smooth(depth_to_space(x).astype(jnp.float32))
        return jax.nn.sigmoid(x[..., :-1]), x[..., -1]


def _code(inputs: Float[Array, "N I"], channels: int) -> Float[Array, "N D"]:
    x = elu(nn.Dense(channels, kernel_init=before_elu)(inputs))
    return elu(nn.Dense(channels, kernel_init=before_elu)(x))


DECODERS = {"paper": BroadcastDecoder, "pyramid": PyramidDecoder}
"""Decoder classes by `config.model.architecture`."""
