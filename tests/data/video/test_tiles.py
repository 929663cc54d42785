"""Square tiles that cover frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stii_jax.data import DataError
from stii_jax.data.video.tiles import MAX_TILES, TiledView, place_tiles
from stii_jax.data.video.view import View


@given(start=st.integers(0, 50), side=st.integers(3, 400), spare=st.integers(0, 3000))
def test_tiles_are_few_even_and_overlap_by_a_third(start, side, spare):
    places = place_tiles(start, start + side + spare, side)
    steps = np.diff(places)
    assert places[0] == start and places[-1] == start + spare
    assert (3 * (side - steps) >= side).all()
    assert not len(steps) or np.ptp(steps) <= 1
    assert (len(places) - 2) * (2 * side // 3) < max(spare, 1), "one tile less would not do"


def test_examples():
    assert place_tiles(0, 480, 180) == [0, 100, 200, 300]
    assert place_tiles(0, 360, 180) == [0, 90, 180]
    assert place_tiles(7, 187, 180) == [7]


def test_views_of_tiles():
    """Each view is the tile's box alone; margins and square are not applied again."""
    frame = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    view = TiledView(size=8, side=16, margins=(2, 1, 0, 3), gray=True)
    assert view.box(30, 50) == (2, 1, 50, 27)
    boxes = [(x, y, x + 16, y + 16) for y in (1, 11) for x in (2, 10, 18, 26, 34)]
    assert view.tiles(30, 50) == boxes
    alone = [View(size=8, region=(*box[:2], 16, 16), gray=True).frame(frame) for box in boxes]
    np.testing.assert_array_equal(view.frame(frame), alone)
    labels = frame[..., 0] // 64
    np.testing.assert_array_equal(
        view.labels(labels), [View(size=8, region=(*box[:2], 16, 16)).labels(labels) for box in boxes]
    )


def test_one_tile_is_a_view_of_everything():
    frame = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    view = TiledView(size=8, side=16)
    assert view.tiles(16, 16) == [] == View(size=8).tiles(16, 16)
    np.testing.assert_array_equal(view.frame(frame), View(size=8).frame(frame))


def test_tiles_that_do_not_fit():
    with pytest.raises(DataError, match="a tile of 17 pixels is larger than 40x16: give at most --tile=16"):
        TiledView(size=8, side=17).box(16, 40)
    count = len(place_tiles(0, 160, 8)) ** 2
    assert count > MAX_TILES
    with pytest.raises(DataError, match=f"there would be {count:,} tiles of 8 pixels, over {MAX_TILES}: use larger"):
        TiledView(size=8, side=8).box(160, 160)
