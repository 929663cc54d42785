"""The first 20 losses and gradient norms of the smallest models, to detect a refactoring that changes them.

They are stored in `golden/PLATFORM.json`. After an intended change of the mathematics, renew them on a single device
per platform:

    python tests/test_golden.py
"""

import functools
import json
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from toy import make_config

from stii_jax.devices.parallel import data_parallel
from stii_jax.models.registry import make_model
from stii_jax.runs.setup import load_dataset
from stii_jax.training.optimizer import make_optimizer
from stii_jax.training.state import init_state
from stii_jax.training.step import train_step

STEPS = 20
TOLERANCE = 5e-4
"""Tolerance relative to a curve's mean size.

On one, two and four CPU devices, with and without XLA's optimisations, curves differ by at most 4e-5, from rounding
that grows step by step. A change of sigma by one per cent exceeds three times the tolerance.
"""
IODINE = {"model__conditional_prior": False, "model__conditional_decoder": False, "model__posterior_start": "learned"}
RNEM = {"num_slots": 2, "hidden_dim": 4, "encoder_channels": (4,), "feature_dim": 4, "attention_dim": 4}
DDPAE = {"num_slots": 2, "hidden_dim": 4, "feature_dim": 4, "content_dim": 4, "object_size": 4, "encoder_channels": 2}
WEIGHTS = {"loss__log_likelihood": 1.0, "loss__kl": 10.0, "loss__mask_entropy": 1.0}  # makes all terms visible
MODELS = {
    "paper": WEIGHTS,
    "provide": {"preset": "provide", **WEIGHTS},
    "iodine": {"system": "iodine", **IODINE, **WEIGHTS},
    "rnem": {"system": "rnem", **{f"rnem__{name}": value for name, value in RNEM.items()}},
    "ddpae": {"system": "ddpae", **{f"ddpae__{name}": value for name, value in DDPAE.items()}},
}
"""Presets and systems, with every term of their losses."""


def golden_file() -> Path:
    return Path(__file__).parent / "golden" / f"{jax.default_backend()}.json"


def curves(data_dir, name, num_devices=1, **changes):
    """Return loss and gradient norm of the first steps."""
    config = make_config(data_dir, data__num_frames=3, optim__learning_rate=1e-3, **MODELS[name] | changes)
    source = load_dataset(config)
    model = make_model(config, source.image_size)
    optimizer = make_optimizer(**config.optim, num_steps=STEPS)
    step = data_parallel(
        functools.partial(train_step, model, optimizer, source.num_objects),
        shared_outputs=True,
        devices=jax.devices()[:num_devices],
    )
    state, lines = init_state(model, optimizer, config.seed), []
    batches = source.train_batches(config.data.num_frames, config.batch_size, config.seed)
    for _, batch in zip(range(STEPS), batches):
        state, logs = step(state, batch, np.arange(config.batch_size))
        lines.append([float(logs["loss"]), float(logs["grad_norm"])])
    return np.array(lines).T


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def golden():
    if not golden_file().is_file():
        pytest.skip(f"no numbers of {jax.default_backend()}: `python tests/test_golden.py` there makes the file")
    return json.loads(golden_file().read_text())["models"]


def difference(found, golden):
    """Return the largest difference over the steps, in losses and gradient norms, relative to the curve's mean size."""
    expected = np.array([golden["loss"], golden["grad_norm"]])
    return np.max(np.abs(found - expected) / np.abs(expected).mean(1, keepdims=True))


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compiles")
@pytest.mark.parametrize("name", MODELS)
def test_losses_are_those_that_were(data_dir, golden, name):
    found = curves(data_dir, name)
    assert difference(found, golden[name]) < TOLERANCE, f"{name}: losses {found[0].tolist()}"


MUTATIONS = {
    "sigma one per cent larger": {"model__sigma": 0.303},
    "no mask entropy": {"loss__mask_entropy": 0.0},
    "no KL": {"loss__kl": 0.0},
}


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compiles")
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_small_change_of_the_mathematics_is_seen(data_dir, golden, mutation):
    found = curves(data_dir, "paper", **MUTATIONS[mutation])
    assert difference(found, golden["paper"]) > 3 * TOLERANCE


def main() -> None:
    """Write the numbers of this platform."""
    with tempfile.TemporaryDirectory() as folder:
        found = {name: curves(Path(folder), name) for name in MODELS}
    models = {
        name: {key: [float(f"{value:.7g}") for value in row] for key, row in zip(("loss", "grad_norm"), rows)}
        for name, rows in found.items()
    }
    golden_file().parent.mkdir(exist_ok=True)
    golden_file().write_text(json.dumps({"jax": jax.__version__, "models": models}, indent=1) + "\n")


if __name__ == "__main__":
    main()
