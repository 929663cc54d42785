"""Inference of a video's first frame from several starts, of which the best is kept."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from stii_jax.models.stii import STII, VideoState
from stii_jax.types import Decomposition, Params


class RestartedSTII(STII):
    """STII that infers a video's first frame `restarts` times, with other noise each, and goes on from the best.

    Slots that begin alike may settle on the same object, and nothing moves one of them to an object that none draws:
    refinement follows a gradient. Which noise leaves no object out shows in the frame's likelihood, without labels. The
    first try has the noise of `STII`. Ours; the paper infers once.
    """

    def __init__(self, *, restarts: int, **settings: Any):
        super().__init__(**settings)
        self.restarts = restarts

    def decompose(
        self,
        params: Params,
        video: Float[Array, "B T H W C"],
        keys: Key[Array, " B"],
        state: VideoState | None = None,
        start: int = 0,
    ) -> tuple[Decomposition, VideoState]:
        """See `VideoModel.decompose`."""
        if state is not None:
            return super().decompose(params, video, keys, state, start)
        first, state = self._first_frame(params, video[:, :1], keys)
        if video.shape[1] == 1:
            return first, state
        rest, state = super().decompose(params, video[:, 1:], keys, state, start=1)
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), first, rest), state

    def stream(
        self, params: Params, state: VideoState, frame: Float[Array, "B H W C"], keys: Key[Array, " B"]
    ) -> tuple[Decomposition, VideoState]:
        """See `VideoModel.stream`."""
        return lax.cond(
            state.frame == 0,
            lambda: self._first_frame(params, frame[:, None], keys),
            lambda: super(RestartedSTII, self).stream(params, state, frame, keys),
        )

    def _first_frame(
        self, params: Params, frame: Float[Array, "B 1 H W C"], keys: Key[Array, " B"]
    ) -> tuple[Decomposition, VideoState]:
        """Each video's try whose last decode explains its frame best, and the state after it."""

        def infer(keys):
            found, state = super(RestartedSTII, self).decompose(params, frame, keys)
            return found, state, self.log_likelihood(frame, found).sum((1, 2, 3))

        others = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (None, 0))(keys, jnp.arange(1, self.restarts))
        found, state, scores = lax.map(infer, jnp.concatenate([keys[None], others]))
        best = scores.argmax(axis=0)
        return jax.tree.map(
            lambda tries: tries[best, jnp.arange(len(best))] if tries.ndim > 1 else tries[0], (found, state)
        )
