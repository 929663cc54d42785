"""A NaN or Inf is traced to the cell, the term and the video in which it began."""

import errno

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import make_config, use_toy_model

from stii_jax.data import DataError, VideoDataset
from stii_jax.models.registry import make_model
from stii_jax.models.video_model import LossOutputs, VideoModel, example_keys
from stii_jax.runs.setup import load_dataset
from stii_jax.training import nan_search
from stii_jax.training.loop import Trainer, TrainingError
from stii_jax.training.nan_search import first_nonfinite
from stii_jax.training.nan_trace import trace
from stii_jax.types import Decomposition

pytestmark = pytest.mark.usefixtures("quick_compiles")

VIDEOS, FRAMES = 4, 3
SMALL = {"model__num_refinements": 2, "ddpae__object_size": 4, "ddpae__num_slots": 2, "ddpae__hidden_dim": 4}
SMALL |= {"rnem__encoder_channels": (4,), "rnem__num_slots": 2, "rnem__hidden_dim": 4, "rnem__feature_dim": 4}
IODINE = {"model__conditional_prior": False, "model__conditional_decoder": False, "model__posterior_start": "learned"}


def build(tmp_path, **changes):
    """Build the smallest real model, its parameters, and the other inputs of its loss."""
    model = make_model(make_config(tmp_path, **SMALL, **changes), 8)
    params = jax.device_get(jax.jit(model.init)(jax.random.key(0)))
    video = np.random.default_rng(0).random((VIDEOS, FRAMES, 8, 8, 3)).astype(np.float32)
    return model, params, video, example_keys(jax.random.key(1), jnp.arange(VIDEOS))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return build(tmp_path_factory.mktemp("data"), model__posterior_start="learned")


def changed(params, path, change):
    """Return a copy of the parameters with `change` applied to the leaf at `path`."""
    head, _, rest = path.partition("/")
    return {**params, head: changed(params[head], rest, change) if rest else change(np.array(params[head]))}


def set_to(value, start=0, stop=None):
    """Return a change of a range of a leaf."""

    def change(leaf):
        leaf.ravel()[start:stop] = value
        return leaf

    return change


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "decodes"),
    [
        ({}, (3, 2, 2)),
        ({"preset": "provide"}, (2, 2, 2)),
        ({"loss__observed_fraction": 0.7}, (3, 2)),
        ({"system": "iodine", **IODINE}, (3, 3, 3)),
    ],
    ids=["paper", "provide", "predicted", "iodine"],
)
def test_the_trace_is_what_the_loss_computes(tmp_path, changes, decodes):
    """Every decode has the values of the scans, in order, so the trace cannot diverge from the loss."""
    model, params, video, keys = build(tmp_path, **changes)
    parts = list(trace(model, params, jnp.asarray(video), keys))
    losses = jax.jit(model.loss)(params, video, keys)
    for t in range(FRAMES):
        last = {part.name: part.value for part in parts if part.frame == t}
        for term, values in losses.terms.items():
            np.testing.assert_allclose(last[term], values[:, t], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(last["means"], losses.decomposition.means[:, t], rtol=1e-3, atol=1e-4)
        posterior = last.get("refined posterior", last["posterior"])
        np.testing.assert_allclose(posterior, losses.decomposition.posterior[:, t], rtol=1e-3, atol=1e-3)
    found = [(part.frame, part.decode) for part in parts if part.name == "sample"]
    assert found == [(t, r) for t, count in enumerate(decodes) for r in range(1, count + 1)]
    assert all(len(part.value) == VIDEOS and np.isfinite(part.value).all() for part in parts)


LOG_SCALES = (2, 4)  # of the 2 Z parameters of a slot's posterior
WHOLE = (0, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "where", "value", "what"),
    [
        # Not finite before the step: the parameter and the first cell that it corrupts.
        ("decoder/Conv3x3_0/bias", (0, 1), np.inf, "means of cell (t=0, r=1) is nan"),
        ("decoder/Conv3x3_3/bias", (3, 4), np.inf, "mask logits of cell (t=0, r=1) is inf"),
        ("decoder/Dense_0/kernel", WHOLE, np.nan, "means of cell (t=0, r=1) is nan"),
        ("refiner/Dense_0/bias", (0, 1), -np.inf, "refined posterior of cell (t=0, r=1) is -inf"),
        ("prior/Dense_1/bias", (0, 1), np.inf, "prior of frame t=0 is inf"),
        ("initial_posterior", (0, 1), np.nan, "posterior of frame t=0 is nan"),
        # Finite, but so large that the results overflow.
        ("initial_posterior", LOG_SCALES, 100.0, "sample of cell (t=0, r=1) is inf"),
        ("initial_posterior", LOG_SCALES, 50.0, "kl of cell (t=0, r=1) is inf"),
        ("refiner/Dense_0/bias", LOG_SCALES, 100.0, "sample of cell (t=0, r=2) is inf"),
        ("prior/Dense_1/bias", LOG_SCALES, -60.0, "kl of cell (t=0, r=1) is inf"),
    ],
)
def test_parameters_that_spoil_a_cell(real, path, where, value, what):
    model, params, video, keys = real
    found = first_nonfinite(model, changed(params, path, set_to(value, *where)), video, keys)
    shown = what.replace("inf", "-inf") if f"is -{what.split(' is ')[1]}" in found.what else what  # noise has a sign
    parameter = "" if np.isfinite(value) else f"parameter {path} is {value} before the step, and so "
    assert found.what == f"{parameter}{shown} (and in 3 others of 4)"
    assert found.video == 0 and "optim.learning_rate" in found.advice


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "what", "advice"),
    [
        (np.nan, "input of frame t=1 is nan", "look at that video"),
        (1e30, "log_likelihood of cell (t=1, r=1) is -inf", "model.sigma"),
    ],
)
def test_a_frame_that_spoils_a_cell(real, value, what, advice):
    model, params, video, keys = real
    video = video.copy()
    video[2, 1, 3, 4, 0] = value
    found = first_nonfinite(model, params, video, keys)
    assert (found.what, found.video) == (what, 2) and advice in found.advice


