"""Decoders of single slots, conditioned on the past. Paper section 3.2.3 and appendix C.

Their first two layers make a slot's code from its latents and its past. Everything that a slot paints depends on the
code alone.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from stii_jax.models.layers import BroadcastConv3x3, Conv3x3, before_elu, depth_to_space, elu, smooth, upsample

Part = Literal["all", "code", "image"]
"""The layers to apply: all, those that make the code, or those that paint a given code."""


class BroadcastDecoder(nn.Module):
    """Decode the latents of single slots into appearances and mask logits (step 2), in the paper's layers.

    `mlp(concat(z, h))`, broadcast over the image with coordinates, four 3x3 convolutions with ELU.
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
            inputs: latents beside the past; codes if `part` is "image".
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
    """Broadcast at a quarter of the resolution, two convolutions there and two at half; the last fills in pixels.

    The output is blurred, because depth-to-space produces checkerboards, which let slots share a grey area between
    them. Height and width must be divisible by 4.
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
"""By `config.model.architecture`."""
