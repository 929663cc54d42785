"""A run small enough for tests: 8x8 pixels, two slots, and a few matrix products instead of the real model.

Everything around the model (steps, devices, chunks, checkpoints, logs) is the same for both. XLA would need a minute to
compile the real model on a slow core. `OVERRIDES` alone give the smallest real model.
"""

import contextlib
import functools
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from stii_jax.config import load_config, to_json
from stii_jax.evaluation import metrics
from stii_jax.evaluation.evaluator import Evaluator
from stii_jax.models import registry
from stii_jax.models.recurrent import zero_state
from stii_jax.models.state import UnrollOutputs, VideoState
from stii_jax.models.stii import STII
from stii_jax.storage.checkpoints import Checkpointer
from stii_jax.training import loop, nan_trace
from stii_jax.training.optimizer import make_optimizer
from stii_jax.training.state import init_state
from stii_jax.training.step import make_train_step
from stii_jax.types import Decomposition

DATA = {
    "data.variant": "mini",
    "data.options.image_size": 8,
    "data.options.box_size": 10.0,
    "data.options.radii": (1.5, 2.0),
    "data.options.num_balls": (1, 2),
    "data.options.num_frames": 6,
    "data.options.num_train": 16,
    "data.options.num_validation": 8,
    "data.options.num_test": 8,
    "data.num_frames": 2,
    "data.num_threads": 1,
}
MODEL = {
    "model.num_slots": 2,
    "model.num_refinements": 2,
    "model.latent_dim": 2,
    "model.hidden_dim": 4,
    "model.decoder_channels": 4,
    "model.refiner_channels": 4,
    "model.feature_dim": 4,
    "model.prior_dim": 4,
}
RUN = {
    "batch_size": 4,
    "optim.learning_rate": 0.01,
    "train.num_steps": 8,
    "train.log_every": 2,
    "train.eval_every": 4,
    "train.checkpoint_every": 2,
    "eval.lengths": (2, 5),
    "eval.chunk_frames": 2,
    "eval.batch_size": 4,
    "eval.num_videos": 6,
    "eval.periodic_videos": 4,
    "eval.observed_frames": 3,
    "eval.predict_frames": 2,
    "eval.num_pictures": 1,
}
TIMES = ("time", "seconds_per_step", "cells_per_second")
"""Logged timings; everything else is the same in a repeated run."""


def overrides(data_dir: Path, **changes: Any) -> list[str]:
    """Return the overrides of a toy run; `changes` have `__` for the dots: `train__num_steps=4`."""
    settings = DATA | MODEL | RUN | {"data.data_dir": data_dir}
    settings |= {key.replace("__", "."): value for key, value in changes.items()}
    return [f"{key}={value}" for key, value in settings.items()]


def make_config(data_dir: Path, preset: str = "paper", **changes: Any) -> ConfigDict:
    """Return the config of a toy run."""
    return load_config(f"default:{preset}", overrides(data_dir, **changes))


def save_run(folder: Path, params: Any, **changes: Any) -> None:
    """Write the workdir of a toy run of three steps, without its dataset; `changes` as for `make_config`."""
    folder.mkdir()
    config = make_config(Path("/nowhere"), **changes)
    (folder / "config.json").write_text(to_json(config))
    checkpointer = Checkpointer(folder / "checkpoints")
    checkpointer.save(3, params, {"rest": jnp.zeros(1)}, {"model": config.model.to_dict(), "step": 3})
    checkpointer.close()


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """Collect the names of the functions that JAX compiles within the context."""
    names: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record):
            if found := re.match(r"Compiling (\S+)", record.getMessage()):
                names.append(found[1])

    listener, logger = Listener(), logging.getLogger("jax")
    logger.addHandler(listener)
    with jax.log_compiles():
        yield names
    logger.removeHandler(listener)


def use_toy_model(patch: pytest.MonkeyPatch, few_metrics: bool = True) -> None:
    """Train and evaluate with a `ToyModel`; `few_metrics` leaves out those that take long to compile.

    Runs with the same settings share their programs across tests, because tracing takes most of their time.
    `forget_programs` makes later runs trace again.
    """

    def toy_model(config, image_size, num_slots=0, system="", kind=None):
        return _shared_model(image_size, num_slots or config.model.num_slots, few_metrics)

    for user in (loop, registry):
        patch.setattr(user, "make_model", toy_model)
    if few_metrics:
        patch.setattr(metrics, "METRICS", {name: metrics.METRICS[name] for name in ("ari", "f_ari", "mse")})
    patch.setattr(loop, "make_optimizer", _shared_optimizer)
    patch.setattr(loop, "make_train_step", _shared_step)
    patch.setattr(loop, "init_state", lambda *of: jax.tree.map(jnp.copy, _shared_state(*of)))
    patch.setattr(Evaluator, "__init__", _with_shared_programs)


