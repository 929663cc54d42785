"""Scores of futures by hand, and their invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import jit

from stii_jax.evaluation.futures import SCORES, Summary, future_scores
from stii_jax.evaluation.velocities import Positions, positions

pytestmark = pytest.mark.usefixtures("quick_compiles")

B, T, N, L, K, H, W = 2, 2, 3, 2, 3, 24, 24


def draw(*corners):
    """Draw squares of 3x3 pixels labelled 1, 2, ... by their corners (y, x)."""
    labels = np.zeros((H, W), np.int32)
    for label, corner in enumerate(corners, start=1):
        if corner is not None:
            labels[corner[0] : corner[0] + 3, corner[1] : corner[1] + 3] = label
    return labels


START = draw((4, 4), (4, 14))
TRUE = np.stack([START, draw((6, 4), (4, 14)), draw((8, 4), None)])  # one object moves down, the other one disappears
PREDICTED = np.stack([draw((6, 7), (8, 14)), draw((8, 5), (4, 18))])  # wrong by 3 and 4, then by 1
FUTURES = np.stack(
    [
        np.stack([draw((6, 4), (4, 14)), draw((8, 4), None)]),  # the true future
        np.stack([draw((6, 10), (4, 14)), draw((8, 7), None)]),  # wrong by 6 and 0, then by 3
        np.stack([draw((6, 4), (4, 20)), draw((20, 4), None)]),  # wrong by 0 and 6, then by 12
    ]
)


def scores(true=TRUE, start=START, predicted=PREDICTED, futures=FUTURES, num_objects=L, order=None):
    """Return scores of one video, repeated B times; `order` renames the slots."""
    labels = np.broadcast_to(true, (B, *true.shape))
    order = np.arange(K) if order is None else np.asarray(order)
    measure = lambda found: positions(jnp.asarray(order[found]), K)  # noqa: E731
    last = jax.tree.map(lambda a: np.broadcast_to(a, (B, *a.shape)), measure(start))
    mine = jax.tree.map(lambda a: np.broadcast_to(a, (B, *a.shape)), measure(predicted))
    samples = jax.tree.map(lambda a: np.repeat(np.asarray(a)[:, None], B, axis=1), measure(futures))
    found = jit(future_scores, static_argnames="num_objects")(
        labels, Positions(*last), Positions(*mine), Positions(*samples), num_objects
    )
    assert set(found) == set(SCORES) and all(value.shape == (B, T) for value in found.values())
    for value in found.values():
        np.testing.assert_array_equal(value[0], value[1])
    return {name: np.asarray(value[0]) for name, value in found.items()}


def test_by_hand():
    found = scores()
    np.testing.assert_allclose(found["position_error"], [3.5, 1], atol=1e-5)
    np.testing.assert_allclose(found["best_position_error"], [0, 0], atol=1e-5)
    np.testing.assert_allclose(found["mean_position_error"], [(0 + 3 + 3) / 3, (0 + 3 + 12) / 3], atol=1e-5)
    np.testing.assert_allclose(found["futures_distance"][0], 4, atol=1e-5)
    np.testing.assert_allclose(found["futures_distance"][1], (3 + 12 + np.hypot(3, 12)) / 3, atol=1e-5)
    spread = np.sqrt([np.var([0, 6, 0], ddof=1), np.var([0, 0, 12], ddof=1) + np.var([0, 3, 0], ddof=1)])
    np.testing.assert_allclose(found["spread"], spread, atol=1e-5)


def test_the_best_future_counts_as_a_whole():
    """Each of these is right for one object only, so that none is without error."""
    found = scores(futures=FUTURES[1:])
    np.testing.assert_allclose(found["best_position_error"], [3, 3], atol=1e-5)


def test_equal_futures_have_no_spread_and_the_error_of_the_prediction():
    for count in (1, 3):
        found = scores(futures=np.stack([PREDICTED] * count))
        for name in ("spread", "futures_distance"):
            np.testing.assert_array_equal(found[name], [0, 0])
        for name in ("best_position_error", "mean_position_error"):
            np.testing.assert_allclose(found[name], found["position_error"], atol=1e-5)


def test_the_order_of_slots_and_futures_changes_nothing():
    expected = scores()
    for found in (scores(order=(2, 0, 1)), scores(futures=FUTURES[[2, 0, 1]])):
        for name in SCORES:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_is_no_worse_than_the_mean(seed):
    rng = np.random.default_rng(seed)
    found = scores(futures=rng.integers(0, K, (5, T, H, W)) * (rng.random((5, T, 1, W)) > 0.5))
    assert (found["best_position_error"] <= found["mean_position_error"] + 1e-5).all() and (found["spread"] > 0).all()


def test_a_slot_without_pixels_rests():
    gone = np.stack([np.stack([draw(None, (4, 14)), draw(None, None)])] * 2)
    np.testing.assert_allclose(scores(futures=gone)["mean_position_error"], [(2 + 0) / 2, 4], atol=1e-5)


def test_videos_that_cannot_be_scored():
    nothing = np.zeros_like(TRUE)
    for found in (scores(true=nothing), scores(num_objects=1)):
        assert all(np.isnan(value).all() for value in found.values())


def test_the_summary():
    summary = Summary()
    values = np.array([[1.0, 2.0], [3.0, np.nan]])
    summary.add(dict.fromkeys(SCORES, values), np.array([True, True]))
    summary.add(dict.fromkeys(SCORES, values + 4), np.array([True, False]))
    first, second = summary.rows()
    assert (first["frame"], first["spread"], first["spread_count"]) == (1, 3.0, 3)
    assert (second["frame"], second["position_error"], second["position_error_count"]) == (2, 4.0, 2)
