"""The optimiser against numbers worked out by hand."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stii_jax.training.optimizer import make_optimizer, make_schedule

SETTINGS = {"name": "sgd", "learning_rate": 0.1, "warmup_steps": 0, "decay": "constant", "clip_norm": 100.0}


def steps(gradients, num_steps=10, **changes):
    """Return the parameter after each step, from 0."""
    optimizer = make_optimizer(**SETTINGS | changes, num_steps=num_steps)
    params, path = jnp.zeros_like(jnp.asarray(gradients[0])), []
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        path.append(np.asarray(params))
    return path


@pytest.mark.parametrize(
    ("warmup", "decay", "expected"),
    [
        (0, "constant", {0: 1.0, 5: 1.0, 20: 1.0}),
        (4, "constant", {0: 0.0, 1: 0.25, 3: 0.75, 4: 1.0, 9: 1.0}),
        (0, "cosine", {0: 1.0, 4: 0.5, 8: 0.0, 20: 0.0}),
        # From step 2 on, half a cosine over the six steps left: cos(pi / 3) = 1/2.
        (2, "cosine", {0: 0.0, 1: 0.5, 2: 1.0, 4: 0.75, 6: 0.25, 8: 0.0}),
    ],
)
def test_schedule(warmup, decay, expected):
    schedule = make_schedule(1.0, warmup, decay, num_steps=8)
    for step, value in expected.items():
        assert float(schedule(step)) == pytest.approx(value, abs=1e-6), step


def test_sgd_takes_the_gradient_as_it_is():
    np.testing.assert_allclose(steps([[1.0, -2.0], [3.0, 0.0]]), [[-0.1, 0.2], [-0.4, 0.2]], rtol=1e-6)


def test_sgd_follows_the_schedule():
    path = steps([[1.0], [1.0], [1.0]], warmup_steps=2)
    np.testing.assert_allclose(path, [[0.0], [-0.05], [-0.15]], rtol=1e-6)


def test_the_norm_of_the_whole_gradient_is_clipped():
    np.testing.assert_allclose(steps([[3.0, 4.0]], clip_norm=1.0), [[-0.06, -0.08]], rtol=1e-6)
    np.testing.assert_allclose(steps([[0.3, 0.4]], clip_norm=1.0), [[-0.03, -0.04]], rtol=1e-6)


def test_adam_by_hand():
    # First step: m / (1 - 0.9) = g and v / (1 - 0.999) = g^2, so the step is the learning rate for any gradient.
    # Second, with gradients 1 and -1: m = -0.01, v = 0.001999, corrected by 0.19 and 0.001999.
    path = steps([[1.0], [-1.0]], name="adam")
    np.testing.assert_allclose(path, [[-0.1], [-0.1 + 0.1 * 0.01 / 0.19]], rtol=1e-4)
