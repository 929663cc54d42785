"""Invariance to cutting, batching and reordering slots, and predictions that do not depend on unseen frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import tiny

FRAMES = 7  # R_t: 3 2 1 1 1 1 1, long enough for the model to split it into a head and a tail
SIMILAR = {"rtol": 1e-5, "atol": 1e-5}


class Counted:
    """A compiled function that counts its traces."""

    def __init__(self, function, **options):
        def traced(*args):
            self.traces += 1
            return function(*args)

        self.traces, self._call = 0, tiny.jit(traced, **options)

    def __call__(self, *args):
        return self._call(*args)


@pytest.fixture(scope="module")
def model():
    return tiny.build(num_refinements=3)


@pytest.fixture(scope="module")
def long_video():
    shape = (tiny.B, FRAMES, tiny.H, tiny.W, tiny.C)
    return jax.device_put(np.random.default_rng(8).random(shape).astype(np.float32))


@pytest.fixture(scope="module")
def unroll(model):
    return Counted(model.unroll)


@pytest.fixture(scope="module")
def predict(model):
    return Counted(lambda params, state: model.predict(params, state, 3))


@pytest.fixture(scope="module")
def whole(unroll, params, long_video, keys):
    return unroll(params, long_video, keys)


@pytest.fixture(scope="module")
def head(unroll, params, long_video, keys):
    """The first three frames, and the state after them."""
    return unroll(params, long_video[:, :3], keys)


def assert_similar(actual, desired):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **SIMILAR), actual, desired)


def test_chunks_are_the_whole(model, params, long_video, keys, whole, head):
    first, state = head
    schedule = model.schedule(4, start=3)
    assert schedule == (1, 1, 1, 1)
    second, end = tiny.jit(lambda *args: model.unroll(*args, schedule))(params, long_video[:, 3:], keys, state)
    out, expected_end = whole
    parts = jax.tree.map(lambda a, b: np.concatenate([a, b], 1), first.decomposition, second.decomposition)
    assert_similar(parts, out.decomposition)
    assert_similar(end, expected_end)
    np.testing.assert_allclose(first.loss + second.loss, out.loss, rtol=1e-5)
    np.testing.assert_allclose(first.cell_elbo, out.cell_elbo[:3], rtol=1e-5)
    np.testing.assert_allclose(second.cell_elbo, out.cell_elbo[3:, [0, -1]], rtol=1e-5)


def test_frame_after_frame_is_the_whole(model, params, long_video, keys, whole):
    stream = Counted(model.stream)
    out, expected_end = whole
    state = model.initial_state(params, tiny.B)
    for t in range(FRAMES):
        frame, state = stream(params, state, long_video[:, t], keys)
        assert_similar(frame, jax.tree.map(lambda a, t=t: a[:, t : t + 1], out.decomposition))
    assert_similar(state, expected_end)
    assert stream.traces == 1


def test_later_frames_do_not_change_earlier_ones(unroll, params, long_video, keys, whole):
    changed, _ = unroll(params, long_video.at[:, 4:].set(0.0), keys)
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a[:, :4], b[:, :4]), changed.decomposition, whole[0].decomposition
    )
    assert np.any(changed.decomposition.means[:, 4:] != whole[0].decomposition.means[:, 4:])


def test_a_videos_result_does_not_depend_on_its_batch(unroll, params, long_video, keys, head):
    clip = long_video[:, :3]
    beside_another = unroll(params, clip.at[1].set(0.3), keys)[0]
    swapped = unroll(params, clip[::-1], keys[::-1])[0]
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b[0]), beside_another.decomposition,
                 head[0].decomposition)  # fmt: skip
    assert_similar(jax.tree.map(lambda a: a[::-1], swapped.decomposition), head[0].decomposition)
    np.testing.assert_allclose(swapped.loss, head[0].loss, rtol=1e-6)


@pytest.mark.slow
def test_a_video_alone_is_a_video_in_a_batch(model, params, long_video, keys, head):
    alone = [tiny.jit(model.unroll)(params, long_video[n : n + 1, :3], keys[n : n + 1])[0] for n in range(tiny.B)]
    for n, out in enumerate(alone):
        assert_similar(
            jax.tree.map(lambda a: a[0], out.decomposition),
            jax.tree.map(lambda a: a[n], head[0].decomposition),  # noqa: B023
        )
    np.testing.assert_allclose(sum(out.loss for out in alone), head[0].loss, rtol=1e-6)


def test_noise_is_the_keys(unroll, params, long_video, keys, head):
    again = unroll(params, long_video[:, :3], keys)[0]
    jax.tree.map(np.testing.assert_array_equal, again, head[0])
    others = jax.random.split(jax.random.key(99), tiny.B)
    assert unroll(params, long_video[:, :3], others)[0].loss != head[0].loss
    mixed = unroll(params, long_video[:, :3], keys.at[1].set(others[1]))[0]
    np.testing.assert_array_equal(mixed.decomposition.means[0], head[0].decomposition.means[0])
    assert np.any(mixed.decomposition.means[1] != head[0].decomposition.means[1])


def test_one_trace_a_shape(unroll, whole, head, params, long_video, keys):
    before = unroll.traces
    moved = jax.tree.map(lambda a: a + 1e-3, params)
    unroll(moved, 1 - long_video, keys[::-1])
    assert unroll.traces == before == 2  # seven frames and three


def test_reordered_noise_reorders_the_slots(model, params, long_video):
    """Slots differ only by their noise: in another order they give the same picture."""
    noise = np.random.default_rng(4).normal(size=(3, tiny.B, tiny.K, tiny.Z)).astype(np.float32)
    weights = jax.device_put(np.ones(3, np.float32))
    order = np.array([2, 0, 1])
    state = model.initial_state(params, tiny.B)
    frame = tiny.jit(lambda state, noise: model.frame(params, state, long_video[:, 0], noise, weights, jnp.int32(2)))
    (end, out), (end_reordered, reordered) = (frame(state, jax.device_put(n)) for n in (noise, noise[:, :, order]))
    for name in ("means", "masks", "posterior"):
        np.testing.assert_allclose(getattr(reordered, name), getattr(out, name)[:, order], **SIMILAR)
    assert_similar(end_reordered.temporal, jax.tree.map(lambda a: a[:, order], end.temporal))
    assert np.abs(reordered.masks - out.masks).max() > 1e-3  # the slots do differ
    pictures = [(f.means * f.masks[..., None]).sum(1) for f in (out, reordered)]
    np.testing.assert_allclose(*pictures, **SIMILAR)
    np.testing.assert_allclose(reordered.loss, out.loss, rtol=1e-5)


def test_prediction_against_the_reference(predict, params, head):
    _, state = head
    predicted, end = predict(params, state)
    with jax.enable_x64(True):
        temporal = reference.in_float64((state.temporal.h, state.temporal.c))
        settings = tiny.settings_of()
        frames = tiny.jit(lambda p, s: reference.predict(p, s, 2, settings))(reference.in_float64(params), temporal)
    # Two frames, the second of which has had one refinement. Each picture explains itself so evenly that the
    # spread of its likelihood nears float32's rounding; after normalisation, the third frame is not comparable.
    for t, (means, masks) in enumerate(frames):
        np.testing.assert_allclose(predicted.means[:, t], means, atol=1e-4)
        np.testing.assert_allclose(predicted.masks[:, t], masks, atol=1e-4)
    assert end.frame == state.frame + 3


def test_prediction_is_a_decomposition(predict, params, head):
    predicted, _ = predict(params, head[1])
    assert predicted.masks.shape == (tiny.B, 3, tiny.K, tiny.H, tiny.W)
    assert predicted.means.shape == (*predicted.masks.shape, tiny.C)
    np.testing.assert_allclose(predicted.masks.sum(2), 1, atol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(predicted))


def test_prediction_follows_from_the_temporal_state_alone(predict, params, head):
    """It depends neither on the last posterior nor, without noise, on the frame's number."""
    _, state = head
    other = state._replace(posterior=state.posterior + 1, frame=state.frame + 5)
    jax.tree.map(np.testing.assert_array_equal, predict(params, other)[0], predict(params, state)[0])


