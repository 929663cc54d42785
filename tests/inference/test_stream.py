"""Frames of a recording, decomposed one by one."""

import jax
import numpy as np
import pytest
from toy import ToyModel, make_config

from stii_jax.evaluation.evaluator import Evaluator
from stii_jax.inference.recordings import RecordedFrame
from stii_jax.inference.stream import Stream
from stii_jax.runs.setup import load_dataset

pytestmark = pytest.mark.usefixtures("quick_compiles")

SIZE = 8


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, SIZE, SIZE, 3), dtype=np.uint8)


def recorded(frames):
    return (RecordedFrame(frame, frame, t / 25) for t, frame in enumerate(frames))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "refinements"), [({}, {1, 2}), ({"eval__schedule": "constant", "eval__first_noise": "mean"}, {2})]
)
def test_the_real_model_as_in_the_evaluation(tmp_path, changes, refinements):
    config = make_config(tmp_path, **changes)
    evaluator = Evaluator(config, load_dataset(config))
    assert set(evaluator.model.schedule(7)) == refinements
    params = evaluator.model.init(jax.random.key(0))
    batch = noise(4, 7)
    past, future = evaluator.predict(params, batch, np.arange(4), 2)
    items = list(Stream(evaluator.model, params).run(recorded(batch[0]), 2))
    masks = np.concatenate([past.masks[0], future.masks[0]])
    np.testing.assert_allclose(np.stack([item.decomposition.masks[0, 0] for item in items]), masks, atol=1e-4)


def test_frames_are_not_kept():
    """One frame is read ahead, whatever the length."""
    asked = 0

    def frames():
        nonlocal asked
        for frame in recorded(noise(20)):
            asked += 1
            yield frame

    model = ToyModel(SIZE)
    for number, _ in enumerate(Stream(model, model.init(jax.random.key(0))).run(frames())):
        assert asked <= number + 2