class Formula(VideoModel):
    """A model whose loss is a formula of one parameter; its outputs are always finite."""

    num_slots, frame_shape = 1, (2, 2, 3)

    def __init__(self, formula):
        self.formula = formula

    def loss(self, params, video, keys):
        B, T, H, W, C = video.shape
        zeros = Decomposition(jnp.zeros((B, T, 1, H, W, C)), jnp.ones((B, T, 1, H, W)), jnp.zeros((B, T, 1, 2)))
        return LossOutputs(self.formula(params["a"], video.mean((1, 2, 3, 4))).sum(), {"kl": jnp.zeros((B, T))}, zeros)

    def init(self, key):
        return {"a": jnp.float32(0.0)}

    decompose = predict = initial_state = log_likelihood = None


@pytest.mark.parametrize(
    ("formula", "what", "video"),
    [
        (lambda a, x: a * x, None, None),
        (
            lambda a, x: jnp.sqrt(a + (x < 0.5)),
            "gradient with respect to parameter a is inf, although everything before it is finite,",
            1,
        ),
        (lambda a, x: x / (a + (x < 0.5)), "loss is inf, although everything before it is finite,", 1),
        (lambda a, x: 1e30 * a * x, "the gradient's norm overflows: its largest entry, of parameter a, is 5e+29", None),
    ],
)
def test_a_gradient_that_overflows(formula, what, video):
    clips = np.stack([np.full((2, 2, 2, 3), value, np.float32) for value in (0.25, 0.75)])
    keys = jax.random.split(jax.random.key(0), 2)
    found = first_nonfinite(Formula(formula), {"a": np.float32(0)}, clips, keys)
    assert found is None if what is None else (found.what, found.video) == (what, video)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "path", "what"),
    [
        ("rnem", "decoder/ResamplingConvolution_0/bias", "means of frame t=1 is nan"),
        ("rnem", "norm/bias", "means of frame t=1 is nan"),
        ("rnem", "relation/update/bias", "posterior of frame t=0 is nan"),
        ("ddpae", "object_decoder/Dense_0/bias", "means of frame t=0 is nan"),
        ("ddpae", "initial_head/Dense_0/bias", "posterior of frame t=0 is nan"),
    ],
)
def test_baselines_name_the_frame(tmp_path, system, path, what):
    model, params, video, keys = build(tmp_path, system=system)
    found = first_nonfinite(model, changed(params, path, set_to(np.nan)), video, keys)
    assert found.what == f"parameter {path} is nan before the step, and so {what} (and in 3 others of 4)"


