"""Tiles stitched to whole frames, on synthetic scenes with exact answers; no model decomposes them."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stii_jax.data.video.tiles import TiledView
from stii_jax.inference import identities
from stii_jax.inference.identities import MEMORY, MIN_AREA, TRIAL, Instance, Link, Numbering
from stii_jax.inference.stitching import Stitcher
from stii_jax.visualization.regions import OUTSIDE

SIDE, HEIGHT, WIDTH = 24, 40, 88
VIEW = TiledView(size=SIDE, side=SIDE)  # a pixel of a tile is one of the frame, so masks are exact
BOXES = VIEW.tiles(HEIGHT, WIDTH)
NUM_SLOTS = 6
RADIUS = 3.5
STEPS = np.stack(np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5), axis=-1)


def disc(x, y, radius=RADIUS):
    return np.hypot(*np.moveaxis(STEPS - (x, y), -1, 0)) <= radius


class Tiles:
    """Ideal models of the tiles: every visible object in a tile has a slot, the lowest free one when it appears."""

    def __init__(self, order=None):
        orders = itertools.repeat(range(NUM_SLOTS)) if order is None else order
        self.backgrounds, self._orders = zip(*((order[-1], order[:-1]) for order, _ in zip(orders, BOXES)))
        self._slots = [{} for _ in BOXES]

    def masks(self, scene):
        """Return the slots' masks of every tile; `scene` has the object number of every pixel."""
        masks = np.zeros((len(BOXES), NUM_SLOTS, SIDE, SIDE), np.float32)
        for (left, top, right, bottom), slots, order, background, found in zip(
            BOXES, self._slots, self._orders, self.backgrounds, masks
        ):
            part = scene[top:bottom, left:right]
            visible = set(np.unique(part).tolist()) - {0}
            for gone in set(slots) - visible:
                del slots[gone]
            for number in sorted(visible - set(slots)):
                slots[number] = next(slot for slot in order if slot not in slots.values())
            found[background] = part == 0
            for number, slot in slots.items():
                found[slot] += part == number
        return masks


def stitcher(backgrounds, boxes=BOXES):
    return Stitcher(SIDE, boxes, (0, 0, WIDTH, HEIGHT), WIDTH, HEIGHT, backgrounds)


def join(scenes, order=None):
    """Return the object number that the stitched tiles give to every pixel of a scene's frames."""
    tiles = Tiles(order)
    joined = stitcher(tiles.backgrounds)
    return [joined.join(tiles.masks(scene)).slots for scene in scenes]


def scene(*masks):
    """Return the object number of every pixel; later objects are in front."""
    numbers = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, mask in enumerate(masks, 1):
        numbers[mask] = number
    return numbers


def without_slivers(numbers):
    """Turn objects of so few pixels that they count as background into background."""
    small = [number for number in np.unique(numbers) if (numbers == number).sum() < MIN_AREA]
    return np.where(np.isin(numbers, small), 0, numbers)


def assert_tracked(joined, scenes):
    """Assert that every object has exact outlines and one number of its own."""
    number_of: dict[int, int] = {}
    for numbers, truth in zip(joined, scenes, strict=True):
        visible = without_slivers(truth)
        np.testing.assert_array_equal(numbers > 0, visible > 0)
        for each in set(np.unique(visible).tolist()) - {0}:
            (number,) = set(np.unique(numbers[visible == each]).tolist())
            assert number_of.setdefault(each, number) == number
    assert len(set(number_of.values())) == len(number_of)


def test_a_disc_walks_through_all_tiles():
    scenes = [scene(disc(x, y)) for x, y in zip(np.arange(-6, WIDTH + 6, 1.5), itertools.cycle([19, 20, 21]))]
    for numbers, truth in zip(join(scenes), scenes):
        np.testing.assert_array_equal(numbers, without_slivers(truth))


def test_discs_that_cross_where_tiles_overlap():
    """One passes in front of the other, which is hidden for some frames, in every direction and place."""
    for y, middle, slope in ((12, 16, 0), (20, 44, 0.5), (20, 52, 0), (12, 44, 0.5), (20, 16, 0.5)):
        scenes = [scene(disc(middle - 1.5 * t, y - slope * t), disc(middle + 1.5 * t, y + 1)) for t in range(-7, 8)]
        assert_tracked(join(scenes), scenes)


def test_one_leaves_and_another_enters():
    there = [scene(disc(80 + t, 20)) for t in range(14)]
    for absent in (0, 1, MEMORY + 1):
        *_, numbers = join([*there, *[scene()] * absent, *there[::-1]])
        assert set(np.unique(numbers)) == {0, 2}, f"{absent} frames in between"


@pytest.mark.parametrize(("frames", "number"), [(1, 1), (MEMORY - 1, 1), (MEMORY, 2)])
def test_hidden_for_a_few_frames(frames, number):
    """A disc keeps moving behind an occluder; after a while it is forgotten."""
    scenes = [scene(*[disc(20 + 2 * t, 20)] * (not 5 <= t < 5 + frames)) for t in range(8 + frames)]
    numbers = join(scenes)
    assert all(set(np.unique(n)) == {0, 1} for n in numbers[:5])
    assert all(set(np.unique(n)) == {0, number} for n in numbers[5 + frames :])


