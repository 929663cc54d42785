"""The number of slots in use, inferred with `eval.slot_cost`."""

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

from stii_jax.models.elbo import CellInputs
from stii_jax.models.likelihood import leave_one_out
from stii_jax.models.restarts import RestartedSTII

RESTARTS, RESEEDS, FRAMES = 2, 2, 5
COST = 0.4  # about a slot's gain here, so that some videos use more slots than others


def build(cost, **changes):
    return RestartedSTII(restarts=RESTARTS, reseeds=RESEEDS, slot_cost=cost, **tiny.settings_of(**changes))


@pytest.fixture(scope="module")
def plain():
    return tiny.build()


@pytest.fixture(scope="module")
def model():
    return build(COST)


@pytest.fixture(scope="module")
def videos():
    return random_videos(FRAMES)


@pytest.fixture(scope="module")
def infer(params):
    return make_infer(params, COST)


@pytest.fixture(scope="module")
def step(model, params):
    return make_step(model, params)


def test_a_slot_that_takes_no_part_changes_nothing(plain, params, videos):
    """The ELBO, its terms and all gradients equal those of the other slots alone."""
    rng = np.random.default_rng(0)
    sizes = (("posterior", 2 * tiny.Z), ("h", tiny.D), ("noise", tiny.Z))
    slots = {name: rng.normal(size=(VIDEOS, tiny.K, size)).astype(np.float32) for name, size in sizes}
    present = jnp.zeros((VIDEOS, tiny.K), bool).at[:, [0, 2]].set(True)
    frame = videos[:, 0]
    whole = tiny.jit(plain.elbo)(params, CellInputs(frame=frame, present=present, **slots))
    others = {name: array[:, [0, 2]] for name, array in slots.items()}
    part = tiny.jit(plain.elbo)(params, CellInputs(frame=frame, **others))
    assert_similar([whole.elbo, whole.terms], [part.elbo, part.terms])
    used = jax.tree.map(lambda a: a[:, [0, 2]], (whole.decoded, whole.gradients))
    expected = (part.decoded, part.gradients)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), used, expected)
    np.testing.assert_allclose(whole.gradients.posterior[:, 1], 0, atol=1e-4)
    assert float(whole.decoded.masks[:, 1].max()) < 1e-9


def test_first_frames_are_tried_with_every_number_of_slots(infer, step, model, params, videos):
    start, frame = model.initial_state(params, VIDEOS), videos[:, 0]
    assert start.present.all()
    tries = []
    for count in range(1, 1 + tiny.K):
        few = start._replace(present=jnp.broadcast_to(jnp.arange(tiny.K) < count, (VIDEOS, tiny.K)))
        tries += [infer(frame, few, seed) for seed in range(RESTARTS)]
    expected, _ = best_of(tries)
    found, after = step(frame, start)
    assert len(set(after.present.sum(1).tolist())) > 1, "all videos use the same number: this would show nothing"
    assert_similar([found, after], expected)


def test_later_frames_add_an_unused_slot_or_remove_the_least_needed_one(infer, step, plain, model, params, videos):
    _, state = step(videos[:, 0], model.initial_state(params, VIDEOS))
    fresh = model.initial_state(params, VIDEOS)
    for t in range(1, 3):
        frame, tries = videos[:, t], []
        tries.append(infer(frame, state, 0))
        for number in (1, 2):
            (found, _), _ = best_of(tries)
            masks = found.masks[:, 0]
            without = leave_one_out(plain.elbo.mixture(frame, found.means[:, 0], masks).slots, masks, "renormalized")
            without, begin = np.array(without.sum((2, 3))), jax.tree.map(np.array, state)
            for video, present in enumerate(np.array(state.present)):
                least = np.where(present, without[video], -np.inf).argmax()
                if (number + t) % 2:
                    slot = least if present.all() else present.argmin()
                    begin.present[video, slot] = True
                    begin.posterior[video, slot] = fresh.posterior[video, slot]
                    begin.temporal.h[video, slot], begin.temporal.c[video, slot] = 0, 0
                elif present.sum() > 1:
                    begin.present[video, least] = False
            adds = (number + t) % 2 == 1  # and therefore refines like a first frame
            tries.append(infer(frame, jax.tree.map(jnp.asarray, begin), number, adds))
        expected, _ = best_of(tries)
        before, (found, state) = np.array(state.present), step(frame, state)
        assert_similar([found, state], expected)
        assert (np.array(state.present) != before).any(), "no video adds or removes a slot: this would show nothing"


@pytest.mark.slow
@pytest.mark.parametrize(("cost", "count"), [(1e6, 1), (1e-6, None)])
def test_a_slot_has_to_be_worth_its_cost(params, videos, cost, count):
    model = build(cost, segmentation="responsibilities")
    found, state = tiny.jit(model.decompose)(params, videos[:, :3], video_keys())
    used = state.present.sum(1)
    assert (used == count).all() if count else (used > 1).any()
    masks, present = np.asarray(found.masks[:, -1]), np.asarray(state.present)
    assert masks[~present].max(initial=0) < 1e-9
    np.testing.assert_allclose(masks.sum(1), 1, atol=1e-5)
    assert np.isfinite(found.posterior).all() and np.isfinite(found.responsibilities).all()


@pytest.mark.slow
def test_clips_and_predictions_keep_the_slots_in_use(step, model, params, videos):
    end = assert_frames_make_the_clip(model, params, step, videos)
    predicted, after = model.predict(params, end, 2)
    assert (after.present == end.present).all() and not after.present.all()
    assert float(jnp.where(after.present[:, None, :, None, None], 0, predicted.masks).max()) < 1e-9


def test_steps_count_all_tries(model):
    # Later frames have one refinement: unchanged, with one slot more (like a first frame, two), or with one less.
    assert model.num_steps(4) == RESTARTS * tiny.K * 2 + 3 * (1 + 2 + 1)
