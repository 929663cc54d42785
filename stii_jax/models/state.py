"""The state that STII carries from frame to frame, and its outputs for frames and clips."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Int

from stii_jax.models.motion import Recent
from stii_jax.models.recurrent import LSTMState
from stii_jax.types import Decomposition


class VideoState(NamedTuple):
    """The state passed from one frame to the next; sufficient to continue a video at any frame."""

    temporal: LSTMState
    posterior: Float[Array, "B K Z2"]
    """The last frame's refined posterior."""
    frame: Int[Array, ""]
    """Number of frames so far, observed or predicted."""
    present: Bool[Array, "B K"] | None = None
    """False for slots that are not in use; None if all slots are in use."""
    recent: Recent | None = None
    """The recent frames' positions; None if predictions do not depend on them."""


class FrameOutputs(NamedTuple):
    """One frame's last decode, and its contribution to the loss."""

    means: Float[Array, "B K H W C"]
    masks: Float[Array, "B K H W"]
    posterior: Float[Array, "B K Z2"]
    responsibilities: Float[Array, "B K H W"] | None
    """None if the masks are the segmentation."""
    loss: Float[Array, ""]
    """Weighted negative ELBO of all decodes, summed over the batch."""
    cell_elbo: Float[Array, " R+1"]
    """ELBO of every decode, summed over the batch. The last entry is the frame's last decode; unused entries are 0."""
    terms: dict[str, Float[Array, " B"]]
    """The ELBO's terms at the last decode, per video, in nats."""

    @property
    def decomposition(self) -> Decomposition:
        """The last decode, as a clip of one frame."""
        frame = Decomposition(self.means, self.masks, self.posterior, self.responsibilities)
        return jax.tree.map(lambda a: a[:, None], frame)


class UnrollOutputs(NamedTuple):
    """The decomposition, loss and ELBO terms of a clip."""

    decomposition: Decomposition
    loss: Float[Array, ""]
    """Weighted negative ELBO over frames and decodes, summed over the batch."""
    cell_elbo: Float[Array, "T R+1"]
    terms: dict[str, Float[Array, "B T"]]
