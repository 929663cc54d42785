"""The spatial transformer: components cut from frames and pasted into frames, by scale and shift alone.

A pose `(scale, x, y)` sends a point v of the frame to `u = scale * v + (x, y)` in the component's own image, both in
[-1, 1] from the first pixel's centre to the last's. So a component is `1 / scale` of the frame wide, its centre is at
`-(x, y) / scale`, and what lies beyond [-1, 1] is black. Convention, bilinear sampling and `constrain`'s bounds are
those of the public DDPAE program (jthsieh/DDPAE-video-prediction).

Without rotation the two axes separate: bilinear sampling is a product with a matrix of triangular weights from the left
and one from the right, which costs less than gathering pixels, forwards and backwards.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

MARGIN = 0.5
"""Shifts stay under `scale - MARGIN`: a component's centre never leaves the frame."""


def constrain(raw: Float[Array, "*B 3"], scale_prior: float, scale_range: float) -> Float[Array, "*B 3"]:
    """The pose of an unconstrained `raw` one: scale within `scale_range` of its prior, shifts squashed by tanh.

    A scale outside its range has no gradient from the frame; its prior pulls it back.
    """
    scale = jnp.clip(raw[..., :1], scale_prior - scale_range, scale_prior + scale_range)
    return jnp.concatenate([scale, jnp.tanh(raw[..., 1:]) * (scale - MARGIN)], axis=-1)


def paste(
    components: Float[Array, "*B h w C"], pose: Float[Array, "*B 3"], height: int, width: int
) -> Float[Array, "*B {height} {width} C"]:
    """Components in frames that are black elsewhere."""
    scale, shifts = pose[..., :1], pose[..., 1:]
    columns = scale * jnp.linspace(-1.0, 1.0, width) + shifts[..., :1]
    rows = scale * jnp.linspace(-1.0, 1.0, height) + shifts[..., 1:]
    return resample(components, rows, columns)


def crop(frames: Float[Array, "*B H W C"], pose: Float[Array, "*B 3"], size: int) -> Float[Array, "*B {size} {size} C"]:
    """What a frame shows where a component of this pose would be pasted: the inverse of `paste`."""
    scale, shifts = pose[..., :1], pose[..., 1:]
    grid = jnp.linspace(-1.0, 1.0, size)
    return resample(frames, (grid - shifts[..., 1:]) / scale, (grid - shifts[..., :1]) / scale)


def resample(
    images: Float[Array, "*B H W C"], rows: Float[Array, "*B h"], columns: Float[Array, "*B w"]
) -> Float[Array, "*B h w C"]:
    """Images at the grid of `rows` and `columns` in [-1, 1], bilinearly, between zeros beyond the border."""
    height, width = images.shape[-3:-1]
    by_row = jnp.einsum("...ih,...hwc->...iwc", _weights(rows, height), images)
    return jnp.einsum("...jw,...iwc->...ijc", _weights(columns, width), by_row)


def _weights(positions: Float[Array, "*B N"], size: int) -> Float[Array, "*B N {size}"]:
    """What each of `size` pixels adds at each position; the ends of [-1, 1] are centres of pixels."""
    in_pixels = (positions + 1) * ((size - 1) / 2)
    return jnp.maximum(1 - jnp.abs(in_pixels[..., None] - jnp.arange(size)), 0)
