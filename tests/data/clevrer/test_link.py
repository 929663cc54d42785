"""Matching detections to objects."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stii_jax.data import DataError
from stii_jax.data.clevrer.annotations import Attributes
from stii_jax.data.clevrer.link import DROPPED, DUPLICATE, MISSING, RELABELLED, link
from stii_jax.data.clevrer.proposals import Detection

RED = Attributes("red", "metal", "cube")
BLUE = Attributes("blue", "metal", "cube")
GRAY = Attributes("gray", "rubber", "sphere")
OBJECTS = [RED, BLUE, GRAY]
RUBBER = Attributes("red", "rubber", "cube")  # RED, misjudged


def seen(attributes, x, score=0.99, y=20, size=10) -> Detection:
    mask = np.zeros((100, 400), bool)
    mask[y : y + size, x : x + size] = True
    return Detection(attributes, score, mask)


def labels_at(detections, objects=OBJECTS):
    """Return the labels of each frame by left edge, and the notes."""
    linked = link(detections, objects)
    found = []
    for image in linked.labels():
        found.append({int(np.flatnonzero((image == k).any(0))[0]): int(k) for k in np.unique(image) if k})
    return found, {what: count for what, count in linked.notes.items() if count}


def test_labels_are_in_the_order_of_the_objects():
    frame = [seen(GRAY, 200), seen(BLUE, 100), seen(RED, 0)]
    assert labels_at([frame] * 2) == ([{0: 1, 100: 2, 200: 3}] * 2, {})


def test_one_that_enters_and_is_misjudged():
    frames = [[seen(RUBBER, 0, size=3), seen(GRAY, 90)], [seen(RED, 4), seen(GRAY, 90)], [seen(RED, 8), seen(GRAY, 90)]]
    assert labels_at(frames, [RED, GRAY]) == (
        [{0: 1, 90: 2}, {4: 1, 90: 2}, {8: 1, 90: 2}],
        {RELABELLED: 1},
    )


def test_one_that_is_always_misjudged():
    frames = [[seen(RUBBER, 5 * time), seen(GRAY, 300)] for time in range(3)]
    assert labels_at(frames, [RED, GRAY]) == ([{5 * time: 1, 300: 2} for time in range(3)], {RELABELLED: 3})


def test_the_surer_of_two_detections_of_an_object_counts():
    frame = [seen(RED, 0, 0.8), seen(RED, 1, 0.9), seen(RUBBER, 2, 0.99), seen(GRAY, 90)]
    assert labels_at([frame], [RED, GRAY]) == ([{1: 1, 90: 2}], {DUPLICATE: 2})


def test_a_copy_is_not_given_to_a_hidden_object():
    before = [seen(RED, 0), seen(BLUE, 20)]
    frame = [seen(RED, 0), seen(Attributes("blue", "metal", "sphere"), 1)]
    assert labels_at([before, frame], [RED, BLUE]) == ([{0: 1, 20: 2}, {0: 1}], {DUPLICATE: 1, MISSING: 1})


def test_the_nearer_of_two_objects_with_equal_attributes_counts():
    frame = [seen(RED, 0), seen(BLUE, 200)]
    misjudged = [seen(RED, 5, 0.8), seen(RED, 205, 0.99)]
    assert labels_at([frame, misjudged, frame], [RED, BLUE]) == (
        [{0: 1, 200: 2}, {5: 1, 205: 2}, {0: 1, 200: 2}],
        {RELABELLED: 1},
    )


def test_an_object_that_takes_over_a_hidden_objects_attributes():
    frame = [seen(RED, 0), seen(BLUE, 200)]
    assert labels_at([frame, [seen(RED, 202)], frame], [RED, BLUE]) == (
        [{0: 1, 200: 2}, {202: 2}, {0: 1, 200: 2}],
        {RELABELLED: 1, MISSING: 1},
    )


def test_detections_without_an_object_are_dropped():
    frame = [seen(RED, 0), seen(GRAY, 200)]
    empty = seen(RED, 0, size=0)
    stray = [seen(RED, 0), seen(Attributes("green", "metal", "cylinder"), 150), empty]
    assert labels_at([frame, stray], [RED, GRAY]) == ([{0: 1, 200: 2}, {0: 1}], {DROPPED: 2, MISSING: 1})
    with pytest.raises(DataError, match="no detection matches an object of the scene"):
        link([[empty], []], [RED, GRAY])


def test_a_second_piece_far_away_is_a_duplicate():
    frame = [seen(RED, 0)]
    assert labels_at([frame, [seen(RED, 2, 0.9), seen(RED, 300, 0.99)]], [RED]) == ([{0: 1}, {2: 1}], {DUPLICATE: 1})


def test_the_lower_one_is_in_front():
    (image,) = link([[seen(RED, 0, y=20), seen(GRAY, 5, y=25, size=8)]], [RED, GRAY]).labels()
    assert (image[25:33, 5:13] == 2).all() and (image == 1).sum() == 100 - 5 * 5


def test_two_objects_that_are_the_same():
    with pytest.raises(DataError, match=r"two objects.*'red', 'metal', 'cube'"):
        link([[seen(RED, 0)]], [RED, GRAY, RED])


PLACES = st.lists(
    st.tuples(st.sampled_from([*OBJECTS, RUBBER]), st.integers(0, 380), st.integers(0, 80)),
    max_size=6,
    unique_by=lambda place: place[1],
)


@given(st.lists(PLACES, min_size=1, max_size=4), st.randoms())
@settings(max_examples=40, deadline=None)
def test_no_order_of_detections_matters_and_all_are_accounted_for(places, random):
    # All scores differ, because ties would be broken by the order.
    scores = iter(np.linspace(0.5, 1, 30))
    frames = [[seen(kind, x, float(next(scores)), y) for kind, x, y in frame] for frame in places]
    try:
        one = link(frames, OBJECTS)
    except DataError:
        assert not any(kind in OBJECTS for frame in places for kind, *_ in frame)
        return
    two = link([random.sample(frame, len(frame)) for frame in frames], OBJECTS)
    np.testing.assert_array_equal(one.labels(), two.labels())
    assert one.notes == two.notes
    used = sum(map(len, one.tracks))
    assert used + one.notes[DROPPED] + one.notes[DUPLICATE] == sum(map(len, frames))
    assert used + one.notes[MISSING] == len(frames) * len(OBJECTS)
