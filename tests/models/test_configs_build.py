"""Every choice of the config builds a model. Only shapes are checked; nothing is compiled."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from stii_jax.config import CHOICES, config_names, default_config, flatten, load_config
from stii_jax.config.validation import own_systems
from stii_jax.models.registry import SYSTEMS, make_model, model_settings

ARGUMENTS = (
    *("balls:color,varied", "balls:color,iodine", "balls:binary,rnem", "balls:binary,ddpae"),
    *("balls:mixture,iodine", "balls:white,rnem", "balls:white,ddpae", "small:rnem", "small:ddpae"),
)
NUM_VIDEOS, NUM_FRAMES, SIZE = 2, 4, 64
SETTINGS = tiny.settings_of()
CHANGES = [
    {field.removeprefix("model."): value}
    for field, values in CHOICES.items()
    for value in values
    if field.startswith("model.") and SETTINGS[field.removeprefix("model.")] != value
]
CHANGES += [{name: not value} for name, value in SETTINGS.items() if isinstance(value, bool)]
CHANGES += [{}, {"num_slots": 1}, {"num_refinements": 1}, {"height": 12, "width": 4, "channels": 1}]


def shapes(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype), tree)


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
    assert shapes(after) == shapes(state)
    height, width, channels = model.frame_shape
    assert out.means.shape == (2, 1, model.num_slots, height, width, channels)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [("paper", 2_845_508), ("provide", 2_844_932)],  # one leave-one-out channel less: 3 x 3 x 64 weights
)
def test_number_of_parameters(preset, expected):
    params = jax.eval_shape(make_model(default_config(preset), 64).init, jax.random.key(0))
    assert num_parameters(params) == expected


def test_number_of_parameters_by_part():
    """Counted by hand from appendix C, for 64x64 pixels."""
    params = jax.eval_shape(make_model(default_config(), 64).init, jax.random.key(0))

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


SHIPPED = (*config_names(), *ARGUMENTS)


def load(name, system=""):
    """Load a shipped config, or that of another system, and the system's name."""
    config = load_config(name)
    system = system or config.system
    if SYSTEMS[system].is_stii and not SYSTEMS[system].predicts:
        config.model.update(conditional_prior=False, conditional_decoder=False, posterior_start="learned")
    return config, system


def test_a_config_can_name_every_system():
    own = own_systems(flatten(default_config()))
    assert {*CHOICES["eval.system"], *own} == {"", *SYSTEMS}
    assert {name: SYSTEMS[name].section for name in own} == {name: name for name in own}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_config_makes_a_model(name):
    config, system = load(name)
    model = make_model(config, SIZE, system=system)
    schedule = model.schedule(NUM_FRAMES)
    assert len(schedule) == NUM_FRAMES and min(schedule) >= 1
    params = jax.eval_shape(model.init, jax.random.key(0))
    state = jax.eval_shape(lambda params: model.initial_state(params, NUM_VIDEOS), params)
    assert num_parameters(params) > 0 and all(leaf.shape[:1] in {(), (NUM_VIDEOS,)} for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("name", "system"),
    [
        *(pytest.param(name, "", marks=pytest.mark.slow) for name in SHIPPED if name != "small"),
        *(("small", name) for name in ("", *SYSTEMS)),
    ],
)
def test_every_shipped_config_and_every_system_keeps_the_contract(name, system):
    """The shapes that training, evaluation and prediction expect of any model."""
    config, system = load(name, system)
    # Neither changes a shape, and both take long to trace.
    config.model.update(remat=False, num_refinements=2)
    keeps_the_contract(system, json.dumps(model_settings(config, system)), json.dumps(config.loss.to_dict()))


@functools.cache
def keeps_the_contract(system, settings, loss):
    """Check the model of a system with some settings, which several configs share."""
    config = default_config()
    config[SYSTEMS[system].section].update(json.loads(settings))
    config.loss.update(json.loads(loss))
    model = make_model(config, SIZE, system=system)
    assert model.frame_shape == (SIZE, SIZE, 3)
    params = jax.eval_shape(model.init, jax.random.key(0))
    state = jax.eval_shape(lambda params: model.initial_state(params, NUM_VIDEOS), params)
    video = jax.ShapeDtypeStruct((NUM_VIDEOS, NUM_FRAMES, SIZE, SIZE, 3), jnp.float32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), NUM_VIDEOS))

    losses = jax.eval_shape(model.loss, params, video, keys)
    assert losses.loss.shape == () and losses.loss.dtype == jnp.float32
    assert losses.terms and {term.shape for term in losses.terms.values()} == {(NUM_VIDEOS, NUM_FRAMES)}
    out, after = jax.eval_shape(model.decompose, params, video, keys)
    frame, next_state = jax.eval_shape(model.stream, params, state, jax.eval_shape(lambda v: v[:, 0], video), keys)
    assert shapes(after) == shapes(next_state) == shapes(state)
    outputs = [(losses.decomposition, NUM_FRAMES), (out, NUM_FRAMES), (frame, 1)]
    if SYSTEMS[system].predicts:
        predicted, end = jax.eval_shape(lambda params, state: model.predict(params, state, 3), params, after)
        assert shapes(end) == shapes(state)
        outputs.append((predicted, 3))
    for output, length in outputs:
        pixels = (NUM_VIDEOS, length, model.num_slots, SIZE, SIZE)
        assert output.means.shape == (*pixels, 3) and output.masks.shape == pixels
        assert output.posterior.shape[:3] == pixels[:3]


def test_learned_start_is_uniform_and_shared_by_the_slots():
    model = tiny.build(latent_dim=64)
    start = tiny.jit(lambda key: model.init(key)["initial_posterior"])(jax.random.key(0))
    assert start.shape == (128,)
    assert -0.5 <= start.min() < -0.4 and 0.4 < start.max() <= 0.5
    state = tiny.jit(lambda start: model.initial_state({"initial_posterior": start}, 2))(start)
    np.testing.assert_array_equal(state.posterior, np.broadcast_to(start, (2, tiny.K, 128)))
