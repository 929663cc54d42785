"""What the slots of one frame hold: taken out, put in, moved, and drawn anew.

    moment = observe_held_out(evaluator, params, num_frames=10)
    slots = slots_of(moment, 0)
    redraw(model, params, pick(slots, [0, 2]))                             # the frame without slot 1
    redraw(model, params, join(slots, pick(slots_of(moment, 1), [2])))     # with an object of another video
    redraw(model, params, move(slots, 2, dimension=5, by=1.0))

A slot is decoded by itself, and slots compete for every pixel: where one is gone, the most likely of the others is
seen. Slots of two frames fit together if one model observed them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from stii_jax.analysis.traversal import Moment, to_rgb
from stii_jax.models.stii import STII
from stii_jax.types import Params


class Slots(NamedTuple):
    """All that a frame is decoded from, for any number of slots."""

    latents: Float[Array, "K Z"]
    """Posterior means."""
    h: Float[Array, "K D"]
    """The temporal state before the frame."""


def slots_of(moment: Moment, index: int) -> Slots:
    """The slots of video `index` of a moment."""
    return Slots(jnp.split(moment.posterior[index], 2, axis=-1)[0], moment.h[index])


def pick(slots: Slots, numbers: Sequence[int]) -> Slots:
    """The slots of these numbers, in this order; one may come twice.

    Raises:
        ValueError: there is no such slot, or none is left.
    """
    count = len(slots.latents)
    if not numbers or not all(0 <= number < count for number in numbers):
        raise ValueError(f"slots {list(numbers)}: expected one or more numbers from 0 to {count - 1}")
    return jax.tree.map(lambda array: array[np.asarray(numbers)], slots)


def join(*parts: Slots) -> Slots:
    """The slots of all parts, which may be of several videos."""
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *parts)


def move(slots: Slots, number: int, dimension: int, by: float) -> Slots:
    """With `by` added to one dimension of one slot's latents.

    Raises:
        ValueError: there is no such slot or dimension.
    """
    for what, value, count in zip(("slot", "dimension"), (number, dimension), slots.latents.shape):
        if not 0 <= value < count:
            raise ValueError(f"{what} is {value}, expected 0 to {count - 1}")
    return slots._replace(latents=slots.latents.at[number, dimension].add(by))


def redraw(model: STII, params: Params, slots: Slots) -> UInt8[np.ndarray, "H W 3"]:
    """The frame that these slots make. Compiled once a model and number of slots."""
    return to_rgb(np.asarray(_decoder(model)(params, slots)))


@functools.cache
def _decoder(model: STII) -> Callable[[Params, Slots], jax.Array]:
    def decode(params, slots):
        decoded = model.elbo.decode(params, slots.latents[None], slots.h[None])
        return (decoded.masks[..., None] * decoded.means).sum(1)[0]

    return jax.jit(decode)
