"""Digests of a checkpoint's contents, because Orbax and tensorstore miss a flipped bit in a large array."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def name_leaves(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree keyed by their path, such as `encoder/kernel`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def describe_form(leaf: Any) -> str:
    """Return type and shape, such as `float32[3,8]`. A PRNG key is described by its data, as which it is saved."""
    if not hasattr(leaf, "dtype"):
        leaf = np.asarray(leaf)
    elif jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def digest_leaves(tree: Any) -> dict[str, str]:
    """Return the form of every leaf, a blank, and a digest of its bytes. Waits for the arrays."""
    return {name: f"{describe_form(leaf)} {_digest(_bytes(leaf))}" for name, leaf in name_leaves(tree).items()}


def digest_json(value: Mapping[str, Any]) -> str:
    """Return a digest of a JSON object, the same before writing and after reading."""
    return _digest(json.dumps(json.loads(json.dumps(value)), sort_keys=True).encode())


def _bytes(leaf: Any) -> bytes:
    if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if isinstance(leaf, jax.Array) and leaf.is_fully_replicated:
        leaf = leaf.addressable_data(0)  # this process's copy
    return np.asarray(leaf).tobytes()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