def test_a_long_object_has_no_seam():
    """A bar across all tiles, and one that grows over them."""
    scenes = [scene((abs(STEPS[..., 1] - 20) < 3) & (STEPS[..., 0] < 20 + 6 * t)) for t in range(14)]
    for numbers, truth in zip(join(scenes), scenes):
        np.testing.assert_array_equal(numbers, truth)


def test_two_turn_out_to_be_one():
    """The ends of a bar whose middle comes into view: once tiles have agreed for some frames, the older one wins."""
    bar, middle = abs(STEPS[..., 1] - 20) < 3, abs(STEPS[..., 0] - 44) < 10
    ends = np.where(STEPS[..., 0] < 44, 1, 2).astype(np.uint8) * (bar & ~middle)
    numbers = join([*[ends] * 6, *[scene(bar)] * (TRIAL + 1)])
    np.testing.assert_array_equal(numbers[5], ends)
    np.testing.assert_array_equal(numbers[-1], scene(bar))


def test_two_discs_in_one_slot():
    """A slot that contains two discs far apart shows two objects."""
    first = stitcher([1] * len(BOXES))
    truth = scene(disc(6, 6), disc(18, 18))
    masks = Tiles([(0, 2, 3, 4, 5, 1)] * len(BOXES)).masks((truth > 0).astype(np.uint8))
    assert len(np.unique(first.join(masks).slots)) == 3


def join_blind(truth, margin=2):
    """Join tiles that, like real models, take objects near their inner edges for background."""
    tiles = Tiles([(1, 2, 3, 4, 5, 0)] * len(BOXES))
    masks = tiles.masks(truth)
    for (left, top, right, bottom), mask in zip(BOXES, masks):
        x, y = STEPS[top:bottom, left:right, 0], STEPS[top:bottom, left:right, 1]
        blind = ((x < left + margin) & (left > 0)) | ((x > right - margin) & (right < WIDTH))
        blind |= ((y < top + margin) & (top > 0)) | ((y > bottom - margin) & (bottom < HEIGHT))
        mask[0, blind], mask[1:, blind] = 1, 0
    return stitcher(tiles.backgrounds).join(masks).slots


def test_tiles_see_badly_near_their_edges():
    """Outlines come from tiles with the object near their centre; parts of long objects from the nearest centre."""
    for x in np.arange(4, 84, 1.5):
        truth = scene(disc(x, 20, 1.9))
        np.testing.assert_array_equal(join_blind(truth), truth)
    bar = scene(abs(STEPS[..., 1] - 20) < 2)
    np.testing.assert_array_equal(join_blind(bar), bar)


def test_the_rim_of_a_covered_object_is_not_shown():
    """A neighbouring tile gives half of a disc its own slot, which reaches beyond the disc of the middle tile."""
    tiles = Tiles([(1, 2, 3, 4, 5, 0)] * len(BOXES))
    joined, truth = stitcher(tiles.backgrounds), scene(disc(12, 18.5))
    beside = next(number for number, box in enumerate(BOXES) if box[:2] == (0, 16))
    for _ in range(TRIAL + 2):
        masks = tiles.masks(truth)
        upper = (disc(12, 18.5, 4.5) & (STEPS[..., 1] < 18.5))[16:40, 0:24]
        masks[beside, :, upper] = 0
        masks[beside, 4, upper] = 1
        labels = joined.join(masks).slots
    np.testing.assert_array_equal(labels, truth)


def instance(tile, slot, x=0.0):
    return Instance(tile=tile, slot=slot, piece=slot, area=20, x=x, y=0.0, margin=9.0 - tile, leaves=False)


def test_objects_that_cross_stay_themselves():
    """If two tiles disagree on which of two objects is in front, the wrong pairs share more pixels."""
    numbering, seen = Numbering(), [instance(0, 1), instance(0, 2), instance(1, 1), instance(1, 2)]
    right, wrong = [Link(0, 2, 20, (20, 20)), Link(1, 3, 20, (20, 20))], [(0, 3), (1, 2)]
    for links in (right, [link._replace(common=8) for link in right] + [Link(*each, 16, (20, 20)) for each in wrong]):
        found = {number: [(each.tile, each.slot) for each in group] for number, group in numbering.assign(seen, links)}
        assert found == {1: [(0, 1), (1, 1)], 2: [(0, 2), (1, 2)]}, "the most central one first"


def test_a_limb_is_no_link():
    """A few pixels of an object, where the other tile shows a large one."""
    for common, count in ((4, 2), (20, 1)):
        found = Numbering().assign([instance(0, 1), instance(1, 1)], [Link(0, 1, common, (common, 40))])
        assert len(found) == count


def split(masks, tile, part):
    """A tile gives a part of its objects an unused slot."""
    left, top, right, bottom = BOXES[tile]
    moved = part[top:bottom, left:right] & (masks[tile, 1:].sum(axis=0) == 1)
    masks[tile, 1:, moved] = 0
    masks[tile, NUM_SLOTS - 1, moved] = 1


