"""Helpers that save and compare the states in tests of checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stii_jax.storage.checkpoints import Checkpointer

META = {"model": {"num_slots": 5, "schedule": "triangular"}, "stage": 1, "stages": [[6, 16, 100]]}


def make_params(width: int = 8, seed: int = 0):
    rng = np.random.default_rng(seed)
    return {
        "encoder": {"kernel": jnp.asarray(rng.normal(size=(3, width)), jnp.float32)},
        "decoder": {"bias": jnp.asarray(rng.normal(size=width), jnp.bfloat16)},
    }


def make_state(params, step: int = 0):
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.constant_schedule(1e-3)))
    return {
        "optimiser": optimiser.init(params),
        "step": jnp.int32(step),
        "rng": jax.random.key(step),
        "best": 0.1 * step,
        "nothing": None,
    }


def assert_same(restored, expected):
    assert jax.tree.structure(restored) == jax.tree.structure(expected)
    for left, right in zip(jax.tree.leaves(restored), jax.tree.leaves(expected)):
        if hasattr(left, "dtype") and jnp.issubdtype(left.dtype, jax.dtypes.prng_key):
            left, right = jax.random.key_data(left), jax.random.key_data(right)
        assert np.asarray(left).dtype == np.asarray(right).dtype
        assert np.asarray(left).tobytes() == np.asarray(right).tobytes()


def save(folder, *steps: int):
    checkpointer = Checkpointer(folder)
    for step in steps:
        params = make_params(seed=step)
        checkpointer.save(step, params, make_state(params, step), META | {"stage": step})
    checkpointer.close()


def restore(folder, width: int = 8, step: int | None = None):
    checkpointer = Checkpointer(folder)
    try:
        params = make_params(width)
        return checkpointer.restore(params, make_state(params), step)
    finally:
        checkpointer.close()
