"""Encoders of refinement images into one vector per slot (step 7). Paper appendix C."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from stii_jax.models.layers import Conv3x3, SharedConv3x3, average_pool, average_to, before_elu, elu, space_to_depth

PLACES = 8
"""Rows and columns of the grid that the pyramid's dense layer sees."""


class RefinementImages(NamedTuple):
    """The refiner's image-shaped inputs: those of each slot, and those shared by all slots."""

    slots: Float[Array, "B K H W S"]
    shared: Float[Array, "B H W U"]


class FlatEncoder(nn.Module):
    """The paper's layers (step 7): four 3x3 convolutions with ELU, 4x4 average pooling, a dense layer."""

    channels: int
    feature_dim: int
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, images: RefinementImages) -> Float[Array, "B K F"]:
        """Return one feature vector per slot."""
        x = elu(SharedConv3x3(self.channels, self.dtype)(images.slots, images.shared))
        x = x.reshape(-1, *x.shape[2:])
        for _ in range(3):
            x = elu(Conv3x3(self.channels, self.dtype)(x))
        return _features(average_pool(x, 4), images, self.feature_dim)


class PyramidEncoder(nn.Module):
    """One convolution at half resolution, two at a quarter, average pooling to 8x8, a dense layer; ELU throughout.

    The parameters fit images of any size divisible by 4.
    """

    channels: int
    feature_dim: int
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, images: RefinementImages) -> Float[Array, "B K F"]:
        """Return one feature vector per slot."""
        halved = space_to_depth(images.slots), space_to_depth(images.shared)
        x = elu(SharedConv3x3(self.channels, self.dtype)(*halved))
        x = average_pool(x.reshape(-1, *x.shape[2:]), 2)
        for _ in range(2):
            x = elu(Conv3x3(self.channels, self.dtype)(x))
        return _features(average_to(x, PLACES), images, self.feature_dim)


ENCODERS = {"paper": FlatEncoder, "pyramid": PyramidEncoder}
"""Encoders by `config.model.architecture`."""


def _features(pooled: Float[Array, "N h w O"], images: RefinementImages, feature_dim: int) -> Float[Array, "B K F"]:
    """Apply the dense layer, which sees positions."""
    flat = pooled.reshape(*images.slots.shape[:2], -1).astype(jnp.float32)
    return elu(nn.Dense(feature_dim, kernel_init=before_elu)(flat))