def forget_programs() -> None:
    """Make later runs trace their own programs."""
    for shared in (_shared_model, _shared_optimizer, _shared_step, _shared_state, _shared_programs):
        shared.cache_clear()


@functools.cache
def _shared_model(image_size, num_slots, few_metrics):
    return ToyModel(image_size, num_slots)


_shared_optimizer = functools.cache(make_optimizer)
_shared_step = functools.cache(make_train_step)
_shared_state = functools.cache(init_state)


@functools.cache
def _shared_programs(model, kind, num_objects):
    return {}


_init_evaluator = Evaluator.__init__


def _with_shared_programs(evaluator, config, source):
    _init_evaluator(evaluator, config, source)
    evaluator._compiled = _shared_programs(evaluator.model, evaluator.kind, source.num_objects)


class ToyModel(STII):
    """Provides the parts of `STII` that the program uses: slots, noise per video and frame, a state between frames."""

    def __init__(self, image_size: int, num_slots: int = 2):
        self.num_slots, self.latent_dim, self.hidden_dim = num_slots, 2, 4
        self.num_refinements, self.schedule_kind, self.observed_fraction = 2, "triangular", 1.0
        self.frame_shape = (image_size, image_size, 3)

    def init(self, key):
        pixels = self.frame_shape[0] ** 2
        shapes = {
            "see": (pixels * 3, self.hidden_dim),
            "remember": (self.hidden_dim, self.hidden_dim),
            "guess": (self.hidden_dim, 2 * self.latent_dim),
            "draw": (self.latent_dim, pixels * 4),
        }
        keys = jax.random.split(key, len(shapes))
        params = {n: 0.3 * jax.random.normal(k, shape) for k, (n, shape) in zip(keys, shapes.items())}
        return params | {"initial_posterior": jax.random.normal(key, (2 * self.latent_dim,))}

    def unroll(self, params, video, keys, state=None, schedule=None):
        state = self.initial_state(params, video.shape[0]) if state is None else state
        frames = []
        for t in range(video.shape[1]):
            frame = video[:, t]
            seen = frame.reshape(frame.shape[0], 1, -1) @ params["see"]
            h = jnp.tanh(seen + state.temporal.h @ params["remember"] + jnp.arange(self.num_slots)[:, None])
            posterior = h @ params["guess"]
            state = VideoState(state.temporal._replace(h=h), posterior, state.frame + 1)
            means, masks = self._draw(params, posterior, keys, state.frame)
            error = jnp.square(frame - (means * masks[..., None]).sum(1)).sum((1, 2, 3))
            frames.append((means, masks, posterior, error, jnp.square(posterior).sum((1, 2))))
        means, masks, posterior, error, kl = (jnp.stack(parts, 1) for parts in zip(*frames))
        terms = {"log_likelihood": -error, "kl": kl, "mask_entropy": 0 * kl}
        decomposition = Decomposition(means, masks, posterior)
        return UnrollOutputs(decomposition, (error + 0.01 * kl).sum(), jnp.zeros((video.shape[1], 3)), terms), state

    def log_likelihood(self, video, decomposition):
        return -jnp.square(video - decomposition.reconstruction).sum(-1)

    def predict(self, params, state, num_frames, keys=None):
        frames = []
        for _ in range(num_frames):
            h = jnp.tanh(state.temporal.h @ params["remember"])
            before, state = state.frame, VideoState(state.temporal._replace(h=h), h @ params["guess"], state.frame + 1)
            frames.append((*self._draw(params, state.posterior, keys, before), state.posterior))
        return Decomposition(*(jnp.stack(parts, 1) for parts in zip(*frames))), state

    def stream(self, params, state, frame, keys):
        return self.decompose(params, frame[:, None], keys, state)

    def initial_state(self, params, batch_size):
        posterior = jnp.broadcast_to(params["initial_posterior"], (batch_size, self.num_slots, 2 * self.latent_dim))
        return VideoState(zero_state(batch_size, self.num_slots, self.hidden_dim), posterior, jnp.int32(0))

    def _draw(self, params, posterior, keys=None, frame=None):
        """Means and masks of one frame, with sampling if keys are given."""
        z = posterior[..., : self.latent_dim]
        if keys is not None:
            draw = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, frame), z.shape[1:]))
            z = z + 0.1 * draw(keys)
        image = (z @ params["draw"]).reshape(*z.shape[:2], *self.frame_shape[:2], 4)
        return jax.nn.sigmoid(image[..., :3]), jax.nn.softmax(image[..., 3], axis=1)


@nan_trace.trace.register
def _(model: ToyModel, params, video, keys):
    """The toy has no cells."""
    return nan_trace.by_frames(model, params, video, keys, ("posterior", "means", "masks"))
