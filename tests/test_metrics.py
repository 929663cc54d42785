"""Metrics against scikit-learn and slow numpy, hand-made cases, and what must not change them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from stii_jax.metrics import METRICS, UNLABELLED_METRICS, adjusted_rand_index, evaluate_video, summarize
from stii_jax.types import Decomposition

B, T, K, L, H, W = 2, 3, 5, 3, 6, 7
evaluate = jax.jit(evaluate_video, static_argnames="num_objects")


def decomposition_of(segmentation, num_slots, means=None):
    """Hard masks of a segmentation `B T H W`, and black or given means."""
    masks = jax.nn.one_hot(segmentation, num_slots, axis=2)
    if means is None:
        means = jnp.zeros((*masks.shape, 3))
    return Decomposition(means, masks, jnp.zeros((*masks.shape[:3], 4)))


def batch_of(segmentation, video=None):
    if video is None:
        video = np.zeros((*segmentation.shape, 3), np.uint8)
    return {"video": jnp.asarray(video, jnp.uint8), "segmentation": jnp.asarray(segmentation, jnp.uint8)}


def random_case(seed, agreement=0.7):
    """Labels, a partly agreeing prediction, and soft masks and means that give it."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, L + 1, (B, T, H, W))
    pred = np.where(rng.random(true.shape) < agreement, true, rng.integers(0, K, true.shape))
    logits = 4 * np.eye(K)[pred] + rng.random((*true.shape, K))
    masks = jax.nn.softmax(jnp.moveaxis(jnp.asarray(logits, jnp.float32), -1, 2), axis=2)
    means = jnp.asarray(rng.random((B, T, K, H, W, 3)), jnp.float32)
    video = rng.integers(0, 256, (B, T, H, W, 3))
    return Decomposition(means, masks, jnp.zeros((B, T, K, 4))), batch_of(true, video), true, pred


def slow_ari(true, pred, foreground):
    """Mean over the leading axis; groups without a counted pixel are left out."""
    scores = []
    for t, p in zip(true, pred):
        keep = t > 0 if foreground else np.ones(t.shape, bool)
        if keep.any():
            scores.append(adjusted_rand_score(t[keep], p[keep]))
    return np.mean(scores) if scores else np.nan


def slow_miou(true, pred):
    scores = []
    for t, p in zip(true, pred):
        present = [label for label in range(1, L + 1) if (t == label).any()]
        iou = [[((t == i) & (p == k)).sum() / ((t == i) | (p == k)).sum() for k in range(K)] for i in present]
        if present:
            rows, columns = linear_sum_assignment(iou, maximize=True)
            scores.append(np.asarray(iou)[rows, columns].sum() / len(present))
    return np.mean(scores) if scores else np.nan


@pytest.mark.parametrize("seed", range(4))
def test_metrics_equal_scikit_learn_and_scipy(seed):
    decomposition, batch, true, pred = random_case(seed, agreement=0.3 * seed)
    values = evaluate(decomposition, batch, num_objects=L)
    by_frame, by_video = (
        lambda video: zip(true[video].reshape(T, -1), pred[video].reshape(T, -1)),
        lambda video: [(true[video].ravel(), pred[video].ravel())],
    )
    for video in range(B):
        for prefix, groups in ("", by_frame), ("video_", by_video):
            t, p = zip(*groups(video))
            expected = {
                "ari": slow_ari(t, p, False),
                "f_ari": slow_ari(t, p, True),
                "fg_miou": slow_miou(t, p),
            }
            for name, value in expected.items():
                np.testing.assert_allclose(values[_name(prefix, name)][video], value, atol=1e-5, err_msg=name)


def _name(prefix, name):
    return f"{prefix}{name}"


def test_mse_is_of_the_mixture_in_unit_range():
    decomposition, batch, _, _ = random_case(0)
    mixture = np.einsum("btkhw,btkhwc->bthwc", decomposition.masks, decomposition.means)
    expected = ((mixture - np.asarray(batch["video"]) / 255) ** 2).mean((1, 2, 3, 4))
    np.testing.assert_allclose(METRICS["mse"](decomposition, batch, L), expected, rtol=1e-5)


