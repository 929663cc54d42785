"""Where a NaN or Inf arose: a failed step is repeated on its batch, quantity by quantity.

The batch is a function of seed and step, the noise of key and step, and the parameters are still those before the step.
All of it is local: several processes look at their own parts of the batch, and none waits for another.
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
_NOT_AGAIN = "to go on from the last checkpoint; if it comes again elsewhere, the device or its memory may be at fault"


class Finding(NamedTuple):
    """The first thing that is not finite."""

    what: str
    """Such as "log_likelihood of cell (t=2, r=4) is inf"."""
    video: int | None
    """Its number among the videos that were looked at; None of what is not a single video's."""
    advice: str = _OF_TRAINING


class FailedBatch(NamedTuple):
    """What one process had of the batch of a failed step."""

    step: int
    """Counted from 0, as in `TrainState`; in messages steps count from 1."""
    arrays: dict[str, np.ndarray]
    """`video` and, where there are labels, `segmentation`."""
    numbers: Int[np.ndarray, " B"]
    """Numbers of these videos within the whole batch."""
    places: Int[np.ndarray, "B 2"]
    """Of each video its number in the dataset's split, and the clip's first frame."""


class Explanation(NamedTuple):
    """Parts of a message."""

    cause: str
    saved: str
    """Where the batch is, as a sentence with a blank after it; "" where it is not."""
    advice: str
    """After "Try"."""


def explain(model: VideoModel, state: TrainState, batch: FailedBatch, workdir: Path) -> Explanation:
    """What the repetition of a step shows; leaves its batch in `workdir` before."""
    saved = save(batch, workdir)
    # Local copies: an operation on arrays that lie on all processes' devices would have to be run by all of them.
    params, rng = jax.tree.map(lambda array: array.addressable_data(0), (state.params, state.rng))
    params = jax.tree.map(np.asarray, params)
    keys = example_keys(jax.random.fold_in(rng, batch.step), jnp.asarray(batch.numbers))
    video = batch.arrays["video"].astype(np.float32) / 255.0
    found = first_nonfinite(model, params, video, keys)
    if found is None:
        part = "" if jax.process_count() == 1 else " on this process's part of the batch (see what the others say)"
        return Explanation(f"repeated{part}, all of it is finite", saved, _NOT_AGAIN)
    if found.video is None:
        return Explanation(found.what, saved, found.advice)
    number, first = batch.places[found.video]
    of_batch = f"video {batch.numbers[found.video]} of the batch"
    where = f"{of_batch} (video {number} of the dataset, from its frame {first})"
    return Explanation(f"{found.what} in {where}; t and videos count from 0, r from 1", saved, found.advice)


def unexplained(error: Exception) -> Explanation:
    """What to say where the repetition failed."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return Explanation(f"the loss is NaN or Inf, and the step could not be repeated ({reason})", "", _OF_TRAINING)


def first_nonfinite(
    model: VideoModel, params: Params, video: Float[Array | np.ndarray, "B T H W C"], keys: Key[Array, " B"]
) -> Finding | None:
    """The first quantity that is not finite: parameters, then the model's in their order, then the loss's gradient."""
    found = _in_trace(model, params, video, keys) or _in_gradient(model, params, video, keys)
    for name, leaf in _leaves(params):
        if not np.isfinite(leaf).all():
            parameter = f"parameter {name} is {_kind(leaf)} before the step"
            return Finding(f"{parameter}, and so {found.what}", found.video) if found else Finding(parameter, None)
    return found


def save(batch: FailedBatch, workdir: Path) -> str:
    """Writes the batch to `failed_step_N.npz`, N from 1; a sentence with a blank after it says where, or why not."""
    part = "" if jax.process_count() == 1 else f"_process_{jax.process_index()}"
    path = workdir / f"failed_step_{batch.step + 1}{part}.npz"
    data = io.BytesIO()
    arrays: dict[str, Any] = {**batch.arrays, "index": batch.numbers, "places": batch.places}
    np.savez_compressed(data, **arrays)
    try:
        write_atomic(path, data.getvalue())
    except OSError as error:  # a full disk is not to hide what the message is for
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
    """Loss and gradient of one video after another, and the norm of their mean."""
    value_and_grad = jax.jit(jax.value_and_grad(lambda *clips: model.loss(*clips).loss))
    mean = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params)
    for i in range(len(video)):
        loss, grads = jax.device_get(value_and_grad(params, video[i : i + 1], keys[i : i + 1]))
        for name, values in [("loss", loss), *((f"gradient by parameter {n}", g) for n, g in _leaves(grads))]:
            if not np.isfinite(values).all():
                return Finding(f"{name} is {_kind(values)}, though all before it is finite,", i)
        mean = jax.tree.map(lambda total, grad: total + grad / len(video), mean, grads)
    if np.isfinite(optax.tree.norm(mean)):
        return None
    name, largest = max(((n, float(np.abs(g).max())) for n, g in _leaves(mean)), key=lambda pair: pair[1])
    return Finding(f"the gradient's norm overflows: by parameter {name} it is {largest:.3g}", None)


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def _kind(values: Any) -> str:
    """Infinities are named before the NaN that they turn into."""
    bad = np.ravel(values)[~np.isfinite(np.ravel(values))]
    return str(bad[np.isnan(bad).argmin()])
