"""The 2D-LSTM, a cell fed by the previous frame and the previous refinement. Paper section 3.2.1."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class LSTMState(NamedTuple):
    """Hidden and cell state of every slot."""

    h: Float[Array, "*B D"]
    c: Float[Array, "*B D"]


def zero_state(*shape: int) -> LSTMState:
    """Return the initial state; `shape` ends with D."""
    return LSTMState(jnp.zeros(shape), jnp.zeros(shape))


class LSTM2D(nn.Module):
    """An LSTM cell with two previous states, temporal and refinement (equations 6 to 8 and step 8).

    `form` "md" has one forget gate per state: `c = i g + f_t c_t + f_r c_r` (Graves et al. 2007). "stable" has one
    forget gate and one gate that blends the states: `c = f (l c_t + (1 - l) c_r) + i g`. Both return `h = o tanh(c)`.
    """

    hidden_dim: int
    form: str = "md"

    @nn.compact
    def __call__(
        self, x: Float[Array, "*B I"], temporal: LSTMState, refinement: LSTMState
    ) -> tuple[Float[Array, "*B D"], LSTMState]:
        inputs = jnp.concatenate([x, temporal.h, refinement.h], axis=-1)
        gates = nn.Dense(5 * self.hidden_dim, bias_init=self._forget_bias)(inputs)
        i, g, o, first, second = jnp.split(gates, 5, axis=-1)
        i, g, o = jax.nn.sigmoid(i), jnp.tanh(g), jax.nn.sigmoid(o)
        first, second = jax.nn.sigmoid(first), jax.nn.sigmoid(second)
        if self.form == "md":
            c = i * g + first * temporal.c + second * refinement.c
        else:
            c = first * (second * temporal.c + (1 - second) * refinement.c) + i * g
        h = o * jnp.tanh(c)
        return h, LSTMState(h, c)

    def _forget_bias(self, key, shape, dtype=jnp.float32):
        """Return biases of one for the forget gates and zero for the others, so that a new network remembers."""
        forget = [1.0, 1.0] if self.form == "md" else [1.0, 0.0]
        return jnp.repeat(jnp.array([0.0, 0.0, 0.0, *forget], dtype), self.hidden_dim)