def test_ari_stays_exact_on_a_long_video_that_is_nearly_all_background():
    """Counts of pixel pairs reach 10^11 here, far past float32's integers."""
    rng = np.random.default_rng(0)
    true = (rng.random(400_000) < 1e-3).astype(np.int32)
    pred = np.where(rng.random(true.shape) < 2e-4, 2, true)
    score = jax.jit(adjusted_rand_index, static_argnums=(2, 3))(true, pred, 2, 3, np.ones(true.shape, bool))
    np.testing.assert_allclose(score, adjusted_rand_score(true, pred), rtol=1e-5)


@pytest.mark.parametrize(
    ("true", "pred", "expected"),
    [
        ([0, 0, 1, 1], [1, 1, 0, 0], 1.0),  # renamed
        ([0, 0, 1, 1], [0, 0, 1, 2], 4 / 7),  # one cluster split: scikit-learn's documented example
        ([0, 0, 1, 1], [0, 1, 0, 1], -0.5),  # as bad as it gets
        ([0, 0, 0, 0], [0, 0, 0, 0], 1.0),  # one cluster in both
        ([0, 0, 0, 0], [0, 1, 2, 3], 0.0),
        ([0, 1, 2, 3], [3, 2, 1, 0], 1.0),  # only singletons
        ([2], [3], 1.0),
    ],
)
def test_ari_by_hand(true, pred, expected):
    score = adjusted_rand_index(jnp.array(true), jnp.array(pred), 4, 4, jnp.ones(len(true), bool))
    np.testing.assert_allclose(score, expected, atol=1e-6)


def test_weights_leave_pixels_out():
    true, pred = jnp.array([0, 0, 1, 1, 0, 1]), jnp.array([1, 1, 0, 0, 0, 1])
    counted = jnp.array([True] * 4 + [False] * 2)
    assert adjusted_rand_index(true, pred, 2, 2, counted) == 1
    assert adjusted_rand_index(true, pred, 2, 2, ~counted | True) < 1
    assert adjusted_rand_index(true, pred, 2, 2, jnp.zeros(6, bool)) == 1, "no pixel: trivial agreement"


def test_a_slot_swap_shows_only_in_the_video_metrics():
    frame = np.zeros((4, 6), int)
    frame[0:2, 0:2], frame[2:4, 3:5] = 1, 2
    true = np.stack([frame, frame])[None]
    swapped = np.stack([frame, np.array([0, 2, 1])[frame]])[None]
    values = evaluate(decomposition_of(swapped, 4), batch_of(true), num_objects=2)
    assert values["ari"] == values["f_ari"] == values["fg_miou"] == 1
    assert values["video_ari"] < 0.9
    np.testing.assert_allclose(values["video_f_ari"], adjusted_rand_score(true[true > 0], swapped[true > 0]))
    np.testing.assert_allclose(values["video_fg_miou"], 1 / 3)


def test_spread_background_costs_ari_and_not_f_ari():
    true = np.zeros((1, 1, 4, 6), int)
    true[..., :2, :2], true[..., 2:, 4:] = 1, 2
    pred = np.where((true == 0) & (np.arange(6) % 2 == 0), 3, true)
    values = evaluate(decomposition_of(pred, 4), batch_of(true), num_objects=2)
    assert values["f_ari"] == 1 and values["fg_miou"] == 1
    assert 0 < values["ari"] < 0.8


def test_miou_by_hand_with_fewer_slots_than_objects():
    true = np.array([[[[1, 1, 1, 1], [2, 2, 3, 3]]]])
    pred = np.array([[[[0, 0, 0, 1], [1, 1, 1, 1]]]])  # 0 has 3/4 of object 1; 1 has 2/5 of 2 or of 3
    values = evaluate(decomposition_of(pred, 2), batch_of(true), num_objects=3)
    np.testing.assert_allclose(values["fg_miou"], (3 / 4 + 2 / 5 + 0) / 3, rtol=1e-6)


def test_frames_without_foreground_are_left_out_of_foreground_metrics():
    rng = np.random.default_rng(0)
    true, pred = rng.integers(0, L + 1, (2, 3, H, W)), rng.integers(0, K, (2, 3, H, W))
    true[0, 1] = 0  # one empty frame
    true[1] = 0  # an empty video
    values = evaluate(decomposition_of(pred, K), batch_of(true), num_objects=L)
    without = evaluate(decomposition_of(pred[:, [0, 2]], K), batch_of(true[:, [0, 2]]), num_objects=L)
    for name in METRICS:
        if name in ("f_ari", "fg_miou", "video_f_ari"):
            np.testing.assert_allclose(values[name], without[name], rtol=1e-6, err_msg=name)
        assert np.isnan(values[name][1]) == (name not in ("ari", "video_ari", "mse")), name
    counts = summarize({name: np.asarray(value) for name, value in values.items()}, np.ones(2, bool))
    assert counts["f_ari_count"] == 1 and counts["ari_count"] == 2


