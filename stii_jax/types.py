"""Array bundles and aliases that cross module borders.

Axis order is always `B T R K H W C` (see docs/method.md for the letters); a loop axis comes first only inside a scan.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int

Params = Mapping[str, Any]
Batch = Mapping[str, jax.Array]
"""`video` uint8 `B T H W C` in 0..255, and where labels exist `segmentation` uint8 `B T H W` (0 = background)."""


class Decomposition(NamedTuple):
    """What the model says of a video: its last reconstruction of every frame."""

    means: Float[Array, "B T K H W C"]
    """Appearance of each slot, in [0, 1]."""
    masks: Float[Array, "B T K H W"]
    """Soft assignment of pixels to slots; sums to 1 over K."""
    posterior: Float[Array, "B T K Z2"]
    """Posterior parameters: mean, then log-scale (Z2 is 2 Z)."""

    @property
    def reconstruction(self) -> Float[Array, "B T H W C"]:
        """The mixture's mean, `sum_k masks_k means_k`."""
        return (self.means * self.masks[..., None]).sum(axis=2)

    @property
    def segmentation(self) -> Int[Array, "B T H W"]:
        """The most likely slot of every pixel."""
        return self.masks.argmax(axis=2)
