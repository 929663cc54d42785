"""Inference from several starts, keeping the best one, to find objects that a single start misses."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from stii_jax.models import likelihood, losses
from stii_jax.models.stii import STII, VideoState
from stii_jax.types import Decomposition, Params


class RestartedSTII(STII):
    """STII that infers each frame from several starts and continues from the one with the highest ELBO.

    Two slots may settle on the same object. Refinement follows a gradient, so neither then moves to an object that no
    slot draws. The ELBO shows which start misses no object, without labels.

    The first frame is inferred `restarts` times with different noise. Every later frame is inferred as usual, then
    `reseeds` more times with one slot reset to its initial state: the slot whose removal costs the least likelihood.
    An object that was missed, or that enters the view, thus gets a slot. The first try of every frame equals that of
    `STII`. This is our extension; the paper infers once.
    """

    def __init__(self, *, restarts: int = 1, reseeds: int = 0, **settings: Any):
        super().__init__(**settings)
        self.restarts, self.reseeds = restarts, reseeds

    def num_steps(self, num_frames: int) -> int:
        """See `VideoModel.num_steps`; the steps of all tries count."""
        first, *later = self.schedule(num_frames)
        return self.restarts * first + (1 + self.reseeds) * sum(later)

    def decompose(
        self,
        params: Params,
        video: Float[Array, "B T H W C"],
        keys: Key[Array, " B"],
        state: VideoState | None = None,
        start: int = 0,
    ) -> tuple[Decomposition, VideoState]:
        """See `VideoModel.decompose`."""
        del start  # the state counts frames

        def step(state, frame):
            found, state = self.stream(params, state, frame, keys)
            return state, jax.tree.map(lambda a: a[:, 0], found)

        begin = self.initial_state(params, video.shape[0]) if state is None else state
        end, frames = lax.scan(step, begin, video.swapaxes(0, 1))
        return jax.tree.map(lambda a: a.swapaxes(0, 1), frames), end

    def stream(
        self, params: Params, state: VideoState, frame: Float[Array, "B H W C"], keys: Key[Array, " B"]
    ) -> tuple[Decomposition, VideoState]:
        """See `VideoModel.stream`."""
        is_first = state.frame == 0

        def attempt(number, best):
            elbo, found, _ = best
            begin = self._reseed(params, state, frame, found, (number > 0) & ~is_first)
            after, out = self.next_frame(params, begin, frame, _keys_of_try(keys, number))
            reached = losses.elbo(out.terms, self.elbo.weights)
            better = ~(reached <= elbo)  # a NaN is not hidden
            return jax.tree.map(lambda new, old: _choose(better, new, old), (reached, out.decomposition, after), best)

        shapes = jax.eval_shape(super().stream, params, state, frame, keys)
        nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        # A single loop for all tries compiles one copy of the frame.
        tries = jnp.where(is_first, self.restarts, 1 + self.reseeds)
        _, found, after = lax.fori_loop(0, tries, attempt, (jnp.full(len(frame), -jnp.inf), *nothing))
        return found, after

    def _reseed(
        self,
        params: Params,
        state: VideoState,
        frame: Float[Array, "B H W C"],
        found: Decomposition,
        active: Bool[Array, ""],
    ) -> VideoState:
        """Reset the slot that `found` needs least to its initial state, if `active`."""
        means, masks = found.means[:, 0], found.masks[:, 0]
        pixels = self.elbo.mixture(frame, means, masks)
        without = likelihood.leave_one_out(pixels.slots, masks, "renormalized").sum((2, 3))
        chosen = jax.nn.one_hot(without.argmax(axis=1), self.num_slots, dtype=bool)[..., None] & active
        begin = self.initial_state(params, len(frame))
        fresh = VideoState(begin.temporal, begin.posterior, state.frame)
        return jax.tree.map(lambda new, old: jnp.where(chosen, new, old) if new.ndim else old, fresh, state)


def _keys_of_try(keys: Key[Array, " B"], number: Int[Array, ""]) -> Key[Array, " B"]:
    """The random keys of a try; the first try uses the video's own."""
    others = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
    data = jnp.where(number == 0, jax.random.key_data(keys), jax.random.key_data(others))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(keys))


def _choose(better: Bool[Array, " B"], new: jax.Array, old: jax.Array) -> jax.Array:
    """Select `new` for the videos where it is better. Scalars, such as the frame count, are equal in both."""
    return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old) if new.ndim else new
