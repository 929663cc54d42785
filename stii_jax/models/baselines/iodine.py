"""The baselines IODINE (Greff et al. 2019) and SEQ-IODINE, built from the parts of STII (paper, section 4.1).

Both are the same model: STII without a past. IODINE refines every frame independently. SEQ-IODINE gives a trained
IODINE the next frame at each refinement, so that its refinement state must carry the objects from frame to frame.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from stii_jax.models.state import UnrollOutputs, VideoState
from stii_jax.models.stii import STII
from stii_jax.types import Decomposition, Params


class Iodine(STII):
    """IODINE: each frame is refined independently, R times, so that a video of T frames is T videos of one frame.

    Prior and decoder do not depend on the past: `conditional_prior` and `conditional_decoder` must be off.
    """

    can_sample = False

    def __init__(self, **settings):
        super().__init__(**settings)
        if self.elbo.prior is not None or self.elbo.conditional_decoder:
            raise ValueError("IODINE has no past: set conditional_prior and conditional_decoder to false")

    def schedule(self, num_frames: int, start: int = 0) -> tuple[int, ...]:
        """See `STII.schedule`: R refinements per frame."""
        del start
        return (self.num_refinements,) * num_frames

    def unroll(
        self,
        params: Params,
        video: Float[Array, "B T H W C"],
        keys: Key[Array, " B"],
        state: VideoState | None = None,
        schedule: tuple[int, ...] | None = None,
    ) -> tuple[UnrollOutputs, VideoState]:
        """See `STII.unroll`. The returned state holds only the number of frames seen and the last frame's posterior."""
        del schedule
        B, T = video.shape[:2]
        first = jnp.int32(0) if state is None else state.frame
        each_frame = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))(keys, first + jnp.arange(T))
        alone = video.reshape(B * T, 1, *video.shape[2:])
        out, _ = super().unroll(params, alone, each_frame.reshape(-1), None, self.schedule(1))
        decomposition = jax.tree.map(lambda a: a.reshape(B, T, *a.shape[2:]), out.decomposition)
        terms = {name: term.reshape(B, T) for name, term in out.terms.items()}
        # Only the sum of the frames' ELBOs is known.
        cell_elbo = jnp.broadcast_to(out.cell_elbo / T, (T, *out.cell_elbo.shape[1:]))
        after = self.initial_state(params, B)._replace(posterior=decomposition.posterior[:, -1], frame=first + T)
        return UnrollOutputs(decomposition, out.loss, cell_elbo, terms), after

    def stream(
        self, params: Params, state: VideoState, frame: Float[Array, "B H W C"], keys: Key[Array, " B"]
    ) -> tuple[Decomposition, VideoState]:
        """See `STII.stream`; all frames are treated alike."""
        return self.decompose(params, frame[:, None], keys, state)

    def predict(self, params, state, num_frames, keys=None):
        """Raise an error: there is no past to predict from.

        Raises:
            ValueError: always.
        """
        raise ValueError("IODINE knows no motion and predicts nothing")


class SequentialIodine(Iodine):
    """SEQ-IODINE: a trained IODINE that receives the next frame at each refinement.

    Posterior and refinement state carry over from frame to frame as they do from refinement to refinement in IODINE. On
    a static video of T frames it equals IODINE with T refinements.

    Args:
        clamp: bound on the refiner's input gradients and on a step of the posterior's parameters; 0 is none.
        **settings: settings of `STII`.
    """

    def __init__(self, *, clamp: float = 0.0, **settings: Any):
        super().__init__(**settings)
        self.clamp = clamp

    def schedule(self, num_frames: int, start: int = 0) -> tuple[int, ...]:
        """See `STII.schedule`: one refinement per frame."""
        del start
        return (1,) * num_frames

    def unroll(self, params, video, keys, state=None, schedule=None):
        """See `STII.unroll`."""
        return STII.unroll(self, params, video, keys, state, self.schedule(video.shape[1]))

    def _memory(self, state):
        return jax.tree.map(jnp.zeros_like, state.temporal), state.temporal

    def _start(self, params, state):
        learned = jnp.broadcast_to(params["initial_posterior"], state.posterior.shape)
        return jnp.where(state.frame == 0, learned, state.posterior)

    def _refine(self, params, frame, decoded, gradients, posterior, temporal, refinement, active=True):
        if self.clamp:
            gradients = jax.tree.map(lambda g: jnp.clip(g, -self.clamp, self.clamp), gradients)
        after, refinement = super()._refine(params, frame, decoded, gradients, posterior, temporal, refinement, active)
        step = after - posterior
        return posterior + (jnp.clip(step, -self.clamp, self.clamp) if self.clamp else step), refinement
