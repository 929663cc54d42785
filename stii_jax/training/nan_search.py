"""The search for the origin of a NaN or Inf: a failed step is repeated on its batch, quantity by quantity.

The batch is a function of seed and step, the noise of key and step, and the parameters are still those before the step.
The search is local: each process examines its own part of the batch, and none waits for another.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from stii_jax.models.video_model import VideoModel, example_keys
from stii_jax.storage.files import write_atomic
from stii_jax.training.nan_trace import trace
from stii_jax.training.state import TrainState
from stii_jax.types import Params

_OF_TRAINING = "a lower optim.learning_rate, more optim.warmup_steps, a larger model.sigma, or another seed"
_OF_DATA = "to look at that video: the fault is in the data"
_NOT_AGAIN = "to resume from the last checkpoint; if it recurs elsewhere, the device or its memory may be at fault"


class Finding(NamedTuple):
    """The first quantity that is not finite."""

    what: str
    """Description, such as "log_likelihood of cell (t=2, r=4) is inf"."""
    video: int | None
    """Index of the video among those examined; None if the quantity does not belong to a single video."""
    advice: str = _OF_TRAINING


class FailedBatch(NamedTuple):
    """One process's part of the batch of a failed step."""

    step: int
    """Step counted from 0, as in `TrainState`; messages count from 1."""
    arrays: dict[str, np.ndarray]
    """`video` and, if there are labels, `segmentation`."""
    numbers: Int[np.ndarray, " B"]
    """Indices of these videos within the whole batch."""
    places: Int[np.ndarray, "B 2"]
    """Each video's index in the dataset's split, and the clip's first frame."""


class Explanation(NamedTuple):
    """Parts of a message."""

    cause: str
    saved: str
    """Path of the saved batch, as a sentence followed by a blank; "" if it is not saved."""
    advice: str
    """Text to follow "Try"."""


def explain(model: VideoModel, state: TrainState, batch: FailedBatch, workdir: Path) -> Explanation:
    """Repeat a failed step and report where it broke. Saves its batch to `workdir` first."""
    saved = save(batch, workdir)
    # Local copies: every process would have to take part in an operation on arrays shared by all of them.
    params, rng = jax.tree.map(lambda array: array.addressable_data(0), (state.params, state.rng))
    params = jax.tree.map(np.asarray, params)
    keys = example_keys(jax.random.fold_in(rng, batch.step), jnp.asarray(batch.numbers))
    video = batch.arrays["video"].astype(np.float32) / 255.0
    found = first_nonfinite(model, params, video, keys)
    if found is None:
        part = "" if jax.process_count() == 1 else " on this process's part of the batch (see the others' messages)"
        return Explanation(f"when repeated{part}, everything is finite", saved, _NOT_AGAIN)
    if found.video is None:
        return Explanation(found.what, saved, found.advice)
    number, first = batch.places[found.video]
    of_batch = f"video {batch.numbers[found.video]} of the batch"
    where = f"{of_batch} (video {number} of the dataset, from its frame {first})"
    return Explanation(f"{found.what} in {where}; t and videos count from 0, r from 1", saved, found.advice)


def unexplained(error: Exception) -> Explanation:
    """Return the explanation for a step whose repetition failed."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return Explanation(f"the loss is NaN or Inf, and the step could not be repeated ({reason})", "", _OF_TRAINING)


def first_nonfinite(
    model: VideoModel, params: Params, video: Float[Array | np.ndarray, "B T H W C"], keys: Key[Array, " B"]
) -> Finding | None:
    """Find the first quantity that is not finite: in the parameters, in the model in order, then in the gradient."""
    found = _in_trace(model, params, video, keys) or _in_gradient(model, params, video, keys)
    for name, leaf in _leaves(params):
        if not np.isfinite(leaf).all():
            parameter = f"parameter {name} is {_kind(leaf)} before the step"
            return Finding(f"{parameter}, and so {found.what}", found.video) if found else Finding(parameter, None)
    return found


def save(batch: FailedBatch, workdir: Path) -> str:
    """Write the batch to `failed_step_N.npz`, N from 1. Returns a sentence about the result, followed by a blank."""
    part = "" if jax.process_count() == 1 else f"_process_{jax.process_index()}"
    path = workdir / f"failed_step_{batch.step + 1}{part}.npz"
    data = io.BytesIO()
    arrays: dict[str, Any] = {**batch.arrays, "index": batch.numbers, "places": batch.places}
    np.savez_compressed(data, **arrays)
    try:
        write_atomic(path, data.getvalue())
    except OSError as error:  # a full disk must not hide the actual message
        return f"Its batch could not be saved ({error}). "
    return f"Its batch is in {path}. "


def _in_trace(model, params, video, keys) -> Finding | None:
    for part in trace(model, params, jnp.asarray(video), keys):
        values = np.asarray(part.value)
        bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
        if bad.any():
            first = int(bad.argmax())
            cell = f"cell (t={part.frame}, r={part.decode})" if part.decode else f"frame t={part.frame}"
            advice = _OF_DATA if part.name == "input" else _OF_TRAINING
            others = f" (and in {bad.sum() - 1} others of {len(bad)})" if bad.sum() > 1 else ""
            return Finding(f"{part.name} of {cell} is {_kind(values[first])}{others}", first, advice)
    return None


def _in_gradient(model, params, video, keys) -> Finding | None:
    """Check the loss and gradient of one video after another, then the norm of their mean."""
    value_and_grad = jax.jit(jax.value_and_grad(lambda *clips: model.loss(*clips).loss))
    mean = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params)
    for i in range(len(video)):
        loss, grads = jax.device_get(value_and_grad(params, video[i : i + 1], keys[i : i + 1]))
        for name, values in [
            ("loss", loss),
            *((f"gradient with respect to parameter {n}", g) for n, g in _leaves(grads)),
        ]:
            if not np.isfinite(values).all():
                return Finding(f"{name} is {_kind(values)}, although everything before it is finite,", i)
        mean = jax.tree.map(lambda total, grad: total + grad / len(video), mean, grads)
    if np.isfinite(optax.tree.norm(mean)):
        return None
    name, largest = max(((n, float(np.abs(g).max())) for n, g in _leaves(mean)), key=lambda pair: pair[1])
    return Finding(f"the gradient's norm overflows: its largest entry, of parameter {name}, is {largest:.3g}", None)


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def _kind(values: Any) -> str:
    """Return the kind of a non-finite value. Infinities take precedence over the NaN they cause."""
    bad = np.ravel(values)[~np.isfinite(np.ravel(values))]
    return str(bad[np.isnan(bad).argmin()])
