"""The networks of DDPAE. Convolutions follow the public program, without batch normalisation (see `model.py`)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from stii_jax.models.recurrent import LSTMState

_SMALLEST = 4  # side, in pixels, of the smallest image in encoder and decoder
_SLOPE = 0.2  # negative slope of leaky ReLUs
_WINDOW, _STRIDE = (4, 4), (2, 2)


class ImageEncoder(nn.Module):
    """Encode an image into a vector: 4x4 convolutions of stride 2 and doubling width, then a dense layer.

    The convolutions reduce the image to about 4x4 pixels.
    """

    features: int
    channels: int

    @nn.compact
    def __call__(self, x: Float[Array, "N H W C"]) -> Float[Array, "N F"]:
        width = self.channels
        while min(x.shape[1:3]) > _SMALLEST:
            x = nn.leaky_relu(nn.Conv(width, _WINDOW, _STRIDE)(x), _SLOPE)
            width *= 2
        return nn.Dense(self.features)(x.reshape(x.shape[0], -1))


class ImageDecoder(nn.Module):
    """Decode a vector into a square image in [0, 1]: a dense layer to 4x4 or slightly more pixels, then doublings.

    `size` must be 4 to 7 times a power of two; see `doublings`.
    """

    size: int
    out_channels: int
    channels: int

    @nn.compact
    def __call__(self, z: Float[Array, "N Z"]) -> Float[Array, "N {self.size} {self.size} {self.out_channels}"]:
        number = doublings(self.size)
        first = self.size >> number
        width = self.channels << max(number - 1, 0)
        x = nn.relu(nn.Dense(first * first * width)(z)).reshape(-1, first, first, width)
        for _ in range(number - 1):
            width //= 2
            x = nn.relu(nn.ConvTranspose(width, _WINDOW, _STRIDE)(x))
        if number == 0:
            return nn.sigmoid(nn.Conv(self.out_channels, (3, 3))(x))
        return nn.sigmoid(nn.ConvTranspose(self.out_channels, _WINDOW, _STRIDE)(x))


def doublings(size: int) -> int:
    """Return how many doublings take an image of 4 to 7 pixels to `size`.

    Raises:
        ValueError: no such image has that size.
    """
    number = max(0, int(np.log2(max(size, 1) / _SMALLEST)))
    if size < _SMALLEST or size % (1 << number):
        raise ValueError(f"object_size={size}: expected 4 to 7 times a power of two; change object_size")
    return number


class LSTM(nn.Module):
    """An LSTM cell. The forget gate starts with a bias of 1, so that a new network remembers."""

    hidden_dim: int

    @nn.compact
    def __call__(self, state: LSTMState, x: Float[Array, "*B I"]) -> LSTMState:
        start = jnp.repeat(jnp.array([0.0, 1.0, 0.0, 0.0]), self.hidden_dim)
        gates = nn.Dense(len(start), bias_init=_constant(start))(jnp.concatenate([x, state.h], axis=-1))
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return LSTMState(jax.nn.sigmoid(o) * jnp.tanh(c), c)


class GaussianHead(nn.Module):
    """A head for the mean and log-scale of a diagonal Gaussian, initialised near the given one."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @nn.compact
    def __call__(self, h: Float[Array, "*B D"]) -> Float[Array, "*B Z2"]:
        start = jnp.concatenate([jnp.array(self.mean), jnp.log(jnp.array(self.scale))])
        return nn.Dense(len(start), bias_init=_constant(start))(h)


def _constant(value):
    return lambda key, shape, dtype: value.astype(dtype)
