"""Frames with missed, split or merged objects, by hand, and against slow numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import jit

from stii_jax.evaluation.metrics import METRICS
from stii_jax.types import Decomposition

B, T, K, L, H, W = 2, 4, 4, 2, 4, 6
FAULTS = ("missed", "split", "merged")


@jit
def scores(segmentation, labels):
    masks = jax.nn.one_hot(segmentation, K, axis=2)
    decomposition = Decomposition(jnp.zeros((B, T, K, H, W, 3)), masks, jnp.zeros((B, T, K, 1)))
    batch = {"video": jnp.zeros((B, T, H, W, 3), jnp.uint8), "segmentation": labels}
    return {fault: METRICS[f"{fault}_frames"](decomposition, batch, L) for fault in FAULTS}


def two_objects():
    """Return labels `B T H W` of two objects of four pixels each."""
    labels = np.zeros((B, T, H, W), np.uint8)
    labels[..., 0, :4], labels[..., 2, :4] = 1, 2
    return labels


@pytest.mark.parametrize(
    ("slots", "faults"),
    [
        ([1, 1, 1, 1], ""),
        ([0, 1, 1, 1], ""),  # a quarter is the background's
        ([3, 1, 1, 1], "split"),
        ([0, 0, 1, 3], "split"),  # two slots have a quarter each; half is the background's
        ([0, 0, 0, 1], "missed"),
        ([0, 0, 1, 1], ""),  # half is not more than half
        ([2, 2, 2, 2], "merged"),
        ([2, 2, 2, 1], "split merged"),
        ([2, 2, 1, 1], "split"),
    ],
)
def test_by_hand(slots, faults):
    """The first object of the first frame has these slots; slot 2 has the second object, slot 0 the background."""
    labels = two_objects()
    found = labels.astype(int)
    found[:, 0, 0, :4] = slots
    for fault, values in scores(found, labels).items():
        assert values.tolist() == [1 / T if fault in faults.split() else 0] * B, fault


def test_a_slot_of_objects_and_background_is_the_background():
    """All pixels are in one slot: objects are missed, not merged."""
    values = scores(np.zeros((B, T, H, W), int), two_objects())
    assert [values[fault].tolist() for fault in FAULTS] == [[1] * B, [0] * B, [0] * B]


def test_frames_without_objects_do_not_count():
    labels = two_objects()
    found = labels.astype(int)
    found[:, 0][labels[:, 0] > 0] = 3
    labels[:, 1:3], labels[1] = 0, 0
    values = scores(found, labels)
    assert values["merged"][0] == 1 / 2 and np.isnan(values["merged"][1])


def slow(found, labels, fault):
    """Return the share of frames of one video with a fault, object by object."""
    faulty = []
    for slots, true in zip(found, labels):
        background = np.bincount(slots[true == 0], minlength=K)
        behind = {k for k in range(K) if background[k] == background.max() > 0}
        held = [{k: np.mean(slots[true == i] == k) for k in range(K)} for i in range(1, L + 1) if (true == i).any()]
        if not held:
            continue
        owners = [k for shares in held for k in range(K) if shares[k] > 0.5]
        own = [k for k in owners if k not in behind]
        of_frame = {
            "missed": any(k in behind for k in owners),
            "split": any(sum(shares[k] >= 0.25 for k in range(K) if k not in behind) > 1 for shares in held),
            "merged": len(own) > len(set(own)),
        }
        faulty.append(of_frame[fault])
    return np.mean(faulty)


@pytest.mark.parametrize("seed", range(8))
def test_against_numpy(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, L + 1, (B, T, H, W)).astype(np.uint8)
    found = np.where(rng.random(labels.shape) < rng.uniform(0.3, 1), rng.permutation(K)[labels], rng.integers(0, K))
    for fault, values in scores(found, labels).items():
        np.testing.assert_allclose(values, [slow(f, t, fault) for f, t in zip(found, labels)], rtol=1e-6)
