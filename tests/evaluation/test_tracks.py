"""Scores against point tracks: exact answers on hand-made tracks, and the definitions of docs/metrics.md."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stii_jax.evaluation.tracks import (
    NONE,
    Sightings,
    centroid_errors,
    found_frames,
    found_objects,
    identity_switches,
    look,
    points_in_own_mask,
    score,
    separated_frames,
    touching_frames,
)

WIDTH = 40
SIDE = float(WIDTH)
LEFT, RIGHT, BETWEEN, OUT = (5.5, 5.5), (25.5, 5.5), (15.5, 5.5), (-3.0, 5.5)
MISSING = (np.nan, np.nan)


def picture(places, background=0):
    """Return 5x5 squares by number, and their centroids."""
    labels = np.full((20, WIDTH), background)
    for number, (x, y) in places.items():
        labels[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3] = number
    return labels, dict(places)


def sightings(frames, points, centres=None, reach=1.5, background=0):
    points = np.array(points, float)
    seen = [look(*picture(places, background), row, reach) for places, row in zip(frames, points, strict=True)]
    return Sightings(points, points if centres is None else np.array(centres, float), seen)


def test_look():
    labels, centroids = picture({1: LEFT, 2: RIGHT})
    # Edges of the left square are at 3 and 8: pixel centres at 3.5 and 7.5.
    points = np.array([LEFT, (7.9, 5.5), (8.5, 5.5), (9.1, 5.5), BETWEEN, MISSING, OUT, (2.2, 5.5)])
    seen = look(labels, centroids, points, reach=1.5)
    assert seen.held.tolist() == [1, 1, 1, NONE, NONE, NONE, NONE, 1]
    assert seen.under.tolist() == [1, 1, 0, 0, 0, NONE, NONE, 0]
    assert seen.objects.tolist() == [1, 2]
    np.testing.assert_array_equal(seen.centroids, [LEFT, RIGHT])


def test_the_nearest_object_holds_a_point():
    labels, centroids = picture({1: (5.5, 5.5), 2: (13.5, 5.5)})  # columns 3 to 7 and 11 to 15
    assert look(labels, centroids, np.array([(9.2, 5.5), (9.8, 5.5)]), reach=5.0).held.tolist() == [1, 2]
    assert look(labels, centroids, np.array([(9.8, 5.5)]), reach=1.0).held.tolist() == [NONE]
    assert look(labels, {1: LEFT}, np.array([(13.5, 5.5)]), reach=1.0).held.tolist() == [NONE]  # 2 is background


def test_labels_may_be_smaller_than_the_recording():
    labels, centroids = picture({1: LEFT})
    points = np.array([LEFT, (8.5, 5.5), (9.1, 5.5)])
    expected = look(labels, centroids, points, reach=1.5)
    small = look(labels, {1: (11.0, 11.0)}, 2 * points, reach=3.0, scale=2.0)
    assert small.held.tolist() == expected.held.tolist() and small.under.tolist() == expected.under.tolist()


def test_every_score_by_hand():
    """Six frames: both right, one fly lost, slots swapped, both in one slot, one fly unlabelled, no label."""
    frames = [
        {1: LEFT, 2: RIGHT},
        {1: LEFT},
        {2: LEFT, 1: RIGHT},
        {3: BETWEEN},
        {2: LEFT, 1: RIGHT},
        {1: LEFT, 2: RIGHT},
    ]
    points = [
        (LEFT, RIGHT),
        (LEFT, RIGHT),
        (LEFT, RIGHT),
        ((14.5, 5.5), (16.5, 5.5)),
        (LEFT, MISSING),
        (MISSING, MISSING),
    ]
    centres = np.array(points)
    centres[0, 0, 0] += 2  # two pixels from the centroid
    centres[2, 1, 1] += 4
    centres[4, 0, 0] += 6
    seen = sightings(frames, points, centres)
    assert found_frames(seen).tolist() == [True, False, True, False, True, False]
    assert separated_frames(seen).tolist() == [True, True, True, False, True, False]
    assert found_objects(seen).sum(axis=1).tolist() == [2, 1, 2, 0, 1, 0]
    assert identity_switches(seen).tolist() == [[0, 2], [0, 2]]
    assert sorted(centroid_errors(seen).tolist()) == [0, 0, 2, 4, 6]
    # The left fly owns 2 (frames 2 and 4), the right one 1 (frame 2): 3 of 9 points. Or 1 and 2: 2 + 1.
    assert points_in_own_mask(seen).sum() == 3
    assert score(seen, SIDE) == {
        "num_frames": 5,
        "num_points": 9,
        "found": 3 / 5,
        "objects_found": 6 / 9,
        "separated": 3 / 4,
        "identity_switches": 2,
        "centroid_error": 100 * 2 / SIDE,
        "point_in_own_mask": 3 / 9,
    }


def test_the_background_is_no_object_but_separates():
    """By the README of the flies, "found" needs two slots other than the background; "separated" needs any two."""
    seen = sightings([{1: LEFT}], [(LEFT, BETWEEN)])
    assert separated_frames(seen).tolist() == [True] and found_frames(seen).tolist() == [False]
    seen = sightings([{1: LEFT}], [((10.5, 5.5), BETWEEN)])
    assert separated_frames(seen).tolist() == [False] and found_objects(seen).sum() == 0


def test_a_switch_counts_between_found_frames_only():
    """A frame in which one object is lost does not count for the other; the next found frame is compared."""
    both, swapped = {1: LEFT, 2: RIGHT}, {2: LEFT, 1: RIGHT}
    lost = {2: LEFT}  # the left one is in another slot, the right one in none
    points = [(LEFT, RIGHT)] * 3
    assert len(identity_switches(sightings([both, lost, both], points))) == 0
    assert identity_switches(sightings([both, lost, swapped], points)).tolist() == [[0, 2], [0, 2]]
    assert identity_switches(sightings([both, both, {1: LEFT, 3: RIGHT}], points)).tolist() == [[1, 2]]


def test_chosen_frames():
    """Switches belong to the frames around them, and owners to the whole recording."""
    both, swapped = {1: LEFT, 2: RIGHT}, {2: LEFT, 1: RIGHT}
    seen = sightings([both, {}, swapped, swapped, swapped], [(LEFT, RIGHT)] * 5)
    for chosen, switches, own in (([1], 2, 0), ([0], 2, 0), ([2, 3], 2, 1), ([3, 4], 0, 1)):
        mask = np.isin(np.arange(5), chosen)
        scores = score(seen, SIDE, mask)
        assert scores["num_frames"] == len(chosen)
        assert (scores["identity_switches"], scores["point_in_own_mask"]) == (switches, own)
    none = score(seen, SIDE, np.zeros(5, bool))
    assert none["num_frames"] == 0 and np.isnan(none["found"]) and np.isnan(none["centroid_error"])


def test_touching():
    centres = np.array([[(0, 0), (3, 4)], [(0, 0), (3, 5)], [(0, 0), MISSING]], float)
    assert touching_frames(centres, 5.1).tolist() == [True, False, False]
    assert touching_frames(centres, 5.0).tolist() == [False, False, False]
    assert touching_frames(centres[:, :1], 5.0).tolist() == [False] * 3
    assert touching_frames(centres, np.nan).tolist() == [False] * 3


@settings(max_examples=30)
@given(st.lists(st.permutations([1, 2, 7]), min_size=1, max_size=6), st.permutations([3, 5, 9]))
def test_names_of_slots_and_order_of_objects_change_nothing(orders, names):
    places = [LEFT, RIGHT, (35.5, 15.5)]
    rename = dict(zip([1, 2, 7], names))
    frames = [dict(zip(order, places)) for order in orders]
    renamed = [{rename[number]: place for number, place in frame.items()} for frame in frames]
    points = [places] * len(frames)
    expected = score(sightings(frames, points), SIDE)
    assert score(sightings(renamed, points), SIDE) == pytest.approx(expected)
    assert score(sightings(frames, [places[::-1]] * len(frames)), SIDE) == pytest.approx(expected)
    assert expected["found"] == 1 and expected["identity_switches"] == sum(
        one != other for before, after in itertools.pairwise(orders) for one, other in zip(before, after)
    )
