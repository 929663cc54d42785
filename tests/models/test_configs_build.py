"""Every choice of the config makes a model: structure only, nothing is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from stii_jax.config import CHOICES, config_names, default_config, load_config
from stii_jax.models.stii import STII

SETTINGS = tiny.settings_of()
CHANGES = [
    {field.removeprefix("model."): value}
    for field, values in CHOICES.items()
    for value in values
    if field.startswith("model.") and SETTINGS[field.removeprefix("model.")] != value
]
CHANGES += [{name: not value} for name, value in SETTINGS.items() if isinstance(value, bool)]
CHANGES += [{}, {"num_slots": 1}, {"num_refinements": 1}, {"height": 12, "width": 4, "channels": 1}]


def build(config, image_size):
    weights = config.loss.to_dict()
    kind = weights.pop("refinement_weights")
    frame = {"height": image_size, "width": image_size, "channels": 3}
    return STII(**frame, weights=weights, refinement_weights=kind, **config.model.to_dict())


def num_parameters(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    "changes", CHANGES, ids=lambda changes: " ".join(f"{k}={v}" for k, v in changes.items()) or "default"
)
def test_every_choice_builds(changes):
    model = tiny.build(**changes)
    params = jax.eval_shape(model.init, jax.random.key(0))
    state = jax.eval_shape(lambda params: model.initial_state(params, 2), params)
    frame = jax.ShapeDtypeStruct((2, *model.frame_shape), jnp.float32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
    out, after = jax.eval_shape(model.stream, params, state, frame, keys)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(lambda a: (a.shape, a.dtype), state)
    height, width, channels = model.frame_shape
    assert out.means.shape == (2, 1, model.num_slots, height, width, channels)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [("paper", 2_845_508), ("provide", 2_844_932)],  # one leave-one-out channel less: 3 x 3 x 64 weights
)
def test_number_of_parameters(preset, expected):
    params = jax.eval_shape(build(default_config(preset), 64).init, jax.random.key(0))
    assert num_parameters(params) == expected


def test_number_of_parameters_by_part():
    """Counted by hand from appendix C, for 64x64 pixels."""
    params = jax.eval_shape(build(default_config(), 64).init, jax.random.key(0))

    def conv(inputs, outputs):
        return 9 * inputs * outputs + outputs

    def dense(inputs, outputs):
        return inputs * outputs + outputs

    decoder = dense(64 + 128, 64) + dense(64, 64) + conv(66, 64) + 3 * conv(64, 64) + conv(64, 4)
    encoder = conv(17, 64) + 3 * conv(64, 64) + dense(16 * 16 * 64, 128)
    lstm = dense(128 + 128 + 128 + 2 * 128, 5 * 128)
    parts = {name: num_parameters(part) for name, part in params.items()}
    assert parts == {
        "decoder": decoder,
        "refiner": encoder + lstm + dense(128, 128),
        "prior": dense(128, 128) + dense(128, 128),
        "initial_posterior": 128,
    }


@pytest.mark.parametrize("name", config_names())
def test_every_shipped_config_builds(name):
    config = load_config(name)
    params = jax.eval_shape(build(config, 64).init, jax.random.key(0))
    assert {"decoder", "refiner", "initial_posterior"} <= set(params)


def test_learned_start_is_uniform_and_shared_by_the_slots():
    model = tiny.build(latent_dim=64)
    start = tiny.jit(lambda key: model.init(key)["initial_posterior"])(jax.random.key(0))
    assert start.shape == (128,)
    assert -0.5 <= start.min() < -0.4 and 0.4 < start.max() <= 0.5
    state = tiny.jit(lambda start: model.initial_state({"initial_posterior": start}, 2))(start)
    np.testing.assert_array_equal(state.posterior, np.broadcast_to(start, (2, tiny.K, 128)))
