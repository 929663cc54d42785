"""One tiny model, its parameters and its compiled functions, shared by all tests of models."""

import jax
import numpy as np
import pytest
import tiny


@pytest.fixture(scope="session")
def model():
    return tiny.build()


@pytest.fixture(scope="session")
def params():
    return tiny.params_of(tiny.build())


@pytest.fixture(scope="session")
def video():
    shape = (tiny.B, tiny.T, tiny.H, tiny.W, tiny.C)
    return jax.device_put(np.random.default_rng(1).random(shape).astype(np.float32))


@pytest.fixture(scope="session")
def keys():
    return jax.random.split(jax.random.key(3), tiny.B)
