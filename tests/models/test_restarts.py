"""Several tries per frame: each video continues from the one with the highest ELBO."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from stii_jax.models import losses
from stii_jax.models.likelihood import leave_one_out
from stii_jax.models.restarts import RestartedSTII

RESTARTS, RESEEDS, FRAMES, VIDEOS = 4, 2, 3, 8
SIMILAR = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def plain():
    return tiny.build()


@pytest.fixture(scope="module")
def model():
    return RestartedSTII(restarts=RESTARTS, reseeds=RESEEDS, **tiny.settings_of())


@pytest.fixture(scope="module")
def videos():
    shape = (VIDEOS, FRAMES, tiny.H, tiny.W, tiny.C)
    return jax.device_put(np.random.default_rng(8).random(shape).astype(np.float32))


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(3), VIDEOS)


@pytest.fixture(scope="module")
def infer(plain, params, keys):
    """One try of a frame: ELBO, decomposition and state."""

    def infer(frame, state, number):
        again = keys if number == 0 else jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        after, out = compiled(frame, state, again)
        return losses.elbo(out.terms, tiny.WEIGHTS), out.decomposition, after

    compiled = tiny.jit(lambda frame, state, keys: plain.next_frame(params, state, frame, keys))
    return infer


@pytest.fixture(scope="module")
def step(model, params, keys):
    compiled = tiny.jit(lambda state, frame: model.stream(params, state, frame, keys))
    return lambda frame, state: compiled(state, frame)


def best_of(tries):
    """Return each video's try with the highest ELBO, and the index of that try."""
    numbers = np.argmax([elbo for elbo, _, _ in tries], axis=0)
    assert len(set(numbers.tolist())) > 1, "the same try is the best everywhere: this would show nothing"

    def pick(*leaves):
        return leaves[0] if leaves[0].ndim == 0 else jnp.stack([leaves[n][i] for i, n in enumerate(numbers)])

    return jax.tree.map(pick, *(found for _, *found in tries)), numbers


def assert_similar(actual, desired):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **SIMILAR), actual, desired)


def test_first_frames_are_tried_with_other_noise(infer, step, model, params, videos):
    start = model.initial_state(params, VIDEOS)
    expected, _ = best_of([infer(videos[:, 0], start, number) for number in range(RESTARTS)])
    assert_similar([*step(videos[:, 0], start)], expected)


def test_later_frames_are_tried_without_the_slot_that_they_need_least(infer, step, plain, params, videos):
    frame = videos[:, 1]
    _, _, state = infer(videos[:, 0], plain.initial_state(params, VIDEOS), 0)
    tries = [infer(frame, state, 0)]
    start = plain.initial_state(params, VIDEOS)
    for number in range(1, 1 + RESEEDS):
        found, _ = (tries[0][1:], None) if number == 1 else best_of(tries)
        masks = found[0].masks[:, 0]
        pixels = plain.elbo.mixture(frame, found[0].means[:, 0], masks)
        needed_least = leave_one_out(pixels.slots, masks, "renormalized").sum((2, 3)).argmax(1)

        def reset(new, old, slots=needed_least):
            return old if old.ndim == 0 else old.at[jnp.arange(VIDEOS), slots].set(new[jnp.arange(VIDEOS), slots])

        tries.append(infer(frame, jax.tree.map(reset, start, state), number))
    expected, numbers = best_of(tries)
    assert set(numbers.tolist()) & {1, 2} and 0 in numbers
    found, after = step(frame, state)
    assert_similar([found, after], expected)
    assert int(after.frame) == 2


def test_a_clip_is_its_frames_one_after_the_other(step, model, params, videos, keys):
    whole, end = tiny.jit(model.decompose)(params, videos, keys)
    state, frames = model.initial_state(params, VIDEOS), []
    for t in range(FRAMES):
        found, state = step(videos[:, t], state)
        frames.append(found)
    assert_similar(jax.tree.map(lambda *parts: jnp.concatenate(parts, 1), *frames), whole)
    assert_similar(state, end)


@pytest.mark.slow
def test_one_try_is_the_plain_model(plain, params, videos, keys):
    model = RestartedSTII(**tiny.settings_of())
    found, state = tiny.jit(model.decompose)(params, videos, keys)
    expected, end = tiny.jit(plain.decompose)(params, videos, keys)
    assert_similar([found, state], [expected, end])


def test_a_frame_that_is_not_a_number_shows(step, model, params, videos):
    frame = videos[:, 0].at[2, 0, 0, 0].set(jnp.nan)
    found, _ = step(frame, model.initial_state(params, VIDEOS))
    assert np.isfinite(found.means).all(axis=(1, 2, 3, 4, 5)).tolist() == [video != 2 for video in range(VIDEOS)]
