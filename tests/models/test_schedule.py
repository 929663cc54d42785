"""The ragged grid, written out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stii_jax.models.schedule import (
    SCHEDULES,
    decodes_fit,
    num_cells,
    refinement_schedule,
    refinement_weights,
    segments,
)

TRIANGULAR = (6, 5, 4, 3, 2, 1, 1, 1, 1, 1)
PAPER = (5, 4, 3, 2, 1, 1, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("triangular", TRIANGULAR), ("paper", PAPER), ("provide", PAPER), ("constant", (6,) * 10)],
)
def test_six_refinements_ten_frames(kind, expected):
    assert refinement_schedule(10, 6, kind) == expected


def test_triangular_is_the_default():
    assert refinement_schedule(10, 6) == TRIANGULAR


def test_a_later_start_is_a_cut_of_the_whole():
    assert refinement_schedule(4, 6, start=3) == (3, 2, 1, 1)
    assert refinement_schedule(2, 6, start=40) == (1, 1)
    assert refinement_schedule(3, 6, "constant", start=7) == (6, 6, 6)


def test_one_frame_is_iodine():
    assert refinement_schedule(1, 6) == (6,)


def test_provide_decodes_each_frame_r_minus_t_times_but_at_least_twice():
    decodes = [refinements + 1 for refinements in refinement_schedule(10, 6, "provide")]
    assert decodes == [6, 5, 4, 3, 2, 2, 2, 2, 2, 2]


@given(budget=st.integers(1, 12), start=st.integers(0, 20))
def test_triangular_is_the_papers_with_one_refinement_more(budget, start):
    assert refinement_schedule(15, budget, "triangular", start) == refinement_schedule(15, budget + 1, "paper", start)


@pytest.mark.parametrize(("kind", "least"), [("triangular", None), ("constant", None), ("paper", 2), ("provide", 2)])
def test_budget_weights_reach_one_and_no_more_where_the_decodes_fit(kind, least):
    for budget in range(1, 8):
        largest = refinement_weights(refinement_schedule(10, budget, kind), budget, "budget").max()
        assert decodes_fit(budget, kind) == (least is not None and budget >= least)
        assert largest == pytest.approx(1.0 if decodes_fit(budget, kind) else (budget + 1) / budget)


def test_weights_of_a_frame_end_at_one():
    expected = [
        [1 / 4, 2 / 4, 3 / 4, 1],
        [1 / 3, 2 / 3, 0, 1],
        [1 / 2, 0, 0, 1],
        [1 / 2, 0, 0, 1],
    ]
    np.testing.assert_allclose(refinement_weights((3, 2, 1, 1), 3), expected, rtol=1e-6)


def test_weights_by_budget_are_smaller_in_late_frames():
    expected = [
        [1 / 4, 2 / 4, 3 / 4, 1],
        [1 / 4, 2 / 4, 0, 3 / 4],
        [1 / 4, 0, 0, 2 / 4],
    ]
    np.testing.assert_allclose(refinement_weights((3, 2, 1), 4, "budget"), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", SCHEDULES)
@given(budget=st.integers(1, 12), num_frames=st.integers(1, 40), start=st.integers(0, 20))
def test_segments_are_a_head_and_a_level_tail(kind, budget, num_frames, start):
    schedule = refinement_schedule(num_frames, budget, kind, start)
    parts = segments(schedule)
    assert [frame for begin, end in parts for frame in range(begin, end)] == list(range(num_frames))
    assert len(parts) <= 2
    begin, end = parts[-1]
    assert len(parts) == 1 or set(schedule[begin:end]) == {schedule[-1]}


@given(budget=st.integers(1, 12), num_frames=st.integers(1, 60))
def test_cells_grow_with_the_square_of_refinements_plus_frames(budget, num_frames):
    cells = num_cells(refinement_schedule(num_frames, budget))
    assert num_frames <= cells <= budget * (budget - 1) // 2 + num_frames
    assert num_cells(refinement_schedule(num_frames, budget, "constant")) == budget * num_frames
    if num_frames >= budget:
        assert cells == budget * (budget - 1) // 2 + num_frames


@pytest.mark.parametrize("weights", ["frame", "budget"])
@given(budget=st.integers(1, 10), num_frames=st.integers(1, 20), start=st.integers(0, 10))
def test_every_decode_has_a_weight_and_nothing_else_has(weights, budget, num_frames, start):
    schedule = refinement_schedule(num_frames, budget, start=start)
    grid = refinement_weights(schedule, budget, weights)
    assert grid.shape == (num_frames, max(schedule) + 1)
    np.testing.assert_array_equal((grid > 0).sum(1), np.array(schedule) + 1)
    assert (grid[:, -1] == grid.max(1)).all()
