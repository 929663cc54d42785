"""Objects of one view: kept apart while they touch, divided only where slots and outlines say so."""

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import adjusted_rand_score

from stii_jax.inference.identities import MAX_OBJECTS, MEMORY, MIN_AREA
from stii_jax.inference.object_tracker import EXPECTED, ObjectTracker

SIDE = 32
NO_SLOT = np.zeros((SIDE, SIDE), np.uint8)
"""Every pixel belongs to the background, slot 0."""


def disc(x, y, radius=4.0):
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.hypot(columns - x, rows - y) <= radius


def box(left, top, right, bottom):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top:bottom, left:right] = True
    return mask


def slots_of(*parts):
    """Return masks in which slot k + 1 owns the k-th part; later parts are in front."""
    labels = NO_SLOT.copy()
    for slot, part in enumerate(parts, 1):
        labels[part] = slot
    return (labels == np.arange(1 + max(3, len(parts)))[:, None, None]).astype(np.float32)


def tracker(background=0):
    return ObjectTracker(SIDE, (0, 0, SIDE, SIDE), SIDE, SIDE, background)


GRAY = np.full((SIDE, SIDE, 3), 100, np.uint8)
"""A picture that shows no differences between objects."""


def follow(frames, tracks=None):
    tracks = tracks or tracker()
    return [tracks.join(masks, GRAY).slots for masks in frames]


def crossing(t):
    """Two discs of one slot that touch from frame 6 to frame 12 and pass each other."""
    return disc(6 + 1.2 * t, 13), disc(27 - 1.2 * t, 19)


def test_objects_in_one_slot_stay_apart_while_they_touch():
    times = range(18)
    labels = follow([slots_of(np.logical_or(*crossing(t))) for t in times])
    together = [t for t in times if len(np.unique(labels[t])) == 3 and touch(*crossing(t))]
    assert len(together) >= 3
    for t, found in zip(times, labels):
        first, second = crossing(t)
        inside = (first | second) & ~(first & second)
        assert adjusted_rand_score(first[inside], found[inside]) > 0.8, t
        assert np.array_equal(found > 0, first | second)
    first, second = crossing(17)
    assert set(np.unique(labels[17][first & ~second])) == {labels[0][crossing(0)[0]].max()}


def test_an_object_that_passes_behind_another():
    """The one in front keeps its number and all of its pixels while it hides a small one, which appears again."""
    frames = [(disc(16, 16, 7), disc(3 + 2 * t, 16, 2.5)) for t in range(14)]
    labels = follow([slots_of(front | small) for front, small in frames])
    hidden = [t for t, (front, small) in enumerate(frames) if not (small & ~front).any()]
    number = labels[0][16, 16]
    assert len(hidden) == 4 and number > 0
    np.testing.assert_array_equal(labels[hidden[-1]], number * frames[0][0])
    np.testing.assert_array_equal(labels[13] == number, frames[0][0])
    assert len(np.unique(labels[13])) == 3


def passing(t, stops=False):
    """Two equal discs of one slot that meet head-on, overlap from frame 4 on, and pass each other or turn round."""
    way = 1.5 * (min(t, 12 - t) if stops else t)
    return disc(6 + way, 15), disc(26 - way, 17)


@pytest.mark.parametrize("stops", [False, True], ids=["pass", "turn round"])
def test_colors_tell_who_is_who_after_a_contact(stops):
    """At constant velocity alone, those that turn round would exchange their numbers."""
    numbers = []
    tracks = tracker()
    for t in range(13):
        first, second = passing(t, stops)
        picture = GRAY.copy()
        picture[first], picture[second] = (220, 40, 40), (40, 40, 220)
        labels = tracks.join(slots_of(first | second), picture).slots
        numbers.append((np.bincount(labels[first & ~second]).argmax(), np.bincount(labels[second & ~first]).argmax()))
    assert set(numbers) == {numbers[0]} and set(numbers[0]) == {1, 2}


def test_a_fragment_of_two_that_touch_takes_no_number_from_them():
    """A piece of the first disc comes off. Neither disc is there, so both keep their numbers where they are."""
    first, cut, tracks, owners = disc(10, 16, 6), box(6, 0, 8, SIDE), tracker(), []
    for x, gap in ((24, NO_SLOT > 0), (23, NO_SLOT > 0), (23, cut)):
        second, picture = disc(x, 16, 6), GRAY.copy()
        picture[first], picture[second] = (220, 40, 40), (40, 40, 220)
        labels = tracks.join(slots_of((first | second) & ~gap), picture).slots
        owners.append([np.bincount(labels[part]).argmax() for part in (first & box(8, 0, SIDE, SIDE), second)])
    assert touch(first, second) and owners == [[1, 2]] * 3