@pytest.mark.slow
def test_prediction_goes_on_from_where_it_stopped(predict, params, head, model):
    _, state = head
    predicted, _ = predict(params, state)
    first, middle = predict(params, state)
    again, _ = predict(params, middle)
    six, _ = tiny.jit(lambda params, state: model.predict(params, state, 6))(params, state)
    joined = jax.tree.map(lambda a, b: np.concatenate([a, b], 1), first, again)
    assert_similar(joined, six)
    assert np.any(predicted.means[:, 0] != predicted.means[:, 1])  # the scene moves
    assert predict.traces == 1


def test_reordered_state_reorders_the_prediction(predict, params, head):
    _, state = head
    order = np.array([1, 2, 0])
    reordered = state._replace(temporal=jax.tree.map(lambda a: a[:, order], state.temporal))
    predicted, expected = predict(params, reordered)[0], predict(params, state)[0]
    assert_similar(predicted.masks, expected.masks[:, :, order])
    assert_similar(predicted.reconstruction, expected.reconstruction)


def test_sampled_prediction_varies_with_its_keys(model, params, head, keys, predict):
    sample = tiny.jit(lambda keys: model.predict(params, head[1], 2, keys)[0])
    one, two = sample(keys), sample(keys[::-1])
    jax.tree.map(np.testing.assert_array_equal, one, sample(keys))
    assert np.any(one.means != two.means)
    assert np.any(one.means[:, 0] != predict(params, head[1])[0].means[:, 0])
    np.testing.assert_allclose(one.masks.sum(2), 1, atol=1e-6)
