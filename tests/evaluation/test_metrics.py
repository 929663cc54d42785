"""Metrics against scikit-learn and slow numpy, hand-made cases, and invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from tiny import jit

from stii_jax.evaluation.metrics import (
    MASK_METRICS,
    METRICS,
    TRACKED_IOU,
    UNLABELLED_METRICS,
    adjusted_rand_index,
    best_match,
    evaluate_video,
    intersection_over_union,
    matched,
    plain_mse,
    slot_shares,
    summarize,
)
from stii_jax.types import Decomposition

B, T, K, L, H, W = 2, 3, 5, 3, 6, 7  # one shape for (nearly) all tests: one compilation
evaluate = jit(evaluate_video, static_argnames="num_objects")
rand_index = jit(adjusted_rand_index, static_argnames=("num_true", "num_pred"))


def adjusted_rand_score(true, pred):
    """Return scikit-learn's score; the import takes seconds."""
    from sklearn.metrics import adjusted_rand_score

    return adjusted_rand_score(true, pred)


def decomposition_of(segmentation):
    """Return hard masks of a segmentation `B T H W`, with black means."""
    return decomposition_with(np.moveaxis(np.eye(K)[segmentation], -1, 2))


def decomposition_with(masks, means=0.0):
    means = np.broadcast_to(np.float32(means), (*masks.shape, 3))
    return jax.device_put(Decomposition(means, np.float32(masks), np.zeros((*masks.shape[:3], 4), np.float32)))


def batch_of(segmentation):
    video = np.zeros((*segmentation.shape, 3), np.uint8)
    return jax.device_put({"video": video, "segmentation": np.uint8(segmentation)})


