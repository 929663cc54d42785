"""The conversion of pasted components to slots: masks that sum to 1, and the means they weigh.

DDPAE adds its components on black and clips the sum at 1; it has no masks. For one channel the same image is a mixture.
A component's mask is its intensity, divided by the total where that exceeds 1, and its mean is white. The black
background gets the rest. With colours, the intensity is a pixel's brightest channel and the mean its hue at full
brightness. Where coloured components overlap, all channels are scaled down together, which keeps the hue; clipping each
channel would change it.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

_DARKEST = 1e-6  # intensities below this have no hue


class Layers(NamedTuple):
    """A frame as slots; slot 0 is the black background."""

    means: Float[Array, "*B K H W C"]
    masks: Float[Array, "*B K H W"]


def compose(pasted: Float[Array, "*B N H W C"]) -> Float[Array, "*B H W C"]:
    """Compose a frame in [0, 1] from its components: their sum, clipped where frames are grey."""
    total = pasted.max(-1).sum(-3)[..., None]
    return pasted.sum(-4) / jnp.maximum(total, 1)


def as_layers(pasted: Float[Array, "*B N H W C"]) -> Layers:
    """Return means and masks of N components and the background. Their mixture is `compose` to 1e-6 per component."""
    intensity = pasted.max(-1)
    total = intensity.sum(-3, keepdims=True)
    masks = jnp.concatenate([jnp.maximum(1 - total, 0), intensity / jnp.maximum(total, 1)], axis=-3)
    hues = pasted / jnp.maximum(intensity, _DARKEST)[..., None]
    return Layers(jnp.concatenate([jnp.zeros_like(hues[..., :1, :, :, :]), hues], axis=-4), masks)
