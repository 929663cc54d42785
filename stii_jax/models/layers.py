"""The layers shared by the model's parts."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from stii_jax.models.convolution import conv3x3

_ROUNDING = 1e-5  # relative; exceeds the float32 error of the mean of an image's pixels
_ELU_GAIN = 1.55  # 1 / E[elu(x)^2] for a standard normal x


@jax.custom_vjp
def elu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Apply ELU. Its gradient uses the output, which the next layer stores anyway, so the input is not stored."""
    return jax.nn.elu(x)


def _elu_forward(x):
    y = jax.nn.elu(x)
    return y, y


def _elu_backward(y, g):
    return (g * jnp.where(y > 0, 1, y + 1),)


elu.defvjp(_elu_forward, _elu_backward)


before_elu = nn.initializers.variance_scaling(_ELU_GAIN, "fan_in", "truncated_normal")
"""Initialiser of layers between ELUs, which preserves the variance."""


class Conv3x3(nn.Module):
    """A 3x3 convolution with bias, computed in `dtype` and returned in it."""

    features: int
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Float[Array, "N H W I"]) -> Float[Array, "N H W O"]:
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", before_elu, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return conv3x3(x.astype(self.dtype), kernel.astype(self.dtype)) + bias.astype(self.dtype)


class SharedConv3x3(nn.Module):
    """A 3x3 convolution of each slot's own and shared channels; the shared part is computed once for all slots."""

    features: int
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, slots: Float[Array, "B K H W S"], shared: Float[Array, "B H W U"]) -> Float[Array, "B K H W O"]:
        batch, num_slots, height, width, channels = slots.shape
        shape = (3, 3, channels + shared.shape[-1], self.features)
        kernel = self.param("kernel", before_elu, shape).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        flat = slots.reshape(-1, height, width, channels).astype(self.dtype)
        own = conv3x3(flat, kernel[:, :, :channels]).reshape(batch, num_slots, height, width, self.features)
        return own + (conv3x3(shared.astype(self.dtype), kernel[:, :, channels:]) + bias)[:, None]


def _vector_and_coordinates(key, shape, dtype=jnp.float32):
    """Return an initial kernel in which the two coordinates weigh as much as the whole vector.

    A new network then decodes every slot at a definite place.
    """
    keys = jax.random.split(key)
    vector = before_elu(keys[0], (*shape[:2], shape[2] - 2, shape[3]), dtype)
    return jnp.concatenate([vector, before_elu(keys[1], (*shape[:2], 2, shape[3]), dtype)], axis=2)


class BroadcastConv3x3(nn.Module):
    """A 3x3 convolution of a vector broadcast over the image and two coordinate channels.

    It equals `Conv3x3` of the broadcast, which is never materialised. With zero padding, the convolution of a constant
    has nine distinct values (corners, edges, inside): one product with nine sums of kernel taps. The coordinates' part
    is one image for all vectors.
    """

    features: int
    height: int
    width: int
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, vector: Float[Array, "N I"]) -> Float[Array, "N H W O"]:
        channels = vector.shape[-1]
        shape = (3, 3, channels + 2, self.features)
        kernel = self.param("kernel", _vector_and_coordinates, shape).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        taps = kernel[:, :, :channels]
        # At the first row the kernel's top tap falls off the image, at the last row its bottom tap. Columns likewise.
        rows = jnp.stack([taps[1:].sum(0), taps.sum(0), taps[:-1].sum(0)])
        table = jnp.stack([rows[:, 1:].sum(1), rows.sum(1), rows[:, :-1].sum(1)], axis=1)
        corners = jnp.einsum("ni,rcio->nrco", vector.astype(self.dtype), table)
        image = _expand(_expand(corners, self.height, axis=1), self.width, axis=2)
        grid = coordinates(self.height, self.width).astype(self.dtype)
        return image + conv3x3(grid[None], kernel[:, :, channels:]) + bias


