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


def scene(seed, num_frames):
    """Return a texture that becomes a little brighter from frame to frame."""
    texture = np.random.default_rng(seed).integers(0, 200, (SIZE, SIZE, 3))
    return [(texture + t).astype(np.uint8) for t in range(num_frames)]


@pytest.fixture(scope="module")
def toy():
    model = ToyModel(SIZE, num_slots=3)
    return model, model.init(jax.random.key(0))


def run(toy, frames, num_predicted=0):
    stream = Stream(*toy)
    items = list(stream.run(recorded(frames), num_predicted))
    return [jax.tree.map(np.asarray, item.decomposition) for item in items], stream


def background_of(decompositions):
    return np.bincount(np.concatenate([found.segmentation.ravel() for found in decompositions]), minlength=3).argmax()


def assert_equal(found, expected, order=(0, 1, 2)):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[:, :, order], atol=1e-6), found, expected)


def test_at_a_cut_the_model_starts_anew_and_the_background_keeps_its_slot(toy):
    orders = set()
    for seed in range(6):
        first, second = scene(2 * seed, 12), scene(2 * seed + 1, 4)
        whole, stream = run(toy, first + second, 2)
        assert stream.remarks.facts["cuts"] == [12]
        before, after = run(toy, first)[0], run(toy, second, 2)[0]
        order = np.arange(3)
        slots = [background_of(before[:10]), background_of(after[:1])]
        order[slots] = slots[::-1]
        orders.add(tuple(order.tolist()))
        for found, expected in zip(whole, before):
            assert_equal(found, expected)
        for found, expected in zip(whole[12:], after, strict=True):
            assert_equal(found, expected, order)
    assert len(orders) > 1, "in some video another slot takes the background"


def test_blank_frames_belong_to_the_background_and_leave_the_state_alone(toy):
    frames = scene(0, 7)
    expected, _ = run(toy, frames)
    blank = np.full((SIZE, SIZE, 3), 102, np.uint8)
    found, stream = run(toy, [*frames[:4], blank, blank, *frames[4:], blank], 1)
    assert stream.remarks.facts["blank_frames"] == [(4, 5), (9, 9)] and stream.monitor.num_frames == 7
    for after, before in zip(found[:4] + found[6:9], expected, strict=True):
        assert_equal(after, before)
    for number in (4, 5, 9):
        assert (found[number].segmentation == background_of(expected)).all()
        np.testing.assert_allclose(found[number].reconstruction, 0.4)
        assert found[number].masks.max() == 1 and jax.tree.map(np.shape, found[number]) == jax.tree.map(
            np.shape, expected[0]
        )
    assert_equal(found[10], run(toy, frames, 1)[0][-1])


def test_a_video_that_begins_or_consists_of_blank_frames(toy):
    frames, blank = scene(0, 3), np.zeros((SIZE, SIZE, 3), np.uint8)
    expected, _ = run(toy, frames)
    found, _ = run(toy, [blank, *frames])
    assert (found[0].segmentation == 0).all() and background_of(found[1:2]) == 0
    order = np.arange(3)
    order[[0, background_of(expected[:1])]] = background_of(expected[:1]), 0
    for after, before in zip(found[1:], expected, strict=True):
        assert_equal(after, before, order)
    found, stream = run(toy, [blank] * 3)
    assert all((one.segmentation == 0).all() for one in found) and stream.damage is None
    assert stream.monitor.compare(None)["relative_error"]["video"] == 0


def test_tiles_are_videos_of_their_own(toy):
    """The first tile gives the same results as alone, also at a cut and in blank frames."""
    black = np.zeros((SIZE, SIZE, 3), np.uint8)
    views = [*scene(0, 12), *scene(1, 4), black, *scene(1, 2)]
    expected, alone = run(toy, views)
    frames = [RecordedFrame(view, np.stack([view, view[::-1]]), t / 25, view) for t, view in enumerate(views)]
    stream = Stream(*toy, num_tiles=2)
    found = [jax.tree.map(np.asarray, item.decomposition) for item in stream.run(frames)]
    assert stream.remarks.facts == alone.remarks.facts and stream.remarks.facts["cuts"] == [12]
    for both, first in zip(found, expected, strict=True):
        assert_equal(jax.tree.map(lambda array: array[:1], both), first)


def test_remarks_are_on_frames_with_their_background(toy):
    """Without the background, an empty scene is black, and an object's entrance looks like a new scene."""
    black, views = np.zeros((SIZE, SIZE, 3), np.uint8), [*scene(0, 5), *scene(1, 5)]
    views[2] = black
    frames = [RecordedFrame(view, view, t / 25, plain) for t, (view, plain) in enumerate(zip(views, scene(2, 10)))]
    stream = Stream(*toy)
    assert len(list(stream.run(frames))) == 10
    assert stream.remarks.facts == {"cuts": [], "blank_frames": [], "num_empty_frames": 0, "is_bright": False}
