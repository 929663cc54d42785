"""Array bundles and aliases that cross module borders.

Axis order is always `B T R K H W C` (see docs/method.md for the letters); a loop axis comes first only inside a scan.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int

Params = Mapping[str, Any]
Batch = Mapping[str, jax.Array]
"""`video`, uint8 `B T H W C` in 0..255, and `segmentation`, uint8 `B T H W` (0 = background), if labels exist."""


class Decomposition(NamedTuple):
    """The decomposition of a video into slots: the last decode of every frame.

    The arrays are JAX arrays, or NumPy arrays once fetched from the device.
    """

    means: Float[Array, "B T K H W C"]
    """Appearance of each slot, in [0, 1]."""
    masks: Float[Array, "B T K H W"]
    """Decoded weight of each slot in a pixel's mixture; sums to 1 over K."""
    posterior: Float[Array, "B T K Z2"]
    """Posterior parameters: the mean, then the log-scale (Z2 is 2 Z)."""
    responsibilities: Float[Array, "B T K H W"] | None = None
    """Probability that each slot painted a pixel, given its colour (equation 5); None if not requested."""

    @property
    def assignment(self) -> Float[Any, "B T K H W"]:
        """Probability that a pixel belongs to each slot: the responsibilities if available, else the masks."""
        return self.masks if self.responsibilities is None else self.responsibilities

    @property
    def reconstruction(self) -> Float[Any, "B T H W C"]:
        """The mixture's mean, `sum_k masks_k means_k`."""
        return (self.means * self.masks[..., None]).sum(axis=2)

    @property
    def segmentation(self) -> Int[Any, "B T H W"]:
        """The most likely slot of every pixel."""
        return self.assignment.argmax(axis=2)
