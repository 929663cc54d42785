"""The state that STII carries from frame to frame, and what it returns for frames and clips."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Int

from stii_jax.models.motion import Recent
from stii_jax.models.recurrent import LSTMState
from stii_jax.types import Decomposition


class VideoState(NamedTuple):
    """What one frame hands to the next; enough to go on with a video at any frame."""

    temporal: LSTMState
    posterior: Float[Array, "B K Z2"]
    """The last frame's refined posterior."""
    frame: Int[Array, ""]
    """Frames seen so far."""
    present: Bool[Array, "B K"] | None = None
    """False for slots that take no part in the decomposition; None if all do."""
    recent: Recent | None = None
    """The last frames' positions; None if predictions do not depend on them."""


class FrameOutputs(NamedTuple):
    """One frame's last decode, and its part of the loss."""

    means: Float[Array, "B K H W C"]
    masks: Float[Array, "B K H W"]
    posterior: Float[Array, "B K Z2"]
    responsibilities: Float[Array, "B K H W"] | None
    """None if the masks are the segmentation."""
    loss: Float[Array, ""]
    """Weighted negative ELBO of all decodes, summed over the batch."""
    cell_elbo: Float[Array, " R+1"]
    """ELBO of every decode, summed over the batch; 0 where there was none; the last is the frame's last decode."""
    terms: dict[str, Float[Array, " B"]]
    """Terms of the last decode's ELBO, a video, in nats."""

    @property
    def decomposition(self) -> Decomposition:
        """The last decode, as a clip of one frame."""
        frame = Decomposition(self.means, self.masks, self.posterior, self.responsibilities)
        return jax.tree.map(lambda a: a[:, None], frame)


class UnrollOutputs(NamedTuple):
    """A clip, decomposed."""

    decomposition: Decomposition
    loss: Float[Array, ""]
    """Weighted negative ELBO over frames and decodes, summed over the batch."""
    cell_elbo: Float[Array, "T R+1"]
    terms: dict[str, Float[Array, "B T"]]
