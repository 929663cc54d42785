"""Learn the parameters of `models.motion` from the tracks that a trained model found.

No image is decoded. The loss has two parts. The first is the distance between predicted and found positions in a
rollout of `horizon` frames. The second is the error of the codes of slots moved to their positions in another frame.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Key

from stii_jax.models.motion import HISTORY, MotionModel, rollout
from stii_jax.types import Params

STEPS_PER_CALL = 100
_TOLERANCE = 0.003  # in units of the frame: the loss is quadratic for smaller errors and linear for larger ones
_AVERAGING = 0.99  # decay of the parameters' moving average, which is the result
_DROPPED = 0.1  # share of histories shortened in training, to imitate objects that have just entered the view


class Tracks(NamedTuple):
    """The tracks that a model found in `N` videos of `T` frames; fields as in `models.motion.Recent`."""

    code: Float[np.ndarray, "N T K D"]
    position: Float[np.ndarray, "N T K 2"]
    area: Float[np.ndarray, "N T K"]


class Clip(NamedTuple):
    """Clips of `T` frames from `B` videos, in the order that `MotionModel` expects."""

    code: Float[Array, "B K T D"]
    position: Float[Array, "B K T 2"]
    area: Float[Array, "B K T"]

    def split(self) -> tuple["Clip", "Clip"]:
        """Return the history, and the frames to predict."""
        return Clip(*(a[:, :, :HISTORY] for a in self)), Clip(*(a[:, :, HISTORY:] for a in self))


class Learned(NamedTuple):
    """Learned parameters, and their errors on held-out tracks."""

    params: Params
    errors: dict[str, float]
    """Mean distance between predicted and found positions after `horizon` frames, in units of the frame's side.

    The keys are `motion`, and `velocity` for the extrapolation of the last two positions.
    """


def split(tracks: Tracks) -> tuple[Tracks, Tracks]:
    """Split tracks into training and held-out ones. One video in ten, but at least one, is held out."""
    held_out = max(1, len(tracks.area) // 10)
    return Tracks(*(a[held_out:] for a in tracks)), Tracks(*(a[:held_out] for a in tracks))


def learn(
    model: MotionModel,
    tracks: Tracks,
    *,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
    horizon: int,
    symmetries: bool,
    seed: int,
    report: Callable[[int, float], Any] = lambda step, loss: None,
) -> Learned:
    """Learn a motion model.

    Args:
        model: the functions whose parameters are learned.
        tracks: at least two videos of `HISTORY + horizon` frames or more.
        num_steps: number of Adam steps.
        batch_size: clips per step.
        learning_rate: initial value; it decays to zero along a cosine.
        horizon: predicted frames per clip.
        symmetries: True to mirror, rotate and time-reverse clips at random.
        seed: seed for parameters, clips and their random changes.
        report: called every `STEPS_PER_CALL` steps with the step and the mean loss of these steps.
    """
    training, held_out = split(tracks)
    on_device = jax.tree.map(jnp.asarray, training)
    init_key, key = jax.random.split(jax.random.key(seed))
    params = model.init(init_key)
    scale = _spread(training.code)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))
    )

    def step(carry, number):
        params, averaged, state = carry
        clip_key, change_key, place_key = jax.random.split(jax.random.fold_in(key, number), 3)
        clip = _clips(clip_key, on_device, batch_size, HISTORY + horizon)
        if symmetries:
            clip = _change(change_key, clip, can_turn=not model.predicts_codes)
        clip = clip._replace(area=_shorten(jax.random.fold_in(change_key, 1), clip.area))
        pairs = _pairs(place_key, on_device, batch_size)
        loss, gradients = jax.value_and_grad(
            lambda params: _motion_loss(model, params, clip, scale) + _placement_loss(model, params, pairs, scale)
        )(params)
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        averaged = jax.tree.map(lambda old, new: _AVERAGING * old + (1 - _AVERAGING) * new, averaged, params)
        return (params, averaged, state), loss

    @jax.jit
    def steps(carry, numbers):
        return lax.scan(step, carry, numbers)

    carry = (params, params, optimizer.init(params))
    for start in range(0, num_steps, STEPS_PER_CALL):
        numbers = jnp.arange(start, min(start + STEPS_PER_CALL, num_steps))
        carry, losses = steps(carry, numbers)
        report(int(numbers[-1]) + 1, float(losses.mean()))
    learned = dict(carry[1])
    learned["noise"] = jnp.float32(_errors(model, learned, held_out, 1)["typical"])
    errors = _errors(model, learned, held_out, horizon)
    return Learned(learned, {name: errors[name] for name in ("motion", "velocity")})


def _clips(key: Key[Array, ""], tracks: Tracks, count: int, length: int) -> Clip:
    """Random clips."""
    num_videos, num_frames = tracks.area.shape[:2]
    keys = jax.random.split(key)
    video = jax.random.randint(keys[0], (count, 1), 0, num_videos)
    frames = jax.random.randint(keys[1], (count, 1), 0, num_frames - length + 1) + jnp.arange(length)
    return Clip(*(jnp.asarray(a)[video, frames].swapaxes(1, 2) for a in tracks))


def _change(key: Key[Array, ""], clip: Clip, can_turn: bool) -> Clip:
    """Mirror each clip, rotate it by a multiple of 90 degrees and reverse it in time, at random.

    Codes cannot be mirrored or rotated. With `can_turn` False, clips are only reversed.
    """
    keys = jax.random.split(key, 3)
    count = len(clip.area)
    position = clip.position
    turned, reversed_ = (jax.random.bernoulli(k, shape=(count, 1, 1)) for k in keys[1:])
    if can_turn:
        flips = 1.0 - 2.0 * jax.random.bernoulli(keys[0], shape=(count, 1, 1, 2))
        position = jnp.where(turned[..., None], position[..., ::-1], position) * flips

    def reverse(series):
        return jnp.where(reversed_.reshape(count, *[1] * (series.ndim - 1)), series[:, :, ::-1], series)

    return Clip(reverse(clip.code), reverse(position), reverse(clip.area))


def _shorten(key: Key[Array, ""], area: Float[Array, "B K T"]) -> Float[Array, "B K T"]:
    """Set the areas to zero in the first frames of some tracks."""
    keys, shape = jax.random.split(key), (*area.shape[:2], 1)
    first = jax.random.bernoulli(keys[0], _DROPPED, shape) * jax.random.randint(keys[1], shape, 0, HISTORY)
    return jnp.where(jnp.arange(area.shape[-1]) < first, 0.0, area)


def _pairs(key: Key[Array, ""], tracks: Tracks, count: int) -> tuple[Tracks, Tracks]:
    """The same slots in two random frames of each of `count` videos, as two `Tracks` of arrays `N K ...`."""
    num_videos, num_frames = tracks.area.shape[:2]
    keys = jax.random.split(key)
    video = jax.random.randint(keys[0], (count,), 0, num_videos)
    frames = jax.random.randint(keys[1], (2, count), 0, num_frames)
    first, second = (jax.tree.map(lambda a, t=t: a[video, t], tracks) for t in frames)
    return first, second


def _motion_loss(model: MotionModel, params: Params, clip: Clip, scale: jax.Array) -> jax.Array:
    """Mean distance between predicted and found positions of visible objects, in units of ten tolerances.

    If the model predicts codes, their mean squared error is added, in units of `scale`.
    """
    past, future = clip.split()
    codes, predicted = rollout(model, params, past.code, past.position, past.area, future.area.shape[2])
    squared = jnp.square(predicted - future.position).sum(-1)
    counts = (future.area > 0) & (past.area[:, :, -1:] > 0)
    distance = jnp.sqrt(squared + _TOLERANCE**2)
    loss = distance.mean(where=counts) / (10 * _TOLERANCE)
    return loss if codes is None else loss + jnp.square((codes - future.code) / scale).mean(-1).mean(where=counts)


def _placement_loss(model: MotionModel, params: Params, pairs: tuple[Tracks, Tracks], scale: jax.Array) -> jax.Array:
    """Mean squared error of the codes of slots moved to their positions in another frame, in units of `scale`."""
    start, end = pairs
    moved = model.place(params, *map(jnp.asarray, (start.code, start.position, end.position)))
    counts = (start.area > 0) & (end.area > 0)
    return jnp.square((moved - end.code) / scale).mean(-1).mean(where=counts)


def _spread(code: Float[np.ndarray, "N T K D"]) -> jax.Array:
    """Standard deviation of each entry of a code, but at least a hundredth of the largest one."""
    spread = code.reshape(-1, code.shape[-1]).std(axis=0)
    return jnp.asarray(np.maximum(spread, 0.01 * spread.max() + 1e-6))


def _errors(model: MotionModel, params: Params, tracks: Tracks, horizon: int) -> Mapping[str, float]:
    """Distances between predicted and found positions after `horizon` frames, over all clips of these tracks."""
    windows = range(0, tracks.area.shape[1] - HISTORY - horizon + 1, HISTORY)
    clips = (np.concatenate([a[:, t : t + HISTORY + horizon] for t in windows]) for a in tracks)
    clip = Clip(*(jnp.asarray(a).swapaxes(1, 2) for a in clips))
    past, future = clip.split()
    predict = jax.jit(lambda past: rollout(model, params, past.code, past.position, past.area, horizon)[1][:, :, -1])
    counts = np.asarray((clip.area > 0).all(-1))
    velocity = past.position[:, :, -1] + horizon * (past.position[:, :, -1] - past.position[:, :, -2])
    found = {"motion": predict(past), "velocity": velocity}
    errors = {name: np.linalg.norm(at - future.position[:, :, -1], axis=-1)[counts] for name, at in found.items()}
    if not counts.any():
        return dict.fromkeys((*found, "typical"), float("nan"))
    return {name: float(e.mean()) for name, e in errors.items()} | {"typical": float(np.median(errors["motion"]))}
