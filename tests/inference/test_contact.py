"""Objects that touch: found within their common region by outline and colour."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stii_jax.inference.contact import CONTRAST, MAX_PIXELS, arrange, box_of, outline_of, share

SHAPE = (40, 60)
GRAY = np.full((*SHAPE, 3), 90, np.uint8)
RED, BLUE = (200, 30, 30), (30, 30, 200)


def disc(row, column, radius=6.0):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(rows - row, columns - column) <= radius


def bar(row, column, height, width):
    mask = np.zeros(SHAPE, bool)
    mask[row : row + height, column : column + width] = True
    return mask


def painted(*parts):
    """A grey picture with masks in colours; later ones are in front."""
    picture = GRAY.copy()
    for mask, color in parts:
        picture[mask] = color
    return picture


def centers(arrangement):
    return [tuple(outline.center) for outline in arrangement.outlines]


def test_an_outline_is_where_it_is_seen():
    mask, picture = disc(12, 20), painted((disc(12, 20), RED))
    outline = outline_of(mask, picture)
    assert outline.center == (12, 20) and (outline.colors == RED).all()
    np.testing.assert_array_equal(outline.mask(SHAPE), mask)
    np.testing.assert_array_equal(outline.moved(3, -5).mask(SHAPE), disc(15, 15))
    np.testing.assert_array_equal(outline.moved(0, -20).mask(SHAPE), disc(12, 0))


@given(st.integers(-4, 4), st.integers(-4, 4), st.integers(0, 9))
def test_outlines_of_one_color_are_found_by_their_shapes(dy, dx, gap):
    """A disc and a bar that touch are found wherever they are within reach, and nothing remains to explain."""
    outlines = [outline_of(disc(14, 22), GRAY), outline_of(bar(16, 29 + gap % 3, 14, 4), GRAY)]
    region = disc(14 + dy, 22 + dx) | bar(16, 29 + gap % 3, 14, 4)
    found = arrange(region, outlines, GRAY, [4, 4])
    assert found.cost == 0
    assert centers(found) == [(14 + dy, 22 + dx), outlines[1].center]


def test_outlines_of_two_colors_are_found_though_their_shapes_agree():
    """Two equal discs have changed places. Their region alone would not tell."""
    first, second = disc(15, 22), disc(15, 30)
    outlines = [outline_of(first, painted((first, RED))), outline_of(second, painted((second, BLUE)))]
    region, picture = first | second, painted((first, BLUE), (second, RED))
    found = arrange(region, outlines, picture, [8, 8])
    assert centers(found) == [(15, 30), (15, 22)] and found.cost == 0
    assert centers(arrange(region, outlines, GRAY, [8, 8])) == [(15, 22), (15, 30)]


def test_an_outline_far_away_is_found():
    """Its colour shows at one side of the region; displacements are spaced out first and then refined."""
    region, picture = bar(10, 8, 20, 44), painted((bar(10, 8, 20, 44), RED), (disc(19, 45, 4), BLUE))
    small = outline_of(disc(19, 12, 4), painted((disc(19, 12, 4), BLUE)))
    large = outline_of(region, painted((region, RED)))
    found = arrange(region, [large, small], picture, [0, 40])
    assert centers(found) == [large.center, (19, 45)] and found.cost == 0
    assert arrange(region, [large, small], picture, [0, 20]).cost > 20


def test_an_outline_behind_another_keeps_its_course():
    """Every displacement explains the region as well, so it does not move."""
    front = disc(20, 30, 10)
    hidden = outline_of(disc(20, 30, 3), GRAY)
    found = arrange(front, [outline_of(front, GRAY), hidden], GRAY, [3, 3])
    assert centers(found) == [(20, 30), hidden.center]


def test_the_cost_counts_what_is_not_explained():
    region = bar(10, 10, 4, 10)
    outline = outline_of(bar(10, 10, 4, 6), GRAY)
    assert arrange(region, [outline], GRAY, [0]).cost == 4 * 4
    assert arrange(region, [outline.moved(0, -2)], GRAY, [0]).cost == 4 * 6 + 4 * 2
    lighter = GRAY + np.uint8(CONTRAST / 4)
    assert arrange(region, [outline], lighter, [0]).cost == pytest.approx(4 * 4 + 4 * 6 / 4)


def test_large_outlines_are_thinned_out_but_found():
    whole = bar(2, 4, 30, 40)
    assert np.count_nonzero(whole) > 2 * MAX_PIXELS
    found = arrange(bar(4, 7, 30, 40), [outline_of(whole, GRAY)], GRAY, [3])
    assert found.cost == 0


def test_pixels_belong_to_the_outline_of_their_color():
    """The one in front owns the overlap, whichever it is, apart from the tips, which smoothing blurs."""
    first, second = disc(15, 22), disc(15, 30)
    outlines = [outline_of(first, painted((first, RED))), outline_of(second, painted((second, BLUE)))]
    for order in ((0, 1), (1, 0)):
        parts = [((first, RED), (second, BLUE))[number] for number in order]
        owned = share(first | second, outlines, painted(*parts), 6)
        front = order[1]
        overlap = first & second
        assert np.count_nonzero(owned[front] & overlap) > 0.85 * np.count_nonzero(overlap)
        assert not (owned[0] & owned[1]).any()
        np.testing.assert_array_equal(owned[0] | owned[1], first | second)


def test_pixels_of_one_color_belong_to_the_nearest_outline():
    first, second = bar(10, 10, 6, 10), bar(10, 20, 6, 10)
    gap = bar(16, 10, 2, 20)
    owned = share(first | second | gap, [outline_of(first, GRAY), outline_of(second, GRAY)], GRAY, 6)
    np.testing.assert_array_equal(owned[0], first | bar(16, 10, 2, 10))
    np.testing.assert_array_equal(owned[1], second | bar(16, 20, 2, 10))


def test_a_hidden_object_owns_nothing():
    front, small = disc(20, 30, 10), disc(20, 30, 2)
    picture = painted((front, RED))
    outlines = [outline_of(front, picture), outline_of(small, painted((small, BLUE)))]
    owned = share(front, outlines, picture, 6)
    np.testing.assert_array_equal(owned[0], front)
    assert not owned[1].any()


def test_one_outline_owns_the_whole_region():
    region = disc(20, 30)
    assert share(region, [outline_of(disc(5, 5), GRAY)], GRAY, 6)[0] is region
    assert share(region, [], GRAY, 6) == []


def test_outlines_that_left_the_view():
    """One that left it owns nothing; if all have left, one of them owns the region."""
    region = disc(20, 30)
    away = outline_of(disc(20, 30), GRAY).moved(0, 200)
    owned = share(region, [outline_of(region, GRAY), away], GRAY, 6)
    np.testing.assert_array_equal(owned[0], region)
    assert not owned[1].any()
    np.testing.assert_array_equal(np.any(share(region, [away, away], GRAY, 6), axis=0), region)
    assert arrange(region, [away], GRAY, [1]).cost == np.count_nonzero(region)


def test_the_box_of_a_mask():
    assert box_of(bar(3, 7, 4, 5)) == (slice(3, 7), slice(7, 12))
    assert not np.zeros(SHAPE, bool)[box_of(np.zeros(SHAPE, bool))].size
