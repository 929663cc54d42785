"""Tries of a frame, made one by one, for comparison with those of `RestartedSTII`."""

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from stii_jax.models import losses

VIDEOS = 8


def random_videos(num_frames):
    shape = (VIDEOS, num_frames, tiny.H, tiny.W, tiny.C)
    return jax.device_put(np.random.default_rng(8).random(shape).astype(np.float32))


def video_keys():
    return jax.random.split(jax.random.key(3), VIDEOS)


def make_infer(params, slot_cost=0.0):
    """Return a function that makes one try of a frame: score, decomposition and state."""
    plain, keys = tiny.build(), video_keys()
    compiled = tiny.jit(lambda frame, state, keys, as_first: plain.next_frame(params, state, frame, keys, as_first))

    def infer(frame, state, seed, as_first=False):
        again = keys if seed == 0 else jax.vmap(jax.random.fold_in, (0, None))(keys, seed)
        after, out = compiled(frame, state, again, as_first)
        score = losses.elbo(out.terms, tiny.WEIGHTS)
        if state.present is not None:
            score -= tiny.WEIGHTS["log_likelihood"] * slot_cost * state.present.sum(1)
        return score, out.decomposition, after

    return infer


def make_step(model, params):
    keys = video_keys()
    compiled = tiny.jit(lambda state, frame: model.stream(params, state, frame, keys))
    return lambda frame, state: compiled(state, frame)


def best_of(tries):
    """Return each video's try with the highest score, and the index of that try."""
    numbers = np.argmax([score for score, _, _ in tries], axis=0)

    def pick(*leaves):
        return leaves[0] if leaves[0].ndim == 0 else jnp.stack([leaves[n][i] for i, n in enumerate(numbers)])

    return jax.tree.map(pick, *(found for _, *found in tries)), numbers


def assert_similar(actual, desired):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), actual, desired)


def assert_frames_make_the_clip(model, params, step, videos):
    """Assert that a clip equals its frames in sequence; return the state after it."""
    whole, end = tiny.jit(model.decompose)(params, videos, video_keys())
    state, frames = model.initial_state(params, VIDEOS), []
    for t in range(videos.shape[1]):
        found, state = step(videos[:, t], state)
        frames.append(found)
    assert_similar(jax.tree.map(lambda *parts: jnp.concatenate(parts, 1), *frames), whole)
    assert_similar(state, end)
    return end
