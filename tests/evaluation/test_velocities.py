"""Velocities by hand and against slow numpy, and their invariances."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from tiny import jit

from stii_jax.evaluation.velocities import MIN_SPEED, TURN, positions, velocity_scores
from stii_jax.types import Decomposition
from stii_jax.visualization.regions import regions

pytestmark = pytest.mark.usefixtures("quick_compiles")

B, T, K, L, H, W = 2, 4, 4, 2, 20, 18  # one shape for nearly all tests: one compilation
NAMES = {"velocity_cosine", "speed_error", "velocity_cosine_box", "speed_error_box"}
NAMES |= {"position_error", "position_error_turned"}
scores_of = jit(velocity_scores, static_argnames="num_objects")


def decomposition_of(slots):
    """Return hard masks of `B T H W` slots, with a little of each slot spread over the frame."""
    masks = np.float32(0.8 * np.moveaxis(np.eye(K)[slots], -1, 2) + 0.2 / K)
    nothing = (np.zeros((*shape, size), np.float32) for shape, size in ((masks.shape, 3), (masks.shape[:3], 4)))
    return jax.device_put(Decomposition(next(nothing), masks, next(nothing)))


def scores(true, slots, num_objects=L):
    """Return scores of true labels and predicted slots, both `B T H W`, as numpy arrays."""
    batch = {"segmentation": np.uint8(true)}
    return {k: np.asarray(v) for k, v in scores_of(decomposition_of(slots), batch, num_objects).items()}


def squares(*corners, shape=(B, T, H, W)):
    """Draw squares of 3x3 pixels labelled 1, 2, ... by their corners (y, x) in each of T frames; None is hidden."""
    labels = np.zeros(shape, np.int32)
    for label, path in enumerate(corners, start=1):
        for t, corner in enumerate(path):
            if corner is not None:
                labels[:, t, corner[0] : corner[0] + 3, corner[1] : corner[1] + 3] = label
    return labels


RIGHT = [(6, 6), (6, 8), (6, 10), (6, 12)]
LEFT = [(6, 6), (6, 4), (6, 2), (6, 0)]
DOWN = [(6, 6), (8, 6), (10, 6), (12, 6)]
STILL, CORNER = [(6, 6)] * T, [(16, 0)] * T


def test_positions_equal_those_of_regions():
    labels = np.random.default_rng(0).integers(0, 3, (B, T, H, W)) * (np.arange(W) > 8)
    found = jax.tree.map(np.asarray, jit(positions, static_argnums=1)(labels, K))
    for b in range(B):
        for t in range(T):
            rows = {label: values for label, *values in regions(labels[b, t], (0, 0, W, H))}
            for k in range(K):
                assert found.visible[b, t, k] == (k in rows)
                x, y, _, left, top, right, bottom, _ = rows.get(k, [0] * 8)
                np.testing.assert_allclose(found.centroid[b, t, k], [y, x], rtol=1e-5)
                np.testing.assert_allclose(found.box[b, t, k], [(top + bottom) / 2, (left + right) / 2], rtol=1e-5)


def assert_scores(found, cosine, error):
    assert found.keys() == NAMES
    for ending in ("", "_box"):
        np.testing.assert_allclose(found[f"velocity_cosine{ending}"], cosine, atol=1e-6)
        np.testing.assert_allclose(found[f"speed_error{ending}"], error, atol=1e-6)


@pytest.mark.parametrize("order", [(0, 1, 2), (3, 0, 2), (1, 2, 0)])
def test_a_perfect_prediction(order):
    """A perfect prediction scores perfectly whichever slots hold the background and the objects."""
    true = squares(RIGHT, [(16, 12), (15, 10), (14, 8), (13, 6)])
    assert_scores(scores(true, np.array(order)[true]), 1, 0)


@pytest.mark.parametrize(
    ("predicted", "cosine", "error"),
    [
        (STILL, 0, 1),
        (LEFT, -1, 0),
        (DOWN, 0, 0),
        ([(6, 6), (6, 7), (6, 8), (6, 9)], 1, 0.5),  # half as fast
        ([(6, 6), (8, 8), (10, 10), (12, 12)], np.sqrt(0.5), np.sqrt(2) - 1),
        ([(6, 6), (6, 8), None, (6, 12)], 1 / 3, 2 / 3),  # two of three steps have no pixels before or after
    ],
)
def test_an_object_by_hand(predicted, cosine, error):
    """It moves right by two pixels, beside an object at rest, which is never counted."""
    assert_scores(scores(squares(RIGHT, CORNER), squares(predicted, CORNER)), cosine, error)


@pytest.mark.parametrize(
    ("true", "predicted", "all_objects", "turned"),
    [
        (RIGHT, RIGHT, 0, np.nan),
        (RIGHT, DOWN, np.hypot(6, 6) / 2, np.nan),  # the mean over two objects, one of which rests
        ([(6, 6), (6, 8), (6, 6), (6, 4)], RIGHT, 8 / 2, 8),
        ([(6, 6), (6, 8), (6, 6), (6, 4)], [(6, 6), (6, 8), (6, 6), None], 2 / 2, 2),  # lost: it stays where it was
        ([(6, 6), (6, 8), (6, 10), None], DOWN, 0, np.nan),  # a true object that leaves does not count
    ],
)
def test_position_errors_by_hand(true, predicted, all_objects, turned):
    found = scores(squares(true, CORNER), squares(predicted, CORNER))
    np.testing.assert_allclose(found["position_error"], all_objects, atol=1e-5)
    np.testing.assert_allclose(found["position_error_turned"], turned, atol=1e-5)


def test_all_in_one_slot_stands_still():
    """One object gets that slot, the other one a slot without pixels."""
    true = squares(RIGHT, [(16, 12), (15, 10), (14, 8), (13, 6)])
    assert_scores(scores(true, np.full_like(true, 2)), 0, 1)


def test_a_later_swap_is_wrong():
    """Objects keep the slots of the first frame; the swap itself is a jump across the frame."""
    paths = [(1, 1), (1, 3), (1, 5), (1, 7)], [(16, 12), (16, 10), (16, 8), (16, 6)]
    true = squares(*paths)
    slots = true.copy()
    slots[:, 2:] = np.array([0, 2, 1])[slots[:, 2:]]
    # Of three steps, the first is right, the second is the jump, and the last is the other object's, in reverse.
    jump = np.hypot(15, 5)
    assert_scores(scores(true, slots), (1 + 5 / jump - 1) / 3, (0 + jump / 2 - 1 + 0) / 3)


def test_counted_pairs():
    """Pairs do not count if the object is hidden at first, or before or after the step, or at rest."""
    first_hidden = [None, (6, 8), (6, 10), (6, 12)]
    hidden_once = [(16, 6), (16, 8), None, (16, 12)]
    true = squares(first_hidden, hidden_once)
    slots = squares(LEFT, hidden_once)
    assert_scores(scores(true, slots), 1, 0)  # one step of the second object
    at_rest = squares(first_hidden, CORNER)
    at_rest[1] = squares(RIGHT, CORNER, shape=(1, T, H, W))[0]
    found = scores(at_rest, squares(RIGHT, CORNER))
    assert_scores(found, [np.nan, 1], [np.nan, 0])


def test_slow_objects_are_at_rest():
    """A row of pixels that grows at one end by a fraction moves by half of that fraction."""
    assert 0.05 < MIN_SPEED < 0.5
    true = np.zeros((B, T, H, W), np.int32)
    true[:, :, 3:13, 2:12] = 1
    true[:, 1, 3:4, 12] = true[:, 2, 3:5, 12] = true[:, 3, 3:6, 12] = 1
    found = scores(true, true)
    assert np.isnan(found["velocity_cosine"]).all() and np.isnan(found["speed_error"]).all()
    np.testing.assert_allclose(found["velocity_cosine_box"], 1)  # its box jumps by half a pixel, once


def test_a_label_above_num_objects_is_not_dropped_silently():
    paths = [(6, 6), (6, 8), (6, 6), (6, 4)], CORNER
    true = squares(*paths)
    true[0, 3, 0, 0] = L + 1
    for name, value in scores(true, squares(*paths)).items():
        assert np.isnan(value).tolist() == [True, False], name


def slow_scores(true, slots, num_objects):
    """Compute the same for one video, in loops over `regions`."""
    box = (0, 0, W, H)
    where = [
        [{k: (x, y, (a + c) / 2, (b + d) / 2) for k, x, y, _, a, b, c, d, _ in regions(frame, box)} for frame in labels]
        for labels in (true, slots)
    ]
    objects = [k for k in where[0][0] if 1 <= k <= num_objects]
    found = list(where[1][0])
    costs = [[np.square(np.subtract(where[0][0][i][:2], where[1][0][k][:2])).sum() for k in found] for i in objects]
    rows, columns = linear_sum_assignment(costs) if objects else ([], [])
    slot_of = {objects[i]: found[k] for i, k in zip(rows, columns)}
    result = {}
    for ending, part in ("", slice(0, 2)), ("_box", slice(2, 4)):
        cosines, errors = [], []
        for t in range(len(true) - 1):
            for i in objects:
                if i not in where[0][t] or i not in where[0][t + 1]:
                    continue
                v = np.subtract(where[0][t + 1][i][part], where[0][t][i][part])
                if np.hypot(*v) < MIN_SPEED:
                    continue
                u, k = np.zeros(2), slot_of.get(i)
                if k in where[1][t] and k in where[1][t + 1]:
                    u = np.subtract(where[1][t + 1][k][part], where[1][t][k][part])
                cosines.append(u @ v / (np.hypot(*u) * np.hypot(*v)) if u.any() else 0)
                errors.append(abs(np.hypot(*u) / np.hypot(*v) - 1))
        result[f"velocity_cosine{ending}"] = np.mean(cosines) if cosines else np.nan
        result[f"speed_error{ending}"] = np.mean(errors) if errors else np.nan
    distances, turned = [], []
    for i in (i for i in objects if i in where[0][-1]):
        path = [frame[i][:2] if i in frame else None for frame in where[0]]
        steps = [np.subtract(b, a) if a and b else None for a, b in itertools.pairwise(path)]
        start = where[1][0].get(slot_of.get(i), where[0][0][i])
        end = where[1][-1].get(slot_of.get(i), start)
        distances.append(np.hypot(*np.subtract(end[:2], path[-1])))
        if steps[0] is not None and any(np.hypot(*(v - steps[0])) >= TURN for v in steps if v is not None):
            turned.append(distances[-1])
    result["position_error"] = np.mean(distances) if distances else np.nan
    result["position_error_turned"] = np.mean(turned) if turned else np.nan
    return result


def random_case(seed, num_objects=L):
    """Draw squares that wander and cover each other, some lost for a while, as true labels and independent slots."""
    rng = np.random.default_rng(seed)

    def labels():
        frames = np.zeros((B, T, H, W), np.int32)
        for b, t, k in np.ndindex(B, T, num_objects):
            y, x = np.clip(starts[b, k] + rng.integers(-3, 4, 2), 0, (H - 4, W - 4))
            if rng.random() < 0.8:
                frames[b, t, y : y + 4, x : x + 3 + t % 2] = k + 1
        return frames

    starts = rng.integers(0, (H - 4, W - 4), (B, num_objects, 2))
    return labels(), rng.permutation(K)[labels() % K]


@pytest.mark.parametrize("num_objects", [L, K + 2])
@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_a_slow_reference(seed, num_objects):
    true, slots = random_case(seed, num_objects)
    found = scores(true, slots, num_objects)
    for b in range(B):
        for name, value in slow_scores(true[b], slots[b], num_objects).items():
            np.testing.assert_allclose(found[name][b], value, rtol=1e-4, atol=1e-5, err_msg=name)


def is_tied(true, slots):
    """True if two matchings of the first frame are equally near, so that the order of the slots decides."""
    objects, found = (
        [np.argwhere(labels == k).mean(0) for k in values if (labels == k).any()]
        for labels, values in ((true[0], range(1, L + 1)), (slots[0], range(K)))
    )
    few, many = sorted((objects, found), key=len)
    costs = [np.square(np.subtract(few, chosen)).sum() for chosen in itertools.permutations(many, len(few))]
    return len(costs) > 1 and np.diff(sorted(costs)[:2]) < 1e-6


@example(seed=224, order=[1, 0, 2, 3])  # tied
@given(seed=st.integers(0, 2**16), order=st.permutations(range(K)))
@settings(max_examples=15, deadline=None)
def test_permuting_slots_changes_nothing(seed, order):
    true, slots = random_case(seed)
    assume(not any(map(is_tied, true, slots)))
    permuted = scores(true, np.array(order)[slots])
    for name, value in scores(true, slots).items():
        np.testing.assert_allclose(permuted[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
