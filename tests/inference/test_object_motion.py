"""The predicted motion of a recording's objects: exact answers for constant velocity, and properties of futures."""

import copy

import numpy as np
import pytest

from stii_jax.inference.object_motion import HORIZON, MEMORY, STEPS, ObjectMotion, Place, moved, place_of
from stii_jax.visualization.regions import OUTSIDE, Canvas, Labels

STEP = (0.01, -0.02)


def straight(count=6, numbers=(2, 5)):
    """A motion that has seen objects at constant velocity, each faster than the last."""
    motion = ObjectMotion()
    for time in range(count):
        motion.see({n: Place(n * STEP[0] * time / 10, n * STEP[1] * time / 10) for n in numbers})
    return motion


@pytest.mark.parametrize("count", [2, 3, STEPS, MEMORY + 20])
def test_objects_keep_their_velocity(count):
    motion = straight(count)
    for time in (1, 2, 3):
        found = motion.next()
        assert found.keys() == {2, 5}
        for number, move in found.items():
            np.testing.assert_allclose(move, [number * v * time / 10 for v in STEP], atol=1e-6)


def test_an_object_seen_once_stays_and_one_that_left_is_not_predicted():
    motion = straight()
    motion.see({2: Place(0.3, 0.3), 7: Place(0.1, 0.1)})
    found = motion.next()
    assert found.keys() == {2, 7} and np.allclose(found[7], 0, atol=1e-6) and found[2][0] > 0.05


def test_velocity_is_the_mean_over_five_displacements():
    def velocity(*places):
        motion = ObjectMotion()
        for place in places:
            motion.see({} if place is None else {1: Place(place / 100, 0.0)})
        return 100 * motion.next()[1][0]

    assert velocity(40, 9, 9, 1, 2, 6, 14) == pytest.approx((14 - 9) / 5)
    assert velocity(8, 9, None, 2, 6, 14) == pytest.approx((1 + 4 + 8) / 3)  # between neighbouring frames that show it
    assert velocity(9, None, 14) == 0


def test_without_objects_nothing_is_predicted():
    assert ObjectMotion().next() == {}
    motion = straight()
    motion.forget()
    assert motion.next() == {}


def test_futures_spread_as_far_as_the_recording_was_unpredictable():
    smooth, rough = straight(40), ObjectMotion()
    rng = np.random.default_rng(0)
    for _ in range(40):
        rough.see({1: Place(*rng.normal(0, 0.01, 2))})
    smooth.sample(0, 0)
    np.testing.assert_allclose(smooth.next()[2], [0.2 * v for v in STEP], atol=1e-6)
    last = []
    for number in range(200):
        future = copy.deepcopy(rough)
        future.sample(0, number)
        last.append([future.next()[1] for _ in range(HORIZON)][-1])
    # Ten frames ahead, the error is new - last - 10 (last - fifth before) / 5 = new - 3 last + 2 fifth before, whose
    # standard deviation is (1 + 3**2 + 2**2)**.5 = 3.74 times that of the independent positions.
    np.testing.assert_allclose(np.std(last, axis=0), 0.0374, rtol=0.25)


def test_a_future_depends_on_seed_and_number_alone():
    def future(seed, number):
        motion = straight(40)
        motion.see({2: Place(0.2, 0.1), 5: Place(0.1, 0.1)})
        for _ in range(6):
            motion.see({2: Place(0.2, 0.1), 5: Place(0.1, 0.1)})
        motion.sample(seed, number)
        return [motion.next() for _ in range(3)]

    found = [future(0, 1), future(0, 1), future(0, 2), future(1, 1)]
    assert found[0] == found[1] and found[0] != found[2] and found[0] != found[3]


@pytest.mark.parametrize("count", [1, 2])
def test_two_frames_are_too_few_to_know_the_error(count):
    motion = straight(count)
    motion.sample(0, 0)
    assert motion.next() == straight(count).next()


def test_places_are_centroids_in_units_of_the_view():
    mask = np.zeros((4, 8), bool)
    assert place_of(~mask) == (0, 0)
    mask[0, 6:] = True
    assert place_of(mask) == (-3 / 8, 3 / 8)


def test_labels_move_with_small_objects_in_front_and_leave_the_view():
    canvas = Canvas((4, 4), (2, 0, 10, 8), 12, 8)  # the view is 8x8 pixels, with 2 more on either side
    slots = np.full((8, 12), OUTSIDE, np.uint8)
    slots[:, 2:10] = 0
    slots[0:4, 2:6], slots[6:8, 8:10] = 1, 2
    labels = Labels(slots, np.where(slots == 1, 0.75, 0.5).astype(np.float32))
    found = moved(labels, {1: (0.25, 0.25), 2: (-0.5, -0.5)}, canvas)
    expected = np.full((8, 12), OUTSIDE, np.uint8)
    expected[:, 2:10] = 0
    expected[2:6, 4:8] = 1
    expected[2:4, 4:6] = 2
    assert np.array_equal(found.slots, expected)
    assert (found.certainty[found.slots == 1] == 0.75).all() and (found.certainty[found.slots == 2] == 0.5).all()
    gone = moved(labels, {1: (0.0, -0.25)}, canvas)
    assert np.array_equal(gone.slots[0:4, 2:4], np.ones((4, 2))) and (gone.slots == 1).sum() == 8
    assert not (gone.slots == 2).any() and (gone.slots[:, [0, 1, 10, 11]] == OUTSIDE).all()