def test_a_hidden_object_that_leaves_at_another_place():
    """A small object is hidden by a large one for longer than `EXPECTED` frames, then leaves at another place."""
    large, tracks, seen = disc(16, 16, 8), tracker(), []
    for t in range(17):
        small = disc(3 + 2 * t if t < 6 else 15, 16 if t < 9 else 16 + 2 * (t - 8), 3)
        picture = GRAY.copy()
        picture[small], picture[large] = (40, 220, 40), (220, 40, 40)
        seen.append((small & ~large, tracks.join(slots_of(large | small), picture).slots))
    hidden = [t for t, (visible, _) in enumerate(seen) if not visible.any()]
    assert EXPECTED < len(hidden) < MEMORY
    before, after = (np.bincount(labels[visible]).argmax() for visible, labels in (seen[1], seen[-1]))
    assert before == after > 0 and tracks.numbers.highest == 2


def test_outlines_in_more_detail_than_the_model_sees():
    """Slots divide two objects that touch; their outlines are those of the pixels that changed."""
    side, detail = SIDE // 2, 2
    tracks = ObjectTracker(side, (0, 0, SIDE, SIDE), SIDE, SIDE, 0, detail)
    first, second = disc(8, 12), disc(16, 12)
    slots = np.zeros((side, side), int)
    slots[:, :6], slots[:, 6:] = 1, 2
    masks = np.stack([np.full((side, side), 0.5), 0.4 * (slots == 1), 0.4 * (slots == 2)]).astype(np.float32)
    labels = tracks.join(masks, GRAY, first | second).slots
    np.testing.assert_array_equal(labels > 0, first | second)
    assert adjusted_rand_score(second[first | second], labels[first | second]) > 0.9
    assert {mask.shape for mask in tracks.visible.values()} == {(SIDE, SIDE)}


