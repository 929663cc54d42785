"""The baselines without a past: their relation to STII and to each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from stii_jax.models import losses
from stii_jax.models.baselines.iodine import Iodine, SequentialIodine

ALONE = {"conditional_prior": False, "conditional_decoder": False, "posterior_start": "learned"}


def build(kind, **changes):
    return kind(**tiny.settings_of(**ALONE, **changes))


@pytest.fixture(scope="module")
def params():
    return tiny.params_of(build(Iodine))


@pytest.fixture(scope="module")
def video():
    return np.random.default_rng(0).random((tiny.B, tiny.T, tiny.H, tiny.W, tiny.C), np.float32)


def keys_of(number=tiny.B):
    return jax.random.split(jax.random.key(3), number)


class Silent(SequentialIodine):
    """A model whose noise is zero."""

    def _noise(self, keys, frames, decodes):
        return jnp.zeros((*frames.shape, decodes, *keys.shape, tiny.K, tiny.Z))


class SilentAlone(Iodine):
    _noise = Silent._noise


@functools.cache
def compiled(model):
    return tiny.jit(lambda *inputs: model.unroll(*inputs))


def unroll(model, params, video, keys, state=None):
    return compiled(model)(params, video, keys, state)


@pytest.fixture(scope="module")
def iodine():
    return build(Iodine)


@pytest.fixture(scope="module")
def silent():
    return build(Silent)


@pytest.fixture(scope="module")
def whole(iodine, params, video):
    """The clip as IODINE sees it, and the state after it."""
    return unroll(iodine, params, video, keys_of())


def close(first, second, rtol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), first, second)


def test_every_frame_is_stii_without_a_past(params, video, whole):
    frames = video.reshape(-1, 1, *video.shape[2:])
    keys = tiny.jit(jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None)))(keys_of(), np.arange(tiny.T))
    other, _ = unroll(tiny.build(**ALONE), params, frames, keys.reshape(-1))
    own = whole[0]
    together = jax.tree.map(lambda a: a.reshape(len(frames), 1, *a.shape[2:]), (own.decomposition, own.terms))
    close(together, (other.decomposition, other.terms))
    close((own.loss, own.cell_elbo.sum(0)), (other.loss, other.cell_elbo[0]))


def test_frames_know_nothing_of_each_other(iodine, params, video, whole):
    model, (whole, after) = iodine, whole
    changed = video.copy()
    changed[:, 0] = 0.5
    other, _ = unroll(model, params, changed, keys_of())
    close(whole.decomposition.means[:, 1:], other.decomposition.means[:, 1:])
    assert not np.allclose(whole.decomposition.means[:, 0], other.decomposition.means[:, 0])
    assert int(after.frame) == tiny.T
    assert model.schedule(tiny.T) == (tiny.R,) * tiny.T
    np.testing.assert_allclose(
        whole.cell_elbo.sum(0)[-1], losses.elbo(whole.terms, model.elbo.weights).sum(), rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Iodine, SequentialIodine])
def test_chunks_and_single_frames_are_the_whole(kind, params, video):
    model = build(kind)
    whole, _ = unroll(model, params, video, keys_of())
    first, state = unroll(model, params, video[:, :2], keys_of())
    last, _ = unroll(model, params, video[:, 2:], keys_of(), state)
    joined = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), first.decomposition, last.decomposition)
    close(whole.decomposition, joined)
    stream = tiny.jit(model.stream)
    state = model.initial_state(params, tiny.B)
    for t in range(tiny.T):
        out, state = stream(params, state, video[:, t], keys_of())
        close(out, jax.tree.map(lambda a, t=t: a[:, t : t + 1], whole.decomposition))


@pytest.mark.slow
def test_on_a_still_video_the_sequential_one_refines_one_frame(silent, params, video):
    """There are as many refinements as frames, with the same noise, which is zero here."""
    still = np.repeat(video[:, :1], 3, axis=1)
    sequential, _ = unroll(silent, params, still, keys_of())
    alone, _ = unroll(build(SilentAlone, num_refinements=3), params, video[:, :1], keys_of())
    close(sequential.decomposition.posterior[:, -1], alone.decomposition.posterior[:, 0])
    close(sequential.decomposition.means[:, -1], alone.decomposition.means[:, 0])


@pytest.mark.slow
def test_clamped_steps_are_bounded(silent, params, video):
    free, _ = unroll(silent, params, video, keys_of())
    bounded, _ = unroll(build(SequentialIodine, clamp=0.01), params, video, keys_of())
    start = params["initial_posterior"]
    steps = np.diff(bounded.decomposition.posterior, axis=1, prepend=np.broadcast_to(start, (tiny.B, 1, tiny.K, 6)))
    assert 0.009 < np.abs(steps).max() <= 0.0101
    assert np.abs(np.diff(free.decomposition.posterior, axis=1)).max() > 0.02


def test_no_past_allowed_and_no_future_known(params):
    with pytest.raises(ValueError, match="no past"):
        Iodine(**tiny.settings_of())
    model = build(Iodine)
    with pytest.raises(ValueError, match="predicts nothing"):
        model.predict(params, model.initial_state(params, 1), 2)
