"""The 2D-LSTM against slow numpy, and the ordinary LSTM that it contains."""

import jax
import numpy as np
import pytest
from tiny import jit

from stii_jax.models.recurrent import LSTM2D, LSTMState, zero_state

D, I = 4, 5
ZERO = LSTMState(np.zeros((2, 3, D), np.float32), np.zeros((2, 3, D), np.float32))


def apply(form, params, *inputs):
    return jit(LSTM2D(D, form).apply)({"params": params}, *inputs)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def case():
    """Input, temporal and refinement state, and parameters."""
    rng = np.random.default_rng(0)
    x, *states = (rng.normal(size=(2, 3, n)).astype(np.float32) for n in (I, D, D, D, D))
    params = {"kernel": rng.normal(size=(I + 2 * D, 5 * D)), "bias": rng.normal(size=5 * D)}
    params = {"Dense_0": jax.tree.map(np.float32, params)}
    return x, LSTMState(*states[:2]), LSTMState(*states[2:]), params


def slow(form, x, temporal, refinement, params):
    """(h, c) of one slot, gate by gate and unit by unit."""
    kernel, bias = (np.asarray(params["Dense_0"][name], np.float64) for name in ("kernel", "bias"))
    inputs = np.concatenate([x, temporal.h, refinement.h], dtype=np.float64)
    h, c = np.zeros(D), np.zeros(D)
    for unit in range(D):
        gates = [inputs @ kernel[:, gate * D + unit] + bias[gate * D + unit] for gate in range(5)]
        write, new, out = sigmoid(gates[0]), np.tanh(gates[1]), sigmoid(gates[2])
        if form == "md":
            kept = sigmoid(gates[3]) * temporal.c[unit] + sigmoid(gates[4]) * refinement.c[unit]
        else:
            blend = sigmoid(gates[4])
            kept = sigmoid(gates[3]) * (blend * temporal.c[unit] + (1 - blend) * refinement.c[unit])
        c[unit] = write * new + kept
        h[unit] = out * np.tanh(c[unit])
    return h, c


@pytest.mark.parametrize("form", ["md", "stable"])
def test_cell_against_loops(form):
    x, temporal, refinement, params = case()
    h, state = apply(form, params, x, temporal, refinement)
    np.testing.assert_array_equal(h, state.h)
    for index in np.ndindex(2, 3):
        one = LSTMState(*(a[index] for a in temporal)), LSTMState(*(a[index] for a in refinement))
        expected = slow(form, x[index], *one, params)
        np.testing.assert_allclose(state.h[index], expected[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(state.c[index], expected[1], rtol=1e-4, atol=1e-6)


def ordinary_lstm(x, state, kernel, bias):
    """The textbook cell, with gates i, g, o, f."""
    i, g, o, f = np.split(np.concatenate([x, state.h], -1) @ kernel + bias, 4, -1)
    c = sigmoid(f) * state.c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


@pytest.mark.parametrize("missing", ["refinement", "temporal"])
def test_with_one_state_zero_md_is_an_ordinary_lstm_of_the_other(missing):
    x, temporal, refinement, params = case()
    kernel, bias = params["Dense_0"]["kernel"], params["Dense_0"]["bias"]
    if missing == "refinement":
        kept, rows, gate = temporal, np.r_[0 : I + D], 3
        _, state = apply("md", params, x, temporal, ZERO)
    else:
        kept, rows, gate = refinement, np.r_[0:I, I + D : I + 2 * D], 4
        _, state = apply("md", params, x, ZERO, refinement)
    columns = np.r_[0 : 3 * D, gate * D : (gate + 1) * D]
    h, c = ordinary_lstm(x, kept, kernel[np.ix_(rows, columns)], bias[columns])
    np.testing.assert_allclose(state.h, h, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.c, c, rtol=1e-4, atol=1e-6)


def test_md_is_the_default():
    assert LSTM2D(D).form == "md"


def test_a_video_starts_with_nothing():
    for actual, expected in zip(zero_state(2, 3, D), ZERO):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(("form", "expected"), [("md", [0, 0, 0, 1, 1]), ("stable", [0, 0, 0, 1, 0])])
def test_a_new_cell_remembers(form, expected):
    x, temporal, refinement, _ = case()
    params = jit(LSTM2D(D, form).init)(jax.random.key(0), x, temporal, refinement)["params"]
    np.testing.assert_array_equal(params["Dense_0"]["bias"], np.repeat(expected, D))


def test_stable_cell_never_adds_up_its_memories():
    """If both memories are equal, the blend equals them, and forgetting can only shrink it."""
    x = case()[0]
    params = {"Dense_0": {"kernel": np.zeros((I + 2 * D, 5 * D), np.float32), "bias": np.zeros(5 * D, np.float32)}}
    ones = ZERO._replace(c=np.ones((2, 3, D), np.float32))
    _, stable = apply("stable", params, x, ones, ones)
    _, md = apply("md", params, x, ones, ones)
    np.testing.assert_array_equal(stable.c, np.full((2, 3, D), 0.5))
    np.testing.assert_array_equal(md.c, np.ones((2, 3, D)))