@pytest.mark.parametrize("detail", [2, 4, 8])
def test_objects_that_are_smaller_than_the_model_sees(detail):
    """With any detail, discs of the same number of pixels are objects of their own, eight pixels apart."""
    side = SIDE * 4
    tracks = ObjectTracker(side // detail, (0, 0, side, side), side, side, 0, detail)
    masks = np.ones((2, side // detail, side // detail), np.float32) * np.float32([[[0.9]], [[0.1]]])
    rows, columns = np.mgrid[:side, :side]
    discs = (rows % 18 - 9) ** 2 + (columns % 18 - 9) ** 2 <= 25
    picture = np.full((side, side, 3), 100, np.uint8)
    labels = [tracks.join(masks, picture, np.roll(discs, t, axis=1)).slots for t in range(3)]
    count = ndimage.label(discs)[1]
    for t, found in enumerate(labels):
        np.testing.assert_array_equal(found > 0, np.roll(discs, t, axis=1))
        assert len(np.unique(found)) - 1 == count > 40
    np.testing.assert_array_equal(labels[2], np.roll(labels[0], 2, axis=1))


def test_gaps_below_a_pixel_of_the_model_do_not_divide_an_object():
    """A larger gap does."""
    for gap, count in ((1, 1), (2, 1), (3, 2)):
        tracks = ObjectTracker(SIDE // 2, (0, 0, SIDE, SIDE), SIDE, SIDE, 0, detail=2)
        changed = box(4, 4, 10, 20) | box(10 + gap, 4, 16, 20)
        labels = tracks.join(np.ones((2, SIDE // 2, SIDE // 2), np.float32), GRAY, changed).slots
        assert labels.max() == count
        np.testing.assert_array_equal(labels > 0, changed)


def touch(first, second):
    return bool((ndimage.binary_dilation(first, np.ones((3, 3))) & second).any())


def test_a_slot_that_takes_part_of_an_object_does_not_divide_it():
    """Neither in its first frame nor later."""
    whole, left = box(4, 4, 24, 16), box(4, 4, 12, 16)
    for frames in (
        [slots_of(whole, left)] * 3,
        [slots_of(whole), slots_of(whole, left), slots_of(left, whole & ~left)],
    ):
        for labels in follow(frames):
            np.testing.assert_array_equal(labels, whole)


def test_slots_divide_objects_that_appear_together():
    """Their union is not convex, so two slots are two objects; one slot is one object."""
    first, second = disc(8, 12), disc(16, 12)
    assert touch(first, second)
    for labels in follow([slots_of(first, second)] * 2):
        assert len(np.unique(labels)) == 3
        assert adjusted_rand_score(second[first | second], labels[first | second]) == 1
    assert len(np.unique(follow([slots_of(first | second)])[0])) == 2


def test_small_parts_do_not_divide_an_object():
    """A slot that covers less than a fifth of a new region belongs to the rest."""
    body, limb = disc(12, 16, 6), box(18, 15, 24, 17)
    labels = follow([slots_of(body, limb & ~body)])[0]
    np.testing.assert_array_equal(labels, body | limb)


def test_fragments_belong_to_their_object():
    """A gap opens in it for two frames. A region as near that it does not expect is another object."""
    whole, gap = box(8, 4, 20, 20), box(8, 11, 20, 13)
    labels = follow([slots_of(whole), slots_of(whole & ~gap), slots_of(whole & ~gap), slots_of(whole)])
    for found, hidden in zip(labels, (NO_SLOT > 0, gap, gap, NO_SLOT > 0)):
        np.testing.assert_array_equal(found, whole & ~hidden)
    beside = box(22, 4, 28, 20)
    np.testing.assert_array_equal(follow([slots_of(whole), slots_of(whole | beside)])[1], whole + 2 * beside)


def test_objects_that_appear_together_and_part_are_two():
    frames = [slots_of(box(4, 4, 16 - t, 12) | box(16 + t, 4, 28, 12)) for t in range(6)]
    labels = follow(frames)
    assert len(np.unique(labels[0])) == 2 and len(np.unique(labels[5])) == 3


def test_holes_are_filled_but_not_where_they_show_an_object():
    ring = disc(14, 14, 9) & ~disc(14, 14, 5)
    np.testing.assert_array_equal(follow([slots_of(ring)])[0], disc(14, 14, 9))
    inner = disc(14, 14, 2)
    assert len(np.unique(follow([slots_of(ring, inner)])[0])) == 3


@pytest.mark.parametrize(("absence", "at", "kept"), [(MEMORY - 1, 12, True), (MEMORY, 12, False), (3, 26, False)])
def test_an_object_that_returns(absence, at, kept):
    """It keeps its number if it was gone for a short time and returns near the expected place."""
    shown, empty = slots_of(disc(12, 16)), slots_of()
    labels = follow([shown, shown, *[empty] * absence, slots_of(disc(at, 16))])
    assert labels[-1].max() == (1 if kept else 2)


def test_an_object_that_left():
    """The next one at the edge is new, except for a moment of flicker."""
    edge, empty = slots_of(box(0, 10, 6, 18)), slots_of()
    assert follow([edge, edge, empty, edge])[-1].max() == 1
    assert follow([edge, edge, *[empty] * EXPECTED, edge])[-1].max() == 2


def test_pixels_that_differ_from_the_background():
    """If they are known, they are the objects, whatever the slots say, and slots outside of them do not count."""
    masks = np.stack([np.full((SIDE, SIDE), 0.6), np.full((SIDE, SIDE), 0.3), 0.9 * disc(24, 24)]).astype(np.float32)
    changed = disc(10, 10)
    np.testing.assert_array_equal(tracker().join(masks, GRAY, changed).slots, changed)
    np.testing.assert_array_equal(tracker().join(masks, GRAY).slots, disc(24, 24))
    assert not tracker().join(masks, GRAY, np.zeros_like(changed)).slots.any()


def test_certainty_is_that_of_the_foreground():
    masks = 0.8 * slots_of(disc(10, 10)) + 0.05
    labels = tracker().join(masks, GRAY)
    np.testing.assert_allclose(labels.certainty[10, 10], masks[1:, 10, 10].sum(), rtol=1e-5)
    np.testing.assert_allclose(labels.certainty[28, 28], 1 - masks[1:, 28, 28].sum(), rtol=1e-5)


def test_a_background_in_several_slots():
    """A slot over more than half of the view is background until it vanishes."""
    large, small = box(0, 0, SIDE, 20), disc(16, 26)
    labels = follow([slots_of(large, small), slots_of(box(0, 0, SIDE, 6), small)])
    np.testing.assert_array_equal(labels[0], small)
    np.testing.assert_array_equal(labels[1], small)


def test_small_regions_are_background():
    few = np.zeros((SIDE, SIDE), bool)
    few[5, 5 : 5 + MIN_AREA - 1] = True
    assert not follow([slots_of(few)])[0].any()
    few[6, 5] = True
    np.testing.assert_array_equal(follow([slots_of(few)])[0], few)


def test_labels_in_the_frame_of_the_recording():
    """The view is the middle of a frame of twice its size."""
    tracks = ObjectTracker(SIDE, (32, 0, 96, 64), 128, 64, 0)
    labels = tracks.join(slots_of(box(4, 8, 12, 16)), GRAY).slots
    assert labels.shape == (64, 128)
    assert (labels[:, :32] == 255).all() and (labels[:, 96:] == 255).all()
    np.testing.assert_array_equal(np.argwhere(labels == 1)[[0, -1]], [[16, 40], [31, 55]])


def test_after_a_cut_all_objects_are_new():
    tracks = tracker()
    follow([slots_of(disc(10, 10))] * 2, tracks)
    tracks.forget()
    assert follow([slots_of(disc(10, 10))], tracks)[0].max() == 2 == tracks.numbers.highest


def test_numbers_are_reused_once_none_is_left():
    tracks = tracker()
    for _ in range(MAX_OBJECTS):
        follow([slots_of(disc(10, 10))], tracks)
        tracks.forget()
    assert tracks.numbers.highest == MAX_OBJECTS and tracks.numbers.full_from is None
    assert follow([slots_of(disc(10, 10))], tracks)[0].max() == 1
    assert tracks.numbers.highest == MAX_OBJECTS == tracks.numbers.full_from
