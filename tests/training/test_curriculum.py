"""Curriculum: the stage of each step, and the end of a run."""

import json

import pytest

from stii_jax.training.curriculum import Curriculum, CurriculumState, PosteriorCollapse, Stage

STAGES = (Stage(2, 8, 30), Stage(4, 4, 20), Stage(8, 2, 20))


def follow(curriculum, losses, kl=1.0, every=10, state=None, start=0):
    """Log a loss every ten steps; return the steps and states after each."""
    state, seen = state or CurriculumState(), []
    for step, loss in zip(range(start + every, start + every * len(losses) + 1, every), losses):
        if curriculum.stage(state, step - every) is None:
            break
        state = curriculum.advance(state, step, loss, kl)
        seen.append((step, state))
    return seen


def stages(seen):
    return [(step, state.stage) for step, state in seen]


def test_stages_follow_by_steps():
    curriculum = Curriculum(STAGES)
    assert curriculum.num_steps == 70
    seen = follow(curriculum, [1.0] * 20)
    assert stages(seen) == [(10, 0), (20, 0), (30, 1), (40, 1), (50, 2), (60, 2), (70, 2)]
    assert [state.stage_start for _, state in seen] == [0, 0, 30, 30, 50, 50, 50]
    assert [curriculum.stage(state, step) for step, state in seen] == [
        *(STAGES[0], STAGES[0], STAGES[1], STAGES[1], STAGES[2], STAGES[2], None)
    ]


def test_a_stalled_loss_ends_a_stage_and_the_run():
    curriculum = Curriculum(STAGES, patience=10, min_improvement=0.01, smoothing=0.0)
    # The first loss of a stage is its best; 0.895 improves on 0.9 by less than one per cent.
    seen = follow(curriculum, [1.0, 0.9, 0.895, 5.0, 5.0, 6.0, 3.0, 2.99, 0.0])
    assert stages(seen) == [(10, 0), (20, 0), (30, 1), (40, 1), (50, 2), (60, 2), (70, 2)]
    seen = follow(curriculum, [1.0, 1.0, 5.0, 5.0, 6.0, 6.0, 0.0])
    assert stages(seen) == [(10, 0), (20, 1), (30, 1), (40, 2), (50, 2), (60, 3)]
    assert curriculum.stage(seen[-1][1], 60) is None


def test_no_patience_never_stalls():
    assert stages(follow(Curriculum(STAGES), [1.0, 2.0])) == [(10, 0), (20, 0)]


def test_a_stalled_held_out_error_ends_a_stage():
    """Evaluations are rarer than lines, and lines without one do not count."""
    curriculum = Curriculum((Stage(2, 8, 100), Stage(4, 4, 100)), held_out_patience=20, min_improvement=0.1)
    state, at = CurriculumState(), {10: 0.5, 30: 0.4, 50: 0.39, 60: 9.0, 80: 9.5}
    stages = []
    for step in range(10, 90, 10):
        before, state = state, curriculum.advance(state, step, loss=-1.0 * step, kl=1.0, error=at.get(step))
        stages.append(state.stage)
        assert curriculum.ended_early(step, before, state) == (step in (50, 80))
    assert stages == [0, 0, 0, 0, 1, 1, 1, 2]
    assert curriculum.stage(state, 80) is None
    assert curriculum.may_end_early and not Curriculum(STAGES).may_end_early


def test_an_error_that_is_not_a_number_is_no_improvement():
    curriculum = Curriculum((Stage(2, 8, 100),), held_out_patience=20)
    state = curriculum.advance(CurriculumState(), 10, 1.0, 1.0, float("nan"))
    assert state.best_error is None
    assert curriculum.advance(state, 20, 1.0, 1.0, 3.0).best_error == 3.0


def test_a_stage_that_is_used_up_does_not_end_early():
    curriculum = Curriculum(STAGES)
    assert not any(curriculum.ended_early(30, CurriculumState(), state) for _, state in follow(curriculum, [1.0] * 3))


def test_a_stage_starts_without_the_losses_of_the_one_before():
    (_, state), *_ = follow(Curriculum((Stage(2, 8, 10), Stage(4, 4, 50))), [0.001])
    assert state == CurriculumState(stage=1, stage_start=10)


def test_smoothing_by_hand():
    seen = follow(Curriculum((Stage(2, 8, 100),), smoothing=0.75), [8.0, 4.0, 20.0])
    assert [state.smoothed_loss for _, state in seen] == [8.0, 7.0, 10.25]
    assert [(state.best_loss, state.best_step) for _, state in seen] == [(8.0, 10), (7.0, 20), (7.0, 20)]


def test_negative_losses_improve_downwards():
    seen = follow(Curriculum((Stage(2, 8, 100),), min_improvement=0.1, smoothing=0.0), [-10.0, -10.5, -12.0])
    assert [state.best_step for _, state in seen] == [10, 10, 30]


def test_state_goes_through_json_in_the_midst():
    curriculum = Curriculum(STAGES, patience=20, collapse_kl=0.1, collapse_patience=1000)
    losses = [3.0, 2.0, 1.0, 3.0, 3.0, 2.0, 2.0]
    straight = follow(curriculum, losses, kl=0.01)
    for cut in range(1, len(straight)):
        step, state = straight[cut - 1]
        state = CurriculumState(**json.loads(json.dumps(state._asdict())))
        assert straight[:cut] + follow(curriculum, losses[cut:], 0.01, state=state, start=step) == straight


def test_a_finished_run_goes_on_with_more_steps():
    short, long = Curriculum((Stage(2, 8, 30),)), Curriculum((Stage(2, 8, 50),))
    losses = [5.0, 4.0, 3.0, 2.0, 1.0]
    seen = follow(short, losses)
    step, state = seen[-1]
    assert step == 30 and short.stage(state, step) is None
    assert seen + follow(long, losses[3:], state=state, start=30) == follow(long, losses)


def test_a_collapsed_posterior_stops_the_run():
    curriculum = Curriculum(STAGES, collapse_kl=0.05, collapse_patience=20)
    seen = follow(curriculum, [1.0, 1.0], kl=0.01)
    assert [state.collapsed_since for _, state in seen] == [10, 10]
    step, state = seen[-1]
    message = r"step 30: the posterior has collapsed.* KL is 0\.01 nats.*collapse_kl=0\.05 since step 10.*loss\.kl"
    with pytest.raises(PosteriorCollapse, match=message) as caught:
        curriculum.advance(state, step + 10, 1.0, 0.01)
    assert "\n" not in str(caught.value)


def test_one_lively_line_starts_the_watch_anew():
    curriculum = Curriculum(STAGES, collapse_kl=0.05, collapse_patience=20)
    state = CurriculumState()
    for step, kl in [(10, 0.01), (20, 0.01), (30, 0.05), (40, 0.01), (50, 0.01)]:
        state = curriculum.advance(state, step, 1.0, kl)
    assert (state.stage, state.collapsed_since) == (2, 40)  # a new stage does not end the monitoring


def test_no_collapse_patience_never_stops():
    assert len(follow(Curriculum(STAGES, collapse_kl=0.05), [1.0] * 7, kl=0.0)) == 7


def test_a_model_without_a_posterior_does_not_collapse():
    curriculum = Curriculum(STAGES, collapse_kl=0.05, collapse_patience=20)
    assert [state.collapsed_since for _, state in follow(curriculum, [1.0] * 7, kl=None)] == [None] * 7
