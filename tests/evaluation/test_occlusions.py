"""Occlusions counted by hand, from arrays and from rendered labels."""

import jax.numpy as jnp
import numpy as np
import pytest

from stii_jax.evaluation.occlusions import Sightings, Summary, describe, sightings
from stii_jax.types import Decomposition

pytestmark = pytest.mark.usefixtures("quick_compiles")


def see(*objects):
    """Return the sightings of one video: per object, a slot in every frame, "." where hidden and "?" where lost."""
    frames = np.array([list(one) for one in objects]).T
    found = np.char.isdigit(frames)
    slots = np.where(found, frames, "-1").astype(int)
    return Sightings(*(jnp.asarray(values)[None] for values in (frames != ".", found, slots)))


def rows(*objects):
    summary = Summary()
    summary.add(see(*objects), np.ones(1, bool))
    return {row["hidden"]: (row["kept"], row["swapped"], row["lost"]) for row in summary.rows()}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ("11111", {}),
        ("11..1", {2: (1, 0, 0)}),
        ("11..2", {2: (0, 1, 0)}),
        ("11..?", {2: (0, 0, 1)}),
        ("1?..?1", {2: (1, 0, 0)}),  # the slots that last found it before, and first found it after
        ("1?2.2", {1: (1, 0, 0)}),
        ("1.1..2", {1: (1, 0, 0), 2: (0, 1, 0)}),
        ("1.?.1", {1: (1, 0, 1)}),  # hidden again before it was found, then found in the slot of long ago
        ("..1..", {}),  # an entry and an exit are no occlusions
        ("??.1", {}),  # it had no slot before
    ],
)
def test_outcomes_by_hand(seen, expected):
    assert rows(seen) == expected


def test_objects_and_videos_add_up_and_padding_does_not_count():
    assert rows("1.1", "2.1", "3..") == {1: (1, 1, 0)}
    summary = Summary()
    two = Sightings(*(jnp.concatenate([one, one]) for one in see("1.1")))
    summary.add(two, np.array([True, False]))
    summary.add(two, np.array([True, True]))
    assert summary.rows() == [{"hidden": 1, "count": 3, "kept": 3, "swapped": 0, "lost": 0}]


def test_sightings_of_rendered_frames():
    labels = np.zeros((1, 4, 8, 8), np.int32)
    labels[:, :, 1:3, 1:3] = 1
    labels[:, [0, 3], 5:7, 5:7] = 2  # hidden in two frames
    slots = np.array([2, 0, 1])[labels]  # slot 2 has the background
    slots[:, 3, 5:7, 5:7] = 2  # which takes over the second object at the end
    masks = np.float32(slots[:, :, None] == np.arange(3)[:, None, None])
    shape = masks.shape
    decomposition = Decomposition(
        jnp.zeros((*shape, 3)), jnp.asarray(masks), jnp.zeros((*shape[:3], 4)), responsibilities=None
    )
    seen = sightings(decomposition, {"segmentation": jnp.asarray(labels)}, 2)
    np.testing.assert_array_equal(seen.visible[0].T, [[True] * 4, [True, False, False, True]])
    np.testing.assert_array_equal(seen.found[0].T, [[True] * 4, [True, False, False, False]])
    np.testing.assert_array_equal(seen.slots[0, :, 0], [0] * 4)
    assert seen.slots[0, 0, 1] == 1
    summary = Summary()
    summary.add(seen, np.ones(1, bool))
    assert summary.rows() == [{"hidden": 2, "count": 1, "kept": 0, "swapped": 0, "lost": 1}]


def test_the_line_about_them():
    assert describe([]) == ""
    once = {"hidden": 3, "count": 2, "kept": 1, "swapped": 1, "lost": 0}
    assert describe([once]) == (
        "objects were hidden 2 times, for 3 frames: 50% returned in their slot, 0% were not found again"
    )
    assert "5 times, for 3 to 7 frames: 20% returned" in describe([once, once | {"hidden": 7, "count": 3, "kept": 0}])