def poison(patch, clip, frame):
    """Corrupt a source's batches: clip number `clip` in the order gets a NaN in `frame`."""
    clean = VideoDataset.train_batches

    def spoilt(self, num_frames, batch_size, *seed, start_step=0, process_index=0, process_count=1, **rest):
        rest |= {"start_step": start_step, "process_index": process_index, "process_count": process_count}
        own = batch_size // process_count
        for step, batch in enumerate(clean(self, num_frames, batch_size, *seed, **rest)):
            video = batch["video"].astype(np.float32)
            place = clip - (start_step + step) * batch_size - process_index * own
            if place in range(own) and frame < num_frames:
                video[place, frame, 0, 0, 0] = np.nan
            yield batch | {"video": video}

    patch.setattr(VideoDataset, "train_batches", spoilt)


@pytest.fixture
def poisoned_run(tmp_path_factory, tmp_path, monkeypatch):
    """A toy run whose second stage, of three frames, has a NaN in its third step, step 7 overall; and its source."""
    use_toy_model(monkeypatch)
    poison(monkeypatch, clip=10, frame=2)
    stages = {"train__num_steps": 4, "curriculum__stages": ((3, 4, 8),), "train__eval_every": 1000}
    config = make_config(tmp_path_factory.mktemp("data"), data__num_frames=2, **stages)
    source = load_dataset(config)
    return Trainer(config, source, source, tmp_path), source


def test_the_message_of_a_run(poisoned_run, tmp_path):
    trainer, source = poisoned_run
    with pytest.raises(TrainingError) as caught:
        trainer.run()
    message = str(caught.value)
    number, first = source.clip_locations(3, 1)(10)
    assert message.startswith(
        f"step 7: input of frame t=2 is nan in video 2 of the batch (video {number} of the dataset, from its frame "
        f"{first}); t and videos count from 0, r from 1. The loss or its gradient is not finite (mean loss nan). "
    )
    assert "the last good checkpoint is step 6. Its batch is in" in message
    assert message.endswith("Try to look at that video: the fault is in the data") and "\n" not in message
    with np.load(tmp_path / "failed_step_7.npz", allow_pickle=False) as saved:
        assert saved["index"].tolist() == [0, 1, 2, 3] and saved["places"][2].tolist() == [number, first]
        assert np.argwhere(np.isnan(saved["video"])).tolist() == [[2, 2, 0, 0, 0]]
        whole = source.builder.decode(source.builder.as_data_source("train")[number], 0, 6)
        np.testing.assert_array_equal(saved["segmentation"][2], whole["segmentation"][first : first + 3])
        np.testing.assert_array_equal(saved["video"][2, :2], whole["video"][first : first + 2])
    assert not list(tmp_path.glob("*.tmp"))


def test_a_full_disk_hides_nothing(poisoned_run, tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nan_search, "write_atomic", full)
    with pytest.raises(TrainingError, match=r"input of frame t=2 .* could not be saved \(.*No space left on device\)"):
        poisoned_run[0].run()
    assert not list(tmp_path.glob("failed_step*"))


def test_a_step_that_cannot_be_repeated(poisoned_run, monkeypatch):
    def lost(*_):
        raise DataError("the videos are gone,\nall of them")

    monkeypatch.setattr(Trainer, "_failed_batch", lost)
    reason = (
        r"could not be repeated \(DataError: the videos are gone, all of them\)\. .* checkpoint is step 6\. Try a lower"
    )
    with pytest.raises(TrainingError, match=reason):
        poisoned_run[0].run()
