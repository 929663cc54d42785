"""Pasted components as slots: masks that sum to 1, and the means that they select from.

DDPAE adds its components up on black and clips the sum at 1; it knows no masks. For one channel the same picture is a
mixture: a component's mask is its intensity, divided by the total where that exceeds 1, its mean is white, and a black
background has what is left. With colours the intensity is a pixel's brightest channel, and the mean its hue at full
brightness. Where coloured components overlap, the total is scaled down as a whole, so that the hue stays; to clip each
channel would change it.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

_DARKEST = 1e-6  # an intensity under this has no hue


class Layers(NamedTuple):
    """A frame as slots; slot 0 is the black background."""

    means: Float[Array, "*B K H W C"]
    masks: Float[Array, "*B K H W"]


def compose(pasted: Float[Array, "*B N H W C"]) -> Float[Array, "*B H W C"]:
    """The frame that components make together, in [0, 1]: their sum, clipped where frames are grey."""
    total = pasted.max(-1).sum(-3)[..., None]
    return pasted.sum(-4) / jnp.maximum(total, 1)


def as_layers(pasted: Float[Array, "*B N H W C"]) -> Layers:
    """Means and masks of N components and the background, whose mixture is `compose` to within 1e-6 a component."""
    intensity = pasted.max(-1)
    total = intensity.sum(-3, keepdims=True)
    masks = jnp.concatenate([jnp.maximum(1 - total, 0), intensity / jnp.maximum(total, 1)], axis=-3)
    hues = pasted / jnp.maximum(intensity, _DARKEST)[..., None]
    return Layers(jnp.concatenate([jnp.zeros_like(hues[..., :1, :, :, :]), hues], axis=-4), masks)
