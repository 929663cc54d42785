"""One tiny model, its parameters and its compiled functions, shared by all tests of models."""

import jax
import pytest
import tiny


@pytest.fixture(scope="session")
def model():
    return tiny.build()


@pytest.fixture(scope="session")
def params(model):
    """Made larger than they start, and none of them zero, so that every term matters."""
    params = tiny.jit(model.init)(jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return tree.unflatten([a + 0.2 * jax.random.normal(key, a.shape) for a, key in zip(leaves, keys)])


@pytest.fixture(scope="session")
def video():
    return jax.random.uniform(jax.random.key(2), (tiny.B, tiny.T, tiny.H, tiny.W, tiny.C))


@pytest.fixture(scope="session")
def keys():
    return jax.random.split(jax.random.key(3), tiny.B)
