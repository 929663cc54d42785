"""One step of training: a pure function of state and batch, mapped over devices."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from stii_jax.devices.parallel import AXIS, DataParallel, data_parallel
from stii_jax.evaluation import metrics
from stii_jax.models.video_model import VideoModel, example_keys
from stii_jax.training.state import TrainState
from stii_jax.types import Batch

Logs = Mapping[str, jax.Array | np.float32]


def train_step(
    model: VideoModel,
    optimizer: optax.GradientTransformation,
    num_objects: int,
    state: TrainState,
    batch: Batch,
    index: jax.Array,
    accumulation: int = 1,
) -> tuple[TrainState, Logs]:
    """Take one step on a device's part of the batch; `index` numbers its videos within the whole batch.

    The device processes its part in `accumulation` pieces, one after the other, and needs memory for only one.
    """
    keys = example_keys(jax.random.fold_in(state.rng, state.step), index)
    batch_size = lax.psum(index.size, AXIS)

    def of_piece(piece):
        return _loss_and_gradients(model, num_objects, batch_size, state.params, *piece)

    (loss, grads), per_video = _in_pieces(of_piece, (batch, keys), accumulation)
    loss, grads = lax.psum((loss, grads), AXIS)
    grad_norm = optax.tree.norm(grads)
    updates, opt_state = optimizer.update(grads, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)

    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    failed = jnp.where((state.failed_step < 0) & ~finite, state.step, state.failed_step)
    params, opt_state = jax.tree.map(
        lambda new, old: jnp.where(failed < 0, new, old), (params, opt_state), (state.params, state.optimizer)
    )
    new_state = TrainState(state.step + 1, params, opt_state, state.rng, failed)
    logs = {name: _mean_over_videos(values) for name, values in per_video.items()}
    return new_state, {"loss": loss, "grad_norm": grad_norm, **logs}


def _loss_and_gradients(model, num_objects, batch_size, params, batch, keys):
    """Return some videos' contribution to the loss and its gradients, and the logged values per video."""
    video = batch["video"].astype(jnp.float32) / 255.0

    def loss_fn(params):
        outputs = model.loss(params, video, keys)
        return outputs.loss / batch_size, outputs

    (loss, outputs), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    per_video = {name: term.mean(1) for name, term in outputs.terms.items()}
    per_video |= {
        name: metrics.METRICS[name](outputs.decomposition, batch, num_objects)
        for name in ("mse", *(("ari", "f_ari") if "segmentation" in batch else ()))
    }
    per_video["plain_mse"] = metrics.plain_mse(batch)
    shares = metrics.slot_shares(outputs.decomposition)
    per_video |= {f"slot_share_{number + 1}": shares[:, number] for number in range(shares.shape[1])}
    return (loss, grads), per_video


def _in_pieces(function, inputs, count):
    """Compute `function(inputs) -> (sums, per_video)` on `count` pieces of the inputs, one after the other."""
    if count == 1:
        return function(inputs)
    pieces = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), inputs)

    def add(total, piece):
        sums, per_video = function(piece)
        return jax.tree.map(jnp.add, total, sums), per_video

    first = jax.tree.map(lambda x: x[0], pieces)
    nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(function, first)[0])
    total, per_video = lax.scan(add, nothing, pieces)
    return total, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), per_video)


def _mean_over_videos(values: jax.Array) -> jax.Array:
    """Return the mean of the defined values over the whole batch; a video without foreground has no F-ARI."""
    defined = ~jnp.isnan(values)
    total, count = lax.psum((jnp.where(defined, values, 0.0).sum(), defined.sum()), AXIS)
    return total / count


def make_train_step(
    model: VideoModel,
    optimizer: optax.GradientTransformation,
    num_objects: int,
    parallel: str = "pmap",
    accumulation: int = 1,
) -> DataParallel:
    """Return `train_step` over all devices: `(state, batch, index) -> (state, logs)`; the state is donated."""

    def step(state, batch, index):
        return train_step(model, optimizer, num_objects, state, batch, index, accumulation)

    return data_parallel(step, parallel, shared_outputs=True, donate_first=True)
