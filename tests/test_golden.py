"""The first 20 losses and gradient norms of the smallest models, as numbers: a refactoring that changes them is seen.

They lie in `golden/PLATFORM.json`. A change of the mathematics that is meant renews them, on one device of a kind:

    python tests/test_golden.py
"""

import functools
from pathlib import Path

import jax
import numpy as np
from toy import make_config

from stii_jax.evaluate import make_model
from stii_jax.main import open_source
from stii_jax.optim import make_optimizer
from stii_jax.parallel import data_parallel
from stii_jax.state import init_state
from stii_jax.train import train_step

STEPS = 20
IODINE = {"model__conditional_prior": False, "model__conditional_decoder": False, "model__posterior_start": "learned"}
RNEM = {"num_slots": 2, "hidden_dim": 4, "encoder_channels": (4,), "feature_dim": 4, "attention_dim": 4}
DDPAE = {"num_slots": 2, "hidden_dim": 4, "feature_dim": 4, "content_dim": 4, "object_size": 4, "encoder_channels": 2}
MODELS = {
    "paper": {"loss__mask_entropy": 0.1},
    "provide": {"preset": "provide", "loss__mask_entropy": 0.1},
    "iodine": {"system": "iodine", **IODINE},
    "rnem": {"system": "rnem", **{f"rnem__{name}": value for name, value in RNEM.items()}},
    "ddpae": {"system": "ddpae", **{f"ddpae__{name}": value for name, value in DDPAE.items()}},
}
"""Presets and systems, with every term of their losses."""


def golden_file() -> Path:
    return Path(__file__).parent / "golden" / f"{jax.default_backend()}.json"


def curves(data_dir, name, num_devices=1, **changes):
    """Loss and gradient norm of the first steps."""
    config = make_config(data_dir, data__num_frames=3, optim__learning_rate=1e-3, **MODELS[name] | changes)
    source = open_source(config)
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