@pytest.mark.parametrize(("frames", "numbers"), [(TRIAL - 1, {0, 1}), (TRIAL, {0, 1, 2})])
def test_a_tile_that_splits_an_object(frames, numbers):
    """At first, no other tile agrees with it; then its slot shows an object."""
    tiles = Tiles([(1, 2, 3, 4, 5, 0)] * len(BOXES))
    joined, truth = stitcher(tiles.backgrounds), scene(disc(19.6, 19.6))  # nearest to the centre of tile 0
    for number in range(4 + frames):
        masks = tiles.masks(truth)
        if number >= 4:
            split(masks, 0, STEPS[..., 1] < 19)
        labels = joined.join(masks)
        np.testing.assert_array_equal(labels.slots > 0, truth > 0)
    assert set(np.unique(labels.slots)) == numbers


def test_an_object_seen_by_one_tile_only():
    """An object that the other tiles take for background is shown."""
    tiles = Tiles([(1, 2, 3, 4, 5, 0)] * len(BOXES))
    truth = scene(disc(20, 20))
    masks = tiles.masks(truth)
    masks[1:, 0] = masks[1:].max(axis=1)
    masks[1:, 1:] = 0
    np.testing.assert_array_equal(stitcher(tiles.backgrounds).join(masks).slots, truth)


def test_the_background_moves_to_another_slot():
    """Its first slot shows an object later on."""
    tiles = Tiles([(1, 2, 3, 4, 5, 0)] * len(BOXES))
    joined, truth = stitcher(tiles.backgrounds), scene(disc(20, 20))
    for first in (24, 12, 2, 0, 0):
        masks = tiles.masks(truth)
        masks[:, 5, first:] = masks[:, 0, first:]
        masks[:, 0, first:] = 0
        np.testing.assert_array_equal(joined.join(masks).slots, truth)
    masks[:, [0, 1]] = masks[:, [1, 0]]
    assert set(np.unique(joined.join(masks).slots[truth > 0])) == {1}


def test_a_slot_that_jumps_shows_another_object():
    tiles = Tiles()
    joined = stitcher(tiles.backgrounds)
    here, there = scene(disc(6, 6)), scene(disc(17, 17))
    assert [set(np.unique(joined.join(tiles.masks(each)).slots)) for each in (here, here, there)] == [
        {0, 1},
        {0, 1},
        {0, 2},
    ]


def test_another_scene():
    """Its objects are new, wherever they are."""
    tiles = Tiles()
    joined = stitcher(tiles.backgrounds)
    for number in (1, 2):
        assert set(np.unique(joined.join(tiles.masks(scene(disc(20, 20)))).slots)) == {0, number}
        joined.forget()


def test_numbers_run_out(monkeypatch):
    """Beyond the last number, the number of the object that has been gone longest is reused."""
    monkeypatch.setattr(identities, "MAX_OBJECTS", 20)
    tiles = Tiles()
    joined = stitcher(tiles.backgrounds)
    places = itertools.cycle([(10, 10), (40, 10), (70, 10), (10, 30), (40, 30), (70, 30)])
    given = []
    assert joined.numbers.full_from is None
    for _ in range(23):
        numbers = joined.join(tiles.masks(scene(disc(*next(places))))).slots
        given += set(np.unique(numbers).tolist()) - {0}
        for _ in range(2):
            joined.join(tiles.masks(scene()))
    assert given == [*range(1, 21), 1, 2, 3] and joined.numbers.full_from == 60


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_any_discs_keep_their_numbers(data):
    """Discs in separate lanes, in slots of any order, get exact outlines and one number each."""
    orders = [tuple(data.draw(st.permutations(range(NUM_SLOTS)))) for _ in BOXES]
    lanes = data.draw(st.lists(st.tuples(st.floats(0, WIDTH), st.floats(-3, 3)), min_size=1, max_size=4))
    scenes = [scene(*(disc(x + v * t, 5 + 10 * lane) for lane, (x, v) in enumerate(lanes))) for t in range(12)]
    assert_tracked(join(scenes, orders), scenes)


def test_a_region():
    """Pixels that no tile covers are outside."""
    boxes = TiledView(size=SIDE, side=SIDE, region=(4, 8, 56, 24)).tiles(HEIGHT, WIDTH)
    masks = np.zeros((len(boxes), 2, SIDE, SIDE), np.float32)
    masks[:, 0] = 0.75
    labels = Stitcher(SIDE, boxes, (4, 8, 60, 32), WIDTH, HEIGHT, [0] * len(boxes)).join(masks)
    slots, certainty = np.full((HEIGHT, WIDTH), OUTSIDE), np.zeros((HEIGHT, WIDTH))
    slots[8:32, 4:60], certainty[8:32, 4:60] = 0, 0.75
    np.testing.assert_array_equal(labels.slots, slots)
    np.testing.assert_array_equal(labels.certainty, certainty)