def random_case(seed, agreement=0.7):
    """Return a decomposition with soft masks, its batch, the true labels, and predicted ones that partly agree."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, L + 1, (B, T, H, W))
    pred = np.where(rng.random(true.shape) < agreement, true, rng.integers(0, K, true.shape))
    logits = 4 * np.eye(K)[pred] + rng.random((*true.shape, K))
    masks = np.exp(np.moveaxis(logits, -1, 2))
    means = rng.random((B, T, K, H, W, 3))
    video = np.uint8(rng.integers(0, 256, (B, T, H, W, 3)))
    decomposition = decomposition_with(masks / masks.sum(2, keepdims=True), means)
    return decomposition, {**batch_of(true), "video": jax.device_put(video)}, true, pred


def slow_ari(true, pred, foreground):
    """Mean over the leading axis; groups without a counted pixel are left out."""
    scores = []
    for t, p in zip(true, pred):
        counted = t > 0 if foreground else np.ones(t.shape, bool)
        if counted.any():
            scores.append(adjusted_rand_score(t[counted], p[counted]))
    return np.mean(scores)


def slow_miou(true, pred):
    """Mean over the leading axis and the objects in it, matched by scipy."""
    scores = []
    for t, p in zip(true, pred):
        present = [label for label in range(1, L + 1) if (t == label).any()]
        iou = [[((t == i) & (p == k)).sum() / ((t == i) | (p == k)).sum() for k in range(K)] for i in present]
        if present:
            rows, columns = linear_sum_assignment(iou, maximize=True)
            scores.append(np.asarray(iou)[rows, columns].sum() / len(present))
    return np.mean(scores)


def slow_switches(true, pred):
    """Count slot changes of one video `T N`, with one memory per object."""
    count, last = 0, {}
    for t, p in zip(true, pred):
        iou = np.zeros((L, K))
        for i, k in np.ndindex(L, K):
            iou[i, k] = ((t == i + 1) & (p == k)).sum() / max(((t == i + 1) | (p == k)).sum(), 1)
        for i, k in zip(*linear_sum_assignment(iou, maximize=True)):
            if iou[i, k] >= TRACKED_IOU:
                count += last.get(i, k) != k
                last[i] = k
    return count


@pytest.mark.parametrize("agreement", [0.0, 0.3, 0.9])
def test_metrics_equal_scikit_learn_and_scipy(agreement):
    decomposition, batch, true, pred = random_case(1, agreement)
    values = evaluate(decomposition, batch, num_objects=L)
    assert set(values) == set(METRICS)
    assert all(value.shape == (B,) and value.dtype == jnp.float32 for value in values.values())
    for video in range(B):
        for prefix, groups in ("", T), ("video_", 1):
            t, p = (labels[video].reshape(groups, -1) for labels in (true, pred))
            assert_close(values[f"{prefix}ari"][video], slow_ari(t, p, foreground=False))
            assert_close(values[f"{prefix}f_ari"][video], slow_ari(t, p, foreground=True))
            assert_close(values[f"{prefix}fg_miou"][video], slow_miou(t, p))
        assert values["identity_switches"][video] == slow_switches(true[video], pred[video])
    mixture = np.einsum("btkhw,btkhwc->bthwc", decomposition.masks, decomposition.means)
    error = mixture - np.asarray(batch["video"]) / 255
    assert_close(values["mse"], np.square(error).mean((1, 2, 3, 4)))


def assert_close(value, expected, message=""):
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5, err_msg=message)


def test_ari_is_accurate_on_a_long_video_that_is_nearly_all_background():
    """Numbers of pixel pairs reach 10^11 here, far beyond the integers that float32 can represent."""
    rng = np.random.default_rng(0)
    true = (rng.random(400_000) < 1e-3).astype(np.int32)
    pred = np.where(rng.random(true.shape) < 2e-4, 2, true)
    score = rand_index(true, np.int32(pred), num_true=2, num_pred=3, weights=np.ones(true.shape, bool))
    np.testing.assert_allclose(score, adjusted_rand_score(true, pred), rtol=1e-5)


@pytest.mark.parametrize(
    ("true", "pred", "expected"),
    [
        ([0, 0, 1, 1], [1, 1, 0, 0], 1.0),  # renamed
        ([0, 0, 1, 1], [0, 0, 1, 2], 4 / 7),  # one cluster split
        ([0, 0, 1, 1], [0, 1, 0, 1], -0.5),  # the worst case
        ([0, 0, 0, 0], [0, 0, 0, 0], 1.0),  # a single cluster in both
        ([0, 0, 0, 0], [0, 1, 2, 3], 0.0),
        ([0, 1, 2, 3], [3, 2, 1, 0], 1.0),  # only singletons
    ],
)
def test_ari_by_hand(true, pred, expected):
    score = rand_index(np.array(true), np.array(pred), num_true=4, num_pred=4, weights=np.ones(4, bool))
    np.testing.assert_allclose(score, expected, atol=1e-6)


def test_weights_leave_pixels_out():
    def score(counted):
        true, pred = np.array([0, 0, 1, 1, 0, 1]), np.array([1, 1, 0, 0, 0, 1])
        return rand_index(true, pred, num_true=2, num_pred=2, weights=counted)

    assert score(np.array([True, True, True, True, False, False])) == 1
    assert score(np.ones(6, bool)) < 1
    assert score(np.zeros(6, bool)) == 1, "no pixel: they trivially agree"


def two_still_objects():
    true = np.zeros((B, T, H, W), int)
    true[..., 0:2, 0:2], true[..., 3:5, 4:6] = 1, 2
    return true


def test_a_slot_swap_shows_only_in_the_video_metrics():
    true = two_still_objects()
    swapped = true.copy()
    swapped[:, 2] = np.array([0, 2, 1])[true[:, 2]]
    values = evaluate(decomposition_of(swapped), batch_of(true), num_objects=L)
    assert all((values[name] == 1).all() for name in ("ari", "f_ari", "fg_miou"))
    foreground = true[0] > 0
    assert_close(values["video_f_ari"], adjusted_rand_score(true[0][foreground], swapped[0][foreground]))
    assert (values["video_ari"] < 0.97).all()
    assert_close(values["video_fg_miou"], 8 / 16)  # each slot has 8 of its object's 12 pixels and 4 others
    assert (values["identity_switches"] == 2).all(), "both objects, once"


@pytest.mark.parametrize(
    ("slots", "switches"),
    [
        ([1, 1, 1], 0),
        ([1, 3, 1], 2),  # there and back
        ([1, None, 3], 1),  # lost, then found in another slot
        ([1, None, 1], 0),
        ([None, 1, 1], 0),  # found late
        ([None, None, None], 0),  # never found
    ],
)
@pytest.mark.parametrize("hidden", [False, True])
def test_identity_switches_by_hand(slots, switches, hidden):
    """Switches of the smaller of two objects, which is lost to the other's slot or not visible itself."""
    true = two_still_objects()
    true[..., 3:6, 4:7] = 2
    pred = np.full_like(true, 2) * (true > 0)
    for t, slot in enumerate(slots):
        if slot is not None:
            pred[:, t][true[:, t] == 1] = slot
        elif hidden:
            true[:, t][true[:, t] == 1] = 0
    values = evaluate(decomposition_of(pred), batch_of(true), num_objects=L)
    assert (values["identity_switches"] == switches).all()


