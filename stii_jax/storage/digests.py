"""Digests of what a checkpoint holds: Orbax and tensorstore do not notice a flipped bit in a large array."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def name_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their path, as `encoder/kernel`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def describe_form(leaf: Any) -> str:
    """Type and shape, as `float32[3,8]`; of a PRNG key, those of its data, which is how keys are saved."""
    if not hasattr(leaf, "dtype"):
        leaf = np.asarray(leaf)
    elif jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def digest_leaves(tree: Any) -> dict[str, str]:
    """The form of every leaf, a blank, and a digest of its bytes. Waits for the arrays."""
    return {name: f"{describe_form(leaf)} {_digest(_bytes(leaf))}" for name, leaf in name_leaves(tree).items()}


def digest_json(value: Mapping[str, Any]) -> str:
    """A digest of JSON: the same for what is written and for what is read."""
    return _digest(json.dumps(json.loads(json.dumps(value)), sort_keys=True).encode())


def _bytes(leaf: Any) -> bytes:
    if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if isinstance(leaf, jax.Array) and leaf.is_fully_replicated:
        leaf = leaf.addressable_data(0)  # in a run of several processes, this one's copy
    return np.asarray(leaf).tobytes()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
