"""The spatial transformer, which crops components from frames and pastes them into frames by scale and shift.

A pose `(scale, x, y)` maps a point v of the frame to `u = scale * v + (x, y)` in the component's own image. Both
coordinates run from -1 at the first pixel's centre to 1 at the last's. A component is `1 / scale` of the frame wide,
its centre is at `-(x, y) / scale`, and everything beyond [-1, 1] is black. This convention, bilinear sampling and the
bounds of `constrain` follow the public DDPAE program (jthsieh/DDPAE-video-prediction).

Without rotation the two axes separate. Bilinear sampling becomes a product with a matrix of triangular weights on each
side. This is cheaper than gathering pixels, in both the forward and the backward pass.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

MARGIN = 0.5
"""Shifts stay below `scale - MARGIN`, so that a component's centre never leaves the frame."""


def constrain(raw: Float[Array, "*B 3"], scale_prior: float, scale_range: float) -> Float[Array, "*B 3"]:
    """Constrain a `raw` pose: the scale to within `scale_range` of its prior, the shifts by tanh.

    A scale outside its range has no gradient from the frame; its prior pulls it back.
    """
    scale = jnp.clip(raw[..., :1], scale_prior - scale_range, scale_prior + scale_range)
    return jnp.concatenate([scale, jnp.tanh(raw[..., 1:]) * (scale - MARGIN)], axis=-1)


def paste(
    components: Float[Array, "*B h w C"], pose: Float[Array, "*B 3"], height: int, width: int
) -> Float[Array, "*B {height} {width} C"]:
    """Paste components into frames that are black elsewhere."""
    scale, shifts = pose[..., :1], pose[..., 1:]
    columns = scale * jnp.linspace(-1.0, 1.0, width) + shifts[..., :1]
    rows = scale * jnp.linspace(-1.0, 1.0, height) + shifts[..., 1:]
    return resample(components, rows, columns)


def crop(frames: Float[Array, "*B H W C"], pose: Float[Array, "*B 3"], size: int) -> Float[Array, "*B {size} {size} C"]:
    """Crop a frame where a component of this pose would be pasted: the inverse of `paste`."""
    scale, shifts = pose[..., :1], pose[..., 1:]
    grid = jnp.linspace(-1.0, 1.0, size)
    return resample(frames, (grid - shifts[..., 1:]) / scale, (grid - shifts[..., :1]) / scale)


def resample(
    images: Float[Array, "*B H W C"], rows: Float[Array, "*B h"], columns: Float[Array, "*B w"]
) -> Float[Array, "*B h w C"]:
    """Sample images bilinearly on the grid of `rows` and `columns` in [-1, 1], with zeros beyond the border."""
    height, width = images.shape[-3:-1]
    by_row = jnp.einsum("...ih,...hwc->...iwc", _weights(rows, height), images)
    return jnp.einsum("...jw,...iwc->...ijc", _weights(columns, width), by_row)


def _weights(positions: Float[Array, "*B N"], size: int) -> Float[Array, "*B N {size}"]:
    """Return the weight of each of `size` pixels at each position; -1 and 1 are pixel centres."""
    in_pixels = (positions + 1) * ((size - 1) / 2)
    return jnp.maximum(1 - jnp.abs(in_pixels[..., None] - jnp.arange(size)), 0)
