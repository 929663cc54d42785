"""Several tries per frame: each video continues from the one with the highest ELBO."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tries import (
    VIDEOS,
    assert_frames_make_the_clip,
    assert_similar,
    best_of,
    make_infer,
    make_step,
    random_videos,
    video_keys,
)

from stii_jax.models.likelihood import leave_one_out
from stii_jax.models.restarts import RestartedSTII

RESTARTS, RESEEDS, FRAMES = 4, 2, 3


@pytest.fixture(scope="module")
def plain():
    return tiny.build()


@pytest.fixture(scope="module")
def model():
    return RestartedSTII(restarts=RESTARTS, reseeds=RESEEDS, **tiny.settings_of())


@pytest.fixture(scope="module")
def videos():
    return random_videos(FRAMES)


@pytest.fixture(scope="module")
def infer(params):
    return make_infer(params)


@pytest.fixture(scope="module")
def step(model, params):
    return make_step(model, params)


def test_first_frames_are_tried_with_other_noise(infer, step, model, params, videos):
    start = model.initial_state(params, VIDEOS)
    expected, numbers = best_of([infer(videos[:, 0], start, number) for number in range(RESTARTS)])
    assert len(set(numbers.tolist())) > 1, "the same try is the best everywhere: this would show nothing"
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


def test_a_clip_is_its_frames_one_after_the_other(step, model, params, videos):
    assert_frames_make_the_clip(model, params, step, videos)


def test_with_reseed_every_2_only_every_second_frame_has_further_tries(step, model, plain, params, videos):
    rare = RestartedSTII(restarts=RESTARTS, reseeds=RESEEDS, reseed_every=2, **tiny.settings_of())
    rare_step, plain_step = make_step(rare, params), make_step(plain, params)
    _, state = step(videos[:, 0], model.initial_state(params, VIDEOS))
    found, after = rare_step(videos[:, 1], state)
    assert_similar([found, after], [*plain_step(videos[:, 1], state)])
    assert_similar([*rare_step(videos[:, 2], after)], [*step(videos[:, 2], after)])
    first, *later = model.schedule(5)
    assert rare.num_steps(5) == RESTARTS * first + sum(later) + RESEEDS * (later[1] + later[3])


def test_rare_reseeds_still_alternate_between_adding_and_removing_a_slot():
    model = RestartedSTII(restarts=1, reseeds=1, reseed_every=3, slot_cost=1.0, **tiny.settings_of())
    first, *later = model.schedule(13)
    assert model.num_steps(13) == tiny.K * first + sum(later) + 2 * first + later[2] + later[8]


@pytest.mark.slow
def test_one_try_is_the_plain_model(plain, params, videos):
    keys = video_keys()
    model = RestartedSTII(**tiny.settings_of())
    found, state = tiny.jit(model.decompose)(params, videos, keys)
    expected, end = tiny.jit(plain.decompose)(params, videos, keys)
    assert_similar([found, state], [expected, end])


def test_a_frame_that_is_not_a_number_shows(step, model, params, videos):
    frame = videos[:, 0].at[2, 0, 0, 0].set(jnp.nan)
    found, _ = step(frame, model.initial_state(params, VIDEOS))
    assert np.isfinite(found.means).all(axis=(1, 2, 3, 4, 5)).tolist() == [video != 2 for video in range(VIDEOS)]
