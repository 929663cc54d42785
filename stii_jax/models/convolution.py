"""3x3 convolutions that are fast on CPU, with both gradients, even inside `lax.scan`.

Three facts about XLA:CPU shape this file:
- Inside a loop it runs the convolutions made by autodiff through a naive kernel (jax issue 12868), 20 to 50 times
  slower. Both gradients are therefore written out.
- Its fast kernel needs 32 channels or more on one side. Narrow convolutions therefore compute several neighbouring
  pixels as channels of one.
- Wide convolutions run at the speed of a matrix product, so only fewer multiplications make them faster. Winograd's
  algorithm, along the rows alone, halves their number.

docs/performance.md has the measurements.
"""

import functools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_WIDE = 32  # channels from which XLA's fast kernel is used
_BLOCK_FLOATS = 256 * 9 * 64  # size of the kernel gradient's patches that fits into a core's L2 cache

# Winograd's F(4, 3), at the points 0, 1, -1, 2, -2 and infinity: six multiplications give four outputs of a filter of
# three from six inputs. outputs = OUTPUT @ ((KERNEL @ filter) * (INPUT @ inputs)).
_TILE = 4
_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float32) / 24
_OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float32)


def conv3x3(x: Float[Array, "N H W I"], kernel: Float[Array, "3 3 I O"]) -> Float[Array, "N H W O"]:
    """Apply a 3x3 convolution of stride 1 with zero padding: this file's on CPU, the library's elsewhere."""
    return _conv3x3_cpu(x, kernel) if jax.default_backend() == "cpu" else _convolve(x, kernel)


def _convolve(x: jax.Array, kernel: jax.Array, stride: int = 1, rows_padded: int = 1) -> jax.Array:
    padding = ((rows_padded, rows_padded), (1, 1))
    return lax.conv_general_dilated(x, kernel, (1, stride), padding, dimension_numbers=_LAYOUT)


@jax.custom_vjp
def _conv3x3_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _convolve_rows(x, kernel) if _saves_products(x, kernel) else _convolve_packed(x, kernel)


def _conv3x3_cpu_forward(x, kernel):
    return _conv3x3_cpu(x, kernel), (x, kernel)


def _conv3x3_cpu_backward(residuals, g):
    x, kernel = residuals
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    kernel_gradient = _kernel_gradient_rows if _saves_products(x, kernel) else _kernel_gradient
    return _conv3x3_cpu(g, flipped), kernel_gradient(x, g)


_conv3x3_cpu.defvjp(_conv3x3_cpu_forward, _conv3x3_cpu_backward)


def _saves_products(x: jax.Array, kernel: jax.Array) -> bool:
    """True if Winograd's algorithm applies and pays off. With few channels, its additions cost as much as it saves."""
    return x.dtype == jnp.float32 and x.shape[1] % _TILE == 0 and min(kernel.shape[2:]) >= _WIDE


def _combine(weights: np.ndarray, parts: Sequence[jax.Array]) -> jax.Array:
    """Return a weighted sum, skipping zero weights."""
    return functools.reduce(operator.add, [float(w) * part for w, part in zip(weights, parts) if w])


def _row_tiles(padded: jax.Array) -> list[jax.Array]:
    """Split an image, padded by one row at both ends, into the six rows of its tiles: six images of quarter height."""
    stop = padded.shape[0] - 2
    return [padded[i : i + stop : _TILE] for i in range(_TILE + 2)]


def _convolve_rows(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Apply Winograd's algorithm along the rows: six 1x3 convolutions of quarter height.

    Images are processed one by one, to fit the cache.
    """
    height, width, features = *x.shape[1:3], kernel.shape[-1]
    kernels = jnp.einsum("ai,ijco->ajco", _KERNEL, kernel)[:, None]

    def convolve(_, image):
        rows = _row_tiles(jnp.pad(image, ((1, 1), (0, 0), (0, 0))))
        products = [_convolve(_combine(w, rows)[None], k, rows_padded=0)[0] for w, k in zip(_INPUT, kernels)]
        outputs = [_combine(w, products) for w in _OUTPUT]
        return None, jnp.stack(outputs, axis=1).reshape(height, width, features)

    return lax.scan(convolve, None, x)[1]


def _kernel_gradient_rows(x: jax.Array, g: jax.Array) -> jax.Array:
    """Return the kernel gradient of `_convolve_rows`: six matrix products per image."""
    height, width, channels = x.shape[1:]
    features, pixels = g.shape[-1], height // _TILE * width
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))

    def add_image(totals, images):
        image, cotangent = images
        rows = _row_tiles(jnp.concatenate([image[:, j : j + width] for j in range(3)], axis=-1))
        cotangents = [cotangent[b::_TILE] for b in range(_TILE)]
        products = [
            _combine(by, cotangents).reshape(pixels, -1).T @ _combine(w, rows).reshape(pixels, -1)
            for by, w in zip(_OUTPUT.T, _INPUT)
        ]
        return [total + product for total, product in zip(totals, products)], None

    zeros = [jnp.zeros((features, 3 * channels), g.dtype)] * (_TILE + 2)
    totals, _ = lax.scan(add_image, zeros, (padded, g))
    return jnp.einsum("ai,aojc->ijco", _KERNEL, jnp.stack(totals).reshape(-1, features, 3, channels))


def _convolve_packed(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Apply a narrow convolution to several neighbouring pixels at once, with a wider kernel."""
    n, height, width, channels = x.shape
    features = kernel.shape[-1]
    pixels = _largest_divisor(width, _WIDE // features) if max(channels, features) < _WIDE else 1
    shifted = [jnp.pad(kernel, ((0, 0), (i, pixels - 1 - i), (0, 0), (0, 0))) for i in range(pixels)]
    return _convolve(x, jnp.concatenate(shifted, axis=-1), stride=pixels).reshape(n, height, width, features)


def _kernel_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    """Return the gradient of a 3x3 kernel by a scan of small matrix products over blocks of rows."""
    if g.shape[-1] < x.shape[-1]:  # take patches of the array with fewer channels; the sums are the same
        return _kernel_gradient(g, x)[::-1, ::-1].swapaxes(2, 3)
    n, height, width, channels = x.shape
    rows = _largest_divisor(height, _BLOCK_FLOATS // (9 * channels * width))
    blocks = jnp.uint32(height // rows)
    zero = jnp.uint32(0)  # unsigned: every signed index costs a select for negative values
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))

    def add_block(total, index):
        image, top = lax.div(index, blocks), lax.rem(index, blocks) * jnp.uint32(rows)
        window = lax.dynamic_slice(padded, (image, top, zero, zero), (1, rows + 2, width + 2, channels))[0]
        shifts = [window[i : i + rows, j : j + width] for i in range(3) for j in range(3)]
        patches = jnp.concatenate(shifts, axis=-1).reshape(rows * width, 9 * channels)
        cotangent = lax.dynamic_slice(g, (image, top, zero, zero), (1, rows, width, g.shape[-1]))
        return total + cotangent.reshape(rows * width, -1).T @ patches, None

    total = jnp.zeros((g.shape[-1], 9 * channels), g.dtype)
    total, _ = lax.scan(add_block, total, jnp.arange(n * height // rows, dtype=jnp.uint32))
    return total.T.reshape(3, 3, channels, -1)


def _largest_divisor(number: int, limit: int) -> int:
    return next(d for d in range(max(1, min(number, limit)), 0, -1) if number % d == 0)