def test_a_label_without_a_row_is_not_dropped_silently():
    decomposition, batch, _, _ = random_case(0)
    values = evaluate(decomposition, batch, num_objects=L - 1)
    assert all(np.isnan(values[name]).all() == (name not in UNLABELLED_METRICS) for name in METRICS)


def test_without_labels_only_the_unlabelled_metrics():
    decomposition, batch, _, _ = random_case(0)
    assert tuple(evaluate(decomposition, {"video": batch["video"]}, num_objects=L)) == UNLABELLED_METRICS


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_gives_one_value_a_video(name):
    decomposition, batch, _, _ = random_case(1)
    value = jax.jit(METRICS[name], static_argnums=2)(decomposition, batch, L)
    assert value.shape == (B,) and value.dtype == jnp.float32


def assert_same_metrics(left, right, rtol=1e-4):
    assert set(left) == set(right) == set(METRICS)
    for name, value in left.items():
        np.testing.assert_allclose(value, right[name], rtol=rtol, atol=1e-5, err_msg=name)


@given(seed=st.integers(0, 2**16), order=st.permutations(range(K)))
@settings(max_examples=15, deadline=None)
def test_permuting_slots_changes_nothing(seed, order):
    decomposition, batch, _, _ = random_case(seed)
    permuted = Decomposition(*(array[:, :, jnp.array(order)] for array in decomposition))
    assert_same_metrics(
        evaluate(decomposition, batch, num_objects=L), evaluate(permuted, batch, num_objects=L)
    )


@given(seed=st.integers(0, 2**16), names=st.permutations(range(1, L + 1)))
@settings(max_examples=15, deadline=None)
def test_relabelling_objects_changes_nothing(seed, names):
    decomposition, batch, true, _ = random_case(seed)
    relabelled = {**batch, "segmentation": jnp.asarray(np.array([0, *names])[true], jnp.uint8)}
    assert_same_metrics(
        evaluate(decomposition, batch, num_objects=L), evaluate(decomposition, relabelled, num_objects=L)
    )


@given(seed=st.integers(0, 2**16), num_objects=st.sampled_from([L + 1, L + 3]))
@settings(max_examples=10, deadline=None)
def test_padding_with_empty_slots_and_objects_changes_nothing(seed, num_objects):
    decomposition, batch, _, _ = random_case(seed)
    padded = Decomposition(
        *(jnp.pad(array, [(0, 0), (0, 0), (0, 2)] + [(0, 0)] * (array.ndim - 3)) for array in decomposition)
    )
    assert_same_metrics(
        evaluate(decomposition, batch, num_objects=L), evaluate(padded, batch, num_objects=num_objects)
    )


@given(
    labels=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.booleans()), min_size=1, max_size=30)
)
@settings(max_examples=60, deadline=None)
def test_ari_equals_scikit_learn_on_any_labels(labels):
    padded = labels + [(0, 0, False)] * (30 - len(labels))  # one shape, one compilation
    true, pred, counted = (np.array(column) for column in zip(*padded))
    score = jax.jit(adjusted_rand_index, static_argnums=(2, 3))(true, pred, 4, 5, counted)
    expected = adjusted_rand_score(true[counted], pred[counted]) if counted.any() else 1.0
    np.testing.assert_allclose(score, expected, atol=1e-5)


def test_summary_leaves_out_padding_and_nan():
    values = {"f_ari": np.array([0.5, np.nan, 1.0, 9.0]), "mse": np.array([1.0, 2.0, 3.0, np.nan])}
    summary = summarize(values, np.array([True, True, True, False]))
    assert summary["f_ari"] == 0.75 and summary["f_ari_count"] == 2
    np.testing.assert_allclose(summary["f_ari_stderr"], np.std([0.5, 1.0], ddof=1) / np.sqrt(2))
    assert summary["mse"] == 2 and summary["mse_count"] == 3
    nothing = summarize({"ari": np.array([1.0, np.nan])}, np.array([False, True]))
    assert np.isnan(nothing["ari"]) and np.isnan(nothing["ari_stderr"]) and nothing["ari_count"] == 0
    assert np.isnan(summarize({"ari": np.array([1.0])}, np.array([True]))["ari_stderr"])
