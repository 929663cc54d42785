"""Several tries of a video's first frame: each video keeps its likeliest, and goes on from there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from stii_jax.models.restarts import RestartedSTII

RESTARTS, FRAMES = 4, 3
SIMILAR = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def plain():
    return tiny.build()


@pytest.fixture(scope="module")
def model():
    return RestartedSTII(restarts=RESTARTS, **tiny.settings_of())


@pytest.fixture(scope="module")
def videos():
    shape = (8, FRAMES, tiny.H, tiny.W, tiny.C)
    return jax.device_put(np.random.default_rng(8).random(shape).astype(np.float32))


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(3), 8)


@pytest.fixture(scope="module")
def tries(plain, params, videos, keys):
    """Decomposition, state and log-likelihood of first frames with the noise of each try."""
    infer = tiny.jit(lambda keys: plain.decompose(params, videos[:, :1], keys))
    again = [keys, *(jax.vmap(jax.random.fold_in, (0, None))(keys, number) for number in range(1, RESTARTS))]
    found = [infer(those) for those in again]
    return [(*pair, np.asarray(plain.log_likelihood(videos[:, :1], pair[0])).sum((1, 2, 3))) for pair in found]


@pytest.fixture(scope="module")
def best(tries):
    return np.argmax([scores for _, _, scores in tries], axis=0)


@pytest.fixture(scope="module")
def whole(model, params, videos, keys):
    return tiny.jit(model.decompose)(params, videos, keys)


def first_frame(decomposition, video):
    return jax.tree.map(lambda a: a[video, 0], decomposition)


def assert_similar(actual, desired):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **SIMILAR), actual, desired)


def test_each_video_keeps_its_likeliest_first_frame(whole, tries, best):
    assert len(set(best.tolist())) > 1, "the same try is the best everywhere: this would show nothing"
    found, _ = whole
    for video, number in enumerate(best):
        expected, _, _ = tries[number]
        assert_similar(first_frame(found, video), first_frame(expected, video))


def test_the_rest_goes_on_from_there(plain, params, videos, keys, whole, tries, best):
    number = int(np.bincount(best).argmax())
    chosen = np.flatnonzero(best == number)
    _, state, _ = tries[number]
    expected, last = tiny.jit(lambda state: plain.decompose(params, videos[:, 1:], keys, state, 1))(state)
    found, end = whole
    assert_similar(jax.tree.map(lambda a: a[chosen, 1:], found), jax.tree.map(lambda a: a[chosen], expected))
    assert_similar(end.temporal.h[chosen], last.temporal.h[chosen])
    assert int(end.frame) == FRAMES


def test_frame_after_frame_and_in_clips_it_is_the_same(model, params, videos, keys, whole):
    state, frames = model.initial_state(params, len(videos)), []
    step = tiny.jit(model.stream)
    for t in range(FRAMES):
        found, state = step(params, state, videos[:, t], keys)
        frames.append(found)
    assert_similar(jax.tree.map(lambda *parts: jnp.concatenate(parts, 1), *frames), whole[0])
    assert_similar(state.posterior, whole[1].posterior)

    first, state = tiny.jit(model.decompose)(params, videos[:, :1], keys)
    rest, _ = tiny.jit(lambda state: model.decompose(params, videos[:, 1:], keys, state, 1))(state)
    assert_similar(jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), first, rest), whole[0])