def _expand(x: jax.Array, size: int, axis: int) -> jax.Array:
    """Repeat the middle of three entries so that `axis` has length `size`."""
    first, middle, last = jnp.split(x, 3, axis=axis)
    shape = list(x.shape)
    shape[axis] = size - 2
    return jnp.concatenate([first, jnp.broadcast_to(middle, shape), last], axis=axis)


def coordinates(height: int, width: int) -> Float[Array, "H W 2"]:
    """Return row and column of every pixel, each from -1 to 1."""
    rows, columns = jnp.linspace(-1.0, 1.0, height), jnp.linspace(-1.0, 1.0, width)
    return jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1)


def layer_norm(x: Float[Array, "*shape"], num_axes: int) -> Float[Array, "*shape"]:
    """Normalise to zero mean and unit variance over the last `num_axes` axes, without scale or offset.

    A constant becomes zero.
    """
    axes = tuple(range(-num_axes, 0))
    centred = x - x.mean(axes, keepdims=True)
    # Scale by the largest value first: squares of ELBO gradients may overflow.
    largest = jnp.abs(centred).max(axes, keepdims=True)
    scaled = centred / jnp.maximum(largest, jnp.finfo(x.dtype).tiny)
    # Values that differ only by rounding count as constant, so that their rounding errors are not amplified.
    varies = largest > _ROUNDING * jnp.abs(x).max(axes, keepdims=True)
    return scaled * lax.rsqrt(jnp.square(scaled).mean(axes, keepdims=True) + 1e-8) * varies


def space_to_depth(x: Float[Array, "*N H W C"]) -> Float[Array, "*N H//2 W//2 4*C"]:
    """Move each 2x2 block of pixels into the channels of one pixel."""
    *batch, height, width, channels = x.shape
    blocks = x.reshape(*batch, height // 2, 2, width // 2, 2, channels)
    return jnp.moveaxis(blocks, -4, -3).reshape(*batch, height // 2, width // 2, 4 * channels)


def depth_to_space(x: Float[Array, "*N H W D"]) -> Float[Array, "*N 2*H 2*W D//4"]:
    """Invert `space_to_depth`."""
    *batch, height, width, channels = x.shape
    blocks = x.reshape(*batch, height, width, 2, 2, channels // 4)
    return jnp.moveaxis(blocks, -4, -3).reshape(*batch, 2 * height, 2 * width, channels // 4)


def smooth(x: Float[Array, "*N H W C"]) -> Float[Array, "*N H W C"]:
    """Blur with the kernel [1, 2, 1] / 4 along each axis, edges replicated. Removes checkerboards exactly."""
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)], mode="edge")
    x = x[..., :-2, :, :] + 2 * x[..., 1:-1, :, :] + x[..., 2:, :, :]
    return (x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]) / 16


def upsample(x: Float[Array, "N H W C"]) -> Float[Array, "N 2*H 2*W C"]:
    """Upsample to twice the resolution by nearest neighbours."""
    n, height, width, channels = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (n, height, 2, width, 2, channels)).reshape(
        n, 2 * height, 2 * width, channels
    )


def average_pool(x: Float[Array, "N H W C"], size: int) -> Float[Array, "N H//{size} W//{size} C"]:
    """Average blocks of `size` by `size` pixels."""
    n, height, width, channels = x.shape
    return x.reshape(n, height // size, size, width // size, size, channels).mean((2, 4))


def average_to(x: Float[Array, "N H W C"], size: int) -> Float[Array, "N {size} {size} C"]:
    """Average an image of any size over a `size` by `size` grid; pixels that straddle two cells count for both."""
    rows, columns = _shares(x.shape[1], size), _shares(x.shape[2], size)
    return jnp.einsum("ih,nhwc,jw->nijc", rows.astype(x.dtype), x, columns.astype(x.dtype))


def _shares(length: int, parts: int) -> np.ndarray:
    """Return the weights of `length` pixels in the means of `parts` equal parts, `(parts, length)`. Rows sum to 1."""
    edges = np.arange(parts + 1) * length / parts
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.maximum(overlap, 0) * parts / length