def test_a_stray_pixel_of_a_lost_object_is_no_switch():
    true = two_still_objects()
    true[..., 0:3, 0:4], true[..., 3:6, :] = 1, 2
    pred = true.copy()
    pred[:, 1][true[:, 1] == 1] = 2
    pred[:, 1, 0, 0] = 3
    values = evaluate(decomposition_of(pred), batch_of(true), num_objects=L)
    assert TRACKED_IOU > 1 / 12 and (values["identity_switches"] == 0).all()


def test_spread_background_costs_ari_and_not_f_ari():
    true = two_still_objects()
    pred = np.where((true == 0) & (np.arange(W) % 2 == 0), 3, true)
    values = evaluate(decomposition_of(pred), batch_of(true), num_objects=L)
    assert all((values[name] == 1).all() for name in ("f_ari", "video_f_ari", "fg_miou"))
    assert ((values["ari"] > 0) & (values["ari"] < 0.8)).all()


def test_matching_by_hand_with_fewer_slots_than_objects():

    @jit
    def match(true, pred):
        iou = intersection_over_union(true, pred, 3, 2)
        columns = best_match(iou)
        return iou, columns, matched(iou, columns)

    iou, columns, scores = map(
        np.asarray, match(np.array([1, 1, 1, 1, 2, 2, 3, 3]), np.array([0, 0, 0, 1, 1, 1, 1, 1]))
    )
    assert_close(iou, [[3 / 4, 1 / 8], [0, 2 / 5], [0, 2 / 5]])
    assert columns[0] == 0 and sorted(columns[1:].tolist()) == [-1, 1]
    assert_close(scores.sum(), 3 / 4 + 2 / 5 + 0)


def test_frames_without_foreground_are_left_out_of_foreground_metrics():
    decomposition, _, true, pred = random_case(0)
    true[0, 1] = 0  # one empty frame
    true[1] = 0  # an empty video
    values = evaluate(decomposition, batch_of(true), num_objects=L)
    t, p = true[0].reshape(T, -1), pred[0].reshape(T, -1)
    assert_close(values["f_ari"][0], slow_ari(t, p, foreground=True))
    assert_close(values["fg_miou"][0], slow_miou(t, p))
    for name, value in values.items():
        assert np.isnan(value[1]) == (name not in ("ari", "video_ari", "mse")), name
    counts = summarize({name: np.asarray(value) for name, value in values.items()}, np.ones(2, bool))
    assert counts["f_ari_count"] == 1 and counts["ari_count"] == 2


def test_a_label_above_num_objects_is_not_dropped_silently():
    decomposition, _, true, _ = random_case(0)
    true[0, 0, 0, 0] = L + 1
    for name, value in evaluate(decomposition, batch_of(true), num_objects=L).items():
        assert np.isnan(value).tolist() == [name not in UNLABELLED_METRICS, False], name


def test_without_labels_only_the_unlabelled_metrics():
    decomposition, batch, _, _ = random_case(0)
    assert tuple(evaluate(decomposition, {"video": batch["video"]}, num_objects=L)) == UNLABELLED_METRICS


def test_responsibilities_are_scored_with_the_masks_beside():
    """All metrics except the error use responsibilities; the ARI scores of the masks are kept."""
    by_masks, batch, _, _ = random_case(1)
    sharper, _, _, _ = random_case(1, agreement=0.9)
    both = by_masks._replace(responsibilities=sharper.masks)
    scores = evaluate(both, batch, num_objects=L)
    of_masks = evaluate(by_masks, batch, num_objects=L)
    of_responsibilities = evaluate(sharper, batch, num_objects=L)
    assert set(scores) - set(of_masks) == {f"mask_{name}" for name in MASK_METRICS}
    for name in MASK_METRICS:
        assert_close(scores[f"mask_{name}"], of_masks[name], name)
    for name in set(of_masks) - {"mse"}:
        assert_close(scores[name], of_responsibilities[name], name)
    assert_close(scores["mse"], of_masks["mse"], "mse")
    assert (scores["ari"] != scores["mask_ari"]).all()


@given(seed=st.integers(0, 2**16), order=st.permutations(range(K)), names=st.permutations(range(1, L + 1)))
@settings(max_examples=15, deadline=None)
def test_permuting_slots_or_renaming_objects_changes_nothing(seed, order, names):
    decomposition, batch, true, _ = random_case(seed)
    permuted = jax.tree.map(lambda array: jax.device_put(np.asarray(array)[:, :, np.array(order)]), decomposition)
    renamed = {**batch, "segmentation": jax.device_put(np.uint8([0, *names])[true])}
    values = evaluate(decomposition, batch, num_objects=L)
    of_permuted = evaluate(permuted, batch, num_objects=L)
    of_renamed = evaluate(decomposition, renamed, num_objects=L)
    for name in values.keys() - {"identity_switches"}:  # if two matchings are equally good, the order decides
        assert_close(of_permuted[name], values[name], name)
        assert_close(of_renamed[name], values[name], name)


