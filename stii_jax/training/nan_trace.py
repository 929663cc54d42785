"""A trace of a model's computation on a batch, quantity by quantity, to find the origin of a NaN.

It follows `STII.frame` outside its scans; a test checks that both compute the same.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from stii_jax.models import losses
from stii_jax.models.baselines.iodine import Iodine, SequentialIodine
from stii_jax.models.baselines.rnem import RNEM
from stii_jax.models.elbo import CellInputs
from stii_jax.models.recurrent import LSTMState
from stii_jax.models.refiner import refinement_images
from stii_jax.models.state import VideoState
from stii_jax.models.stii import STII
from stii_jax.models.video_model import VideoModel
from stii_jax.types import Params

Named = dict[str, jax.Array]


class Quantity(NamedTuple):
    """One array of the computation."""

    name: str
    frame: int
    """Frame number, from 0."""
    decode: int | None
    """r of the cell (t, r), from 1; a frame's last decode is not refined. None if it belongs to the whole frame."""
    value: Float[Array, " B *rest"]


@functools.singledispatch
def trace(model: VideoModel, params: Params, video: Float[Array, "B T H W C"], keys: Key[Array, " B"]):
    """Yield `Quantity`s. For a model without cells they are the decomposition and the loss terms, frame by frame."""
    return by_frames(model, params, video, keys, ("posterior", "means", "masks"))


def by_frames(
    model: VideoModel,
    params: Params,
    video: Float[Array, "B T H W C"],
    keys: Key[Array, " B"],
    order: tuple[str, ...],
) -> Iterator[Quantity]:
    """Yield all frames, then each frame's decomposition, in the `order` of computation, and its loss terms."""
    for t in range(video.shape[1]):
        yield Quantity("input", t, None, video[:, t])
    outputs = jax.jit(model.loss)(params, video, keys)
    found = {name: getattr(outputs.decomposition, name) for name in order} | dict(outputs.terms)
    for t in range(video.shape[1]):
        for name, values in found.items():
            yield Quantity(name, t, None, values[:, t])


@trace.register
def _(model: RNEM, params, video, keys):
    # A frame's means are predictions, and its posterior is the hidden state after it.
    return by_frames(model, params, video, keys, ("means", "masks", "posterior"))


@trace.register(STII)
@trace.register(SequentialIodine)
def _by_cells(model: STII, params, video, keys):
    """Yield the quantities cell by cell."""
    observed = model.num_observed(video.shape[1])
    state = model.initial_state(params, len(video))
    for t, refinements in enumerate(model.schedule(observed)):
        noise = model._noise(keys, jnp.array([t]), refinements + 1)[0]
        temporal, refinement = model._memory(state)
        posterior = model._start(params, state)
        start = {"input": video[:, t], **_named("temporal", temporal), **_named("refinement", refinement)}
        start |= {"prior": model.elbo.prior_parameters(params, temporal.h), "posterior": posterior}
        yield from (Quantity(name, t, None, value) for name, value in start.items())
        for r in range(1, refinements + 2):
            cell = (video[:, t], noise[r - 1], posterior, temporal, refinement)
            found, refined, state_after = _cell(model, params, *cell)
            yield from (Quantity(name, t, r, found[name]) for name in _CELL_ORDER)
            if r <= refinements:
                posterior, refinement = refined, state_after
                after = {"refined posterior": posterior, **_named("refinement", refinement)}
                yield from (Quantity(name, t, r, value) for name, value in after.items())
        state = VideoState(refinement, posterior, state.frame + 1)
    yield from _predicted_quantities(model, params, video, state, observed)


@trace.register
def _(model: Iodine, params, video, keys):
    for t in range(video.shape[1]):
        of_frame = jax.vmap(jax.random.fold_in, (0, None))(keys, t)
        yield from (part._replace(frame=t) for part in _by_cells(model, params, video[:, t : t + 1], of_frame))


_CELL_ORDER = (
    *("sample", "means", "mask logits", "log_likelihood", "kl", "mask_entropy", "elbo"),
    *("gradient with respect to posterior", "gradient with respect to means", "gradient with respect to masks"),
    *("normalised images of the slots", "normalised images of all slots"),
)
"""The order of the quantities from `_cell`, which jit returns alphabetically."""


@functools.partial(jax.jit, static_argnums=0)
def _cell(model: STII, params, frame, noise, posterior, temporal, refinement) -> tuple[Named, jax.Array, LSTMState]:
    """Return all quantities of one cell, and the posterior and refinement state after it."""
    mean, log_scale = jnp.split(posterior, 2, axis=-1)
    out = model.elbo(params, CellInputs(posterior, temporal.h, frame, noise))
    images = refinement_images(frame, out.decoded, out.gradients, **model._images)
    found = {
        "sample": mean + jnp.exp(log_scale) * noise,
        "means": out.decoded.means,
        "mask logits": out.decoded.mask_logits,
        **out.terms,
        "elbo": losses.elbo(out.terms, model.elbo.weights),
        **{f"gradient with respect to {name}": value for name, value in out.gradients._asdict().items()},
        "normalised images of the slots": images.slots,
        "normalised images of all slots": images.shared,
    }
    return found, *model._refine(params, frame, out.decoded, out.gradients, posterior, temporal, refinement)


def _predicted_quantities(model: STII, params, video, state, observed) -> Iterator[Quantity]:
    """Yield the quantities of the frames past `observed_fraction`."""
    if observed == video.shape[1]:
        return
    predicted, _ = jax.jit(model.predict, static_argnums=2)(params, state, video.shape[1] - observed)
    for number, t in enumerate(range(observed, video.shape[1])):
        parts = {name: getattr(predicted, name)[:, number] for name in ("posterior", "means", "masks")}
        _, terms = model.elbo.predicted_elbo(video[:, t], parts["means"], parts["masks"])
        found = {"input": video[:, t], **parts, **terms}
        yield from (Quantity(name, t, None, value) for name, value in found.items())


def _named(name: str, state: LSTMState) -> Named:
    return {f"{name} {part}": value for part, value in state._asdict().items()}
