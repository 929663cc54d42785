"""A NaN or Inf is traced to the cell, the term and the video in which it began."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import make_config, use_toy_model

from stii_jax import diagnose
from stii_jax.diagnose import FailedBatch, first_not_finite
from stii_jax.evaluate import example_keys, make_model
from stii_jax.main import open_source
from stii_jax.models.trace import trace
from stii_jax.models.video_model import Losses, VideoModel
from stii_jax.train import Trainer, TrainingError
from stii_jax.types import Decomposition

pytestmark = pytest.mark.usefixtures("quick_compiles")

VIDEOS, FRAMES = 4, 3
SMALL = {"ddpae__object_size": 4, "rnem__encoder_channels": (4,), "rnem__num_slots": 2, "ddpae__num_slots": 2}
FORWARD = {"model__num_refinements": 2}  # decodes a frame: 3, 2, 2


def build(tmp_path, **changes):
    """The smallest real model, its parameters, and what its loss takes."""
    config = make_config(tmp_path, **FORWARD, **SMALL, **changes)
    model = make_model(config, 8)
    params = jax.device_get(jax.jit(model.init)(jax.random.key(0)))
    video = np.random.default_rng(0).random((VIDEOS, FRAMES, 8, 8, 3)).astype(np.float32)
    return model, params, video, example_keys(jax.random.key(1), jnp.arange(VIDEOS))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return build(tmp_path_factory.mktemp("data"), model__posterior_start="learned")


def changed(params, path, change):
    """A copy of the parameters with the leaf at `path` put through `change`."""
    head, _, rest = path.partition("/")
    return params | {head: changed(params[head], rest, change) if rest else change(np.array(params[head]))}


def first_filled(value):
    def change(leaf):
        leaf.ravel()[0] = value
        return leaf

    return change


SYSTEMS = {
    "paper": {},
    "provide": {"preset": "provide"},
    "imagined": {"loss__observed_fraction": 0.7},
    "iodine": {
        "system": "iodine",
        "model__conditional_prior": False,
        "model__conditional_decoder": False,
        "model__posterior_start": "learned",
    },
    "rnem": {"system": "rnem"},
    "ddpae": {"system": "ddpae"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_trace_is_what_the_loss_computes(tmp_path, name):
    """All decodes, in order, with the very values of the scans: the trace cannot go its own way."""
    model, params, video, keys = build(tmp_path, **SYSTEMS[name])
    parts = list(trace(model, params, jnp.asarray(video), keys))
    losses = jax.jit(model.loss)(params, video, keys)
    for t in range(FRAMES):
        last = {part.name: part.value for part in parts if part.frame == t}
        for term, values in losses.terms.items():
            np.testing.assert_allclose(last[term], values[:, t], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(last["means"], losses.decomposition.means[:, t], rtol=1e-3, atol=1e-4)
        posterior = last.get("refined posterior", last["posterior"])
        np.testing.assert_allclose(posterior, losses.decomposition.posterior[:, t], rtol=1e-3, atol=1e-3)
    decodes = [(part.frame, part.decode) for part in parts if part.name == "sample"]
    counts = {"paper": (3, 2, 2), "provide": (2, 2, 2), "imagined": (3, 2), "iodine": (3, 3, 3)}.get(name, ())
    assert decodes == [(t, r) for t, count in enumerate(counts) for r in range(1, count + 1)]
    assert all(len(part.value) == VIDEOS for part in parts)
    assert first_not_finite(model, params, video, keys) is None
