"""Inference from several starts, keeping the best one, to find objects that a single start misses."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from stii_jax.models import likelihood, losses, motion
from stii_jax.models.state import VideoState
from stii_jax.models.stii import STII
from stii_jax.types import Decomposition, Params


class RestartedSTII(STII):
    """STII that infers each frame from several starts and continues from the one with the highest ELBO.

    Two slots may settle on the same object. Refinement follows a gradient, so neither slot then moves to an object that
    was missed. The ELBO identifies the best start without labels.

    The first frame is inferred `restarts` times with different noise. Every later frame is inferred as usual, then
    `reseeds` more times with one slot reset to its initial state: the slot whose removal costs the least likelihood.
    Objects that were missed or that enter the view thus get a slot. The first try of every frame equals that of
    `STII`. With `reseed_every` N, only every N-th frame has these further tries, which saves time.

    With a `slot_cost` above 0, the number of slots in use is inferred as well, since a slot without an object would
    otherwise share the object of another one. The first frame is inferred `restarts` times with 1, 2, ..., K slots.
    In later frames the extra tries alternate between adding an unused slot and removing the least needed one.
    A try that adds a slot has as many refinements as a first frame, because a shared slot must give up an object.
    Every slot in use lowers a try's score by `slot_cost` nats of log-likelihood.

    All of this is our extension. The paper infers every frame once, with all slots.
    """

    def __init__(
        self, *, restarts: int = 1, reseeds: int = 0, reseed_every: int = 1, slot_cost: float = 0.0, **settings: Any
    ):
        super().__init__(**settings)
        self.restarts, self.reseeds, self.reseed_every, self.slot_cost = restarts, reseeds, reseed_every, slot_cost
        self._first_tries = restarts * (self.num_slots if slot_cost else 1)

    def initial_state(self, params: Params, batch_size: int) -> VideoState:
        """See `STII.initial_state`."""
        state = super().initial_state(params, batch_size)
        return state._replace(present=jnp.ones((batch_size, self.num_slots), bool)) if self.slot_cost else state

    def num_steps(self, num_frames: int) -> int:
        """See `VideoModel.num_steps`. The steps of all tries count."""
        first, *later = self.schedule(num_frames)
        steps = self._first_tries * first
        for t, refinements in enumerate(later, 1):
            extra = self.reseeds if t % self.reseed_every == 0 else 0
            adds = sum(bool(self._adds(t, number)) for number in range(1, 1 + extra)) if self.slot_cost else 0
            steps += adds * first + (1 + extra - adds) * refinements
        return steps

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
            score, found, _ = best
            begin, seed, adds = self._begin(params, state, frame, found, number)
            after, out = self.next_frame(params, begin, frame, _keys_of_try(keys, seed), adds)
            reached = losses.elbo(out.terms, self.elbo.weights)
            if after.present is not None:
                reached -= self.slot_cost * self.elbo.weights["log_likelihood"] * after.present.sum(1)
            better = ~(reached <= score)  # true for NaN, so that it is not hidden
            return jax.tree.map(lambda new, old: _choose(better, new, old), (reached, out.decomposition, after), best)

        shapes = jax.eval_shape(super().stream, params, state, frame, keys)
        nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        # A single loop for all tries compiles one copy of the frame.
        extra = jnp.where(state.frame % self.reseed_every == 0, self.reseeds, 0)
        tries = jnp.where(is_first, self._first_tries, 1 + extra)
        _, found, after = lax.fori_loop(0, tries, attempt, (jnp.full(len(frame), -jnp.inf), *nothing))
        return found, after

    def _begin(
        self,
        params: Params,
        state: VideoState,
        frame: Float[Array, "B H W C"],
        found: Decomposition,
        number: Int[Array, ""],
    ) -> tuple[VideoState, Int[Array, ""], Bool[Array, ""]]:
        """The start of a try of `frame`: its state, its noise seed, and True if it adds a slot."""
        is_first = state.frame == 0
        extra = (number > 0) & ~is_first
        needed = self._need(frame, found)
        if state.present is None:
            least = _one_hot(needed.argmin(axis=1), self.num_slots)
            return self._reset(params, state, least & extra), number, jnp.bool_(False)
        least = _one_hot(jnp.where(state.present, needed, jnp.inf).argmin(axis=1), self.num_slots)
        unused = _one_hot(state.present.argmin(axis=1), self.num_slots)
        is_full, is_last = state.present.all(1, keepdims=True), state.present.sum(1, keepdims=True) == 1
        adds = self._adds(state.frame, number)
        adds, removes = extra & adds, extra & ~adds
        new = jnp.where(is_full, least, unused) & adds
        kept = (state.present | new) & ~(least & removes & ~is_last)
        few = jnp.arange(self.num_slots) <= number // self.restarts
        present = jnp.where(is_first, few, kept)
        seed = jnp.where(is_first, number % self.restarts, number)
        return self._reset(params, state, new)._replace(present=present), seed, adds

    def _adds(self, frame: int | Int[Array, ""], number: int | Int[Array, ""]) -> bool | Bool[Array, ""]:
        """True if an extra try of a later frame adds a slot; otherwise it removes one."""
        return (frame // self.reseed_every + number) % 2 == 1

    def _need(self, frame: Float[Array, "B H W C"], found: Decomposition) -> Float[Array, "B K"]:
        """The log-likelihood that a frame would lose without each slot, up to a constant."""
        means, masks = found.means[:, 0], found.masks[:, 0]
        pixels = self.elbo.mixture(frame, means, masks)
        return -likelihood.leave_one_out(pixels.slots, masks, "renormalized").sum((2, 3))

    def _reset(self, params: Params, state: VideoState, chosen: Bool[Array, "B K"]) -> VideoState:
        """The state with the `chosen` slots reset to their initial state."""
        begin = self.initial_state(params, len(chosen))
        fresh, old = (begin.temporal, begin.posterior), (state.temporal, state.posterior)
        temporal, posterior = jax.tree.map(lambda new, old: jnp.where(chosen[..., None], new, old), fresh, old)
        recent = None if state.recent is None else motion.forget(state.recent, chosen)
        return state._replace(temporal=temporal, posterior=posterior, recent=recent)


def _one_hot(index: Int[Array, " B"], size: int) -> Bool[Array, "B K"]:
    return jax.nn.one_hot(index, size, dtype=bool)


def _keys_of_try(keys: Key[Array, " B"], number: Int[Array, ""]) -> Key[Array, " B"]:
    """The random keys of a try; the first try uses the video's own."""
    others = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
    data = jnp.where(number == 0, jax.random.key_data(keys), jax.random.key_data(others))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(keys))


def _choose(better: Bool[Array, " B"], new: jax.Array, old: jax.Array) -> jax.Array:
    """Select `new` for the videos where it is better. Scalars, such as the frame count, are equal in both."""
    return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old) if new.ndim else new
