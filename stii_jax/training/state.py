"""The training state, carried from one step to the next."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from stii_jax.models.video_model import VideoModel
from stii_jax.storage.digests import name_leaves
from stii_jax.types import Params


class TrainState(NamedTuple):
    """The training state, a pytree. Data position and curriculum follow from it and the checkpoint's meta."""

    step: jax.Array
    """Number of steps taken, int32."""
    params: Params
    optimizer: optax.OptState
    rng: jax.Array
    """The run's key. It never changes: the noise of a step is `fold_in(rng, step)`."""
    failed_step: jax.Array
    """The first step whose loss or gradient was not finite, or -1. After it, parameters no longer change."""


def init_state(model: VideoModel, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """Return the state before the first step."""
    init_key, rng = jax.random.split(jax.random.key(seed))
    params = jax.jit(model.init)(init_key)
    return TrainState(jnp.int32(0), params, optimizer.init(params), rng, jnp.int32(-1))


def start_from(
    state: TrainState, optimizer: optax.GradientTransformation, params: Mapping[str, jax.Array]
) -> TrainState:
    """Return the state before the first step with some parameters, keyed by their path in the tree, replaced."""
    leaves = [jnp.array(params.get(path, leaf)) for path, leaf in name_leaves(state.params).items()]
    replaced = jax.tree.unflatten(jax.tree.structure(state.params), leaves)
    return state._replace(params=replaced, optimizer=optimizer.init(replaced))


def split_params(state: TrainState) -> tuple[Params, dict[str, Any]]:
    """Split the state into the two items of a checkpoint: parameters, and the rest."""
    rest = state._asdict()
    return rest.pop("params"), rest
