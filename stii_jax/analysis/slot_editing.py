"""Edit the slots of a frame and render the result: remove, add and change objects.

    observed = observe_held_out(evaluator, params, num_frames=10)
    slots = get_slots(observed, 0)
    render(model, params, select(slots, [0, 2]))                             # the frame without slot 1
    render(model, params, concatenate(slots, select(get_slots(observed, 1), [2])))     # with an object of another video
    render(model, params, shift_latent(slots, 2, dimension=5, by=1.0))

Each slot is decoded independently, and slots compete for every pixel. Where one is removed, the most likely of the
others becomes visible. Slots of two frames can be combined if the same model observed them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from stii_jax.analysis.traversal import ObservedFrame, to_rgb
from stii_jax.models.stii import STII
from stii_jax.types import Params


class SlotState(NamedTuple):
    """The decoder's inputs for a frame, for any number of slots."""

    latents: Float[Array, "K Z"]
    """Posterior means."""
    h: Float[Array, "K D"]
    """The temporal state before the frame."""
    present: Bool[Array, " K"]
    """False for slots the model does not use, which paint nothing."""


def get_slots(observed: ObservedFrame, index: int) -> SlotState:
    """Return the slots of video `index` of an observed frame."""
    latents, h = jnp.split(observed.posterior[index], 2, axis=-1)[0], observed.h[index]
    return SlotState(latents, h, jnp.ones(len(h), bool) if observed.present is None else observed.present[index])


def select(slots: SlotState, numbers: Sequence[int]) -> SlotState:
    """Select slots by number, in this order; a number may occur twice.

    Raises:
        ValueError: there is no such slot, or none is left.
    """
    count = len(slots.latents)
    if not numbers or not all(0 <= number < count for number in numbers):
        raise ValueError(f"slots {list(numbers)}: expected one or more numbers from 0 to {count - 1}")
    return jax.tree.map(lambda array: array[np.asarray(numbers)], slots)


def concatenate(*parts: SlotState) -> SlotState:
    """Concatenate slots, which may come from several videos."""
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *parts)


def shift_latent(slots: SlotState, number: int, dimension: int, by: float) -> SlotState:
    """Add `by` to one dimension of one slot's latents.

    Raises:
        ValueError: there is no such slot or dimension.
    """
    for what, value, count in zip(("slot", "dimension"), (number, dimension), slots.latents.shape):
        if not 0 <= value < count:
            raise ValueError(f"{what} is {value}, expected 0 to {count - 1}")
    return slots._replace(latents=slots.latents.at[number, dimension].add(by))


def render(model: STII, params: Params, slots: SlotState) -> UInt8[np.ndarray, "H W 3"]:
    """Decode a frame from these slots. Compiled once per model and number of slots."""
    return to_rgb(np.asarray(_decoder(model)(params, slots)))


@functools.cache
def _decoder(model: STII) -> Callable[[Params, SlotState], jax.Array]:
    def decode(params, slots):
        decoded = model.elbo.decode(params, slots.latents[None], slots.h[None], slots.present[None])
        return (decoded.masks[..., None] * decoded.means).sum(1)[0]

    return jax.jit(decode)