@jit
def identity_switches(decomposition, batch):
    return METRICS["identity_switches"](decomposition, batch, L)


@given(seed=st.integers(0, 2**16), order=st.permutations(range(K)), names=st.permutations(range(1, L + 1)))
@settings(max_examples=10, deadline=None)
def test_switches_between_exact_slots_are_those_of_the_slots(seed, order, names):
    """Every object has its own slot in every frame, which changes at random, so matchings are unique."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, L + 1, (B, T, H, W))
    slots = np.stack([[rng.permutation(K)[: L + 1] for _ in range(T)] for _ in range(B)])
    pred = np.take_along_axis(slots[..., None], true.reshape(B, T, -1, 1), axis=2).reshape(true.shape)
    renamed = np.array([0, *names])[true]
    for labels, found in ((true, pred), (true, np.array(order)[pred]), (renamed, pred)):
        switches = identity_switches(decomposition_of(found), batch_of(labels))
        assert switches.tolist() == [slow_switches(true[b], pred[b]) for b in range(B)]


@given(seed=st.integers(0, 2**16))
@settings(max_examples=10, deadline=None)
def test_empty_slots_and_absent_objects_change_nothing(seed):
    decomposition, batch, _, _ = random_case(seed)

    def with_two_more(array):
        return jax.device_put(np.pad(array, [(0, 0), (0, 0), (0, 2)] + [(0, 0)] * (array.ndim - 3)))

    padded = jax.tree.map(with_two_more, decomposition)
    of_padded = evaluate(padded, batch, num_objects=L + 2)
    for name, value in evaluate(decomposition, batch, num_objects=L).items():
        assert_close(of_padded[name], value, name)


@given(labels=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.booleans()), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_ari_equals_scikit_learn_on_any_labels(labels):
    padded = labels + [(0, 0, False)] * (30 - len(labels))  # one shape, one compilation
    true, pred, counted = (np.array(column) for column in zip(*padded))
    score = rand_index(true, pred, num_true=4, num_pred=5, weights=counted)
    expected = adjusted_rand_score(true[counted], pred[counted]) if counted.any() else 1.0
    np.testing.assert_allclose(score, expected, atol=1e-5)


def test_summary_leaves_out_padding_and_nan():
    values = {"f_ari": np.array([0.5, np.nan, 1.0, 9.0]), "mse": np.array([1.0, 2.0, 3.0, np.nan])}
    summary = summarize(values, np.array([True, True, True, False]))
    assert summary["f_ari"] == 0.75 and summary["f_ari_count"] == 2
    assert_close(summary["f_ari_stderr"], np.std([0.5, 1.0], ddof=1) / np.sqrt(2))
    assert summary["mse"] == 2 and summary["mse_count"] == 3
    nothing = summarize({"ari": np.array([1.0, np.nan])}, np.array([False, True]))
    assert np.isnan(nothing["ari"]) and np.isnan(nothing["ari_stderr"]) and nothing["ari_count"] == 0
    assert np.isnan(summarize({"ari": np.array([1.0])}, np.array([True]))["ari_stderr"])


shares_of = jit(slot_shares)


def test_slot_shares():
    """The largest share comes first in each video, whichever slot has it."""
    segmentation = np.zeros((B, T, H, W), int)
    segmentation[0, :, :3] = 4
    segmentation[1, 0] = 2
    shares = shares_of(decomposition_of(segmentation))
    np.testing.assert_allclose(shares, [[1 / 2, 1 / 2, 0, 0, 0], [2 / 3, 1 / 3, 0, 0, 0]], rtol=1e-6)
    decomposition, *_ = random_case(seed=5)
    for found, labels in zip(shares_of(decomposition), np.asarray(decomposition.segmentation)):
        expected = sorted(np.bincount(labels.ravel(), minlength=K) / labels.size, reverse=True)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_plain_mse_is_that_of_frames_of_one_colour():
    decomposition, batch, *_ = random_case(seed=6)
    mean = (np.asarray(batch["video"]) / 255).mean((2, 3), keepdims=True)
    plain = decomposition_with(np.asarray(decomposition.masks), mean[:, :, None])
    error = jit(plain_mse)
    expected = evaluate(plain, {"video": batch["video"]}, num_objects=L)["mse"]
    np.testing.assert_allclose(error(batch), expected, rtol=1e-5)
    assert not np.any(error(batch_of(np.zeros((B, T, H, W), int))))
