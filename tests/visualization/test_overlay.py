"""The overlay: exact pixels for simple drawings, and properties for others."""

import numpy as np
import pytest

from stii_jax.visualization.overlay import TAIL, OverlayPainter
from stii_jax.visualization.regions import OUTSIDE as NOT_SEEN
from stii_jax.visualization.regions import Region, regions
from stii_jax.visualization.visualize import OUTSIDE, PREDICTED, slot_colors

COLORS = slot_colors(4, 0)
NOTHING = np.zeros((8, 8, 3), np.float32)


def painter(width=320, height=300, scale=1, box=None, colors=COLORS):
    return OverlayPainter(width, height, scale, box or (0, 0, width, height), colors, 0)


def labels_with(boxes, width=320, height=300):
    """Return labels with the background, and each slot in a box (left, top, right, bottom)."""
    labels = np.zeros((height, width), np.uint8)
    for slot, (left, top, right, bottom) in boxes.items():
        labels[top:bottom, left:right] = slot
    return labels


def found(labels, scale=1):
    height, width = labels.shape
    inside = np.where(labels == NOT_SEEN, 0, labels)
    return {region.label: region for region in regions(inside, (0, 0, width * scale, height * scale))}


def grey(width=320, height=300):
    return np.full((height, width, 3), 100, np.uint8)


def is_color(picture, color):
    return (picture == color).all(axis=-1)


@pytest.fixture
def no_tags(monkeypatch):
    """Draw only outlines and paths."""
    monkeypatch.setattr(OverlayPainter, "_draw_number", lambda *_: None)


@pytest.mark.usefixtures("no_tags")
def test_an_outline_lies_around_its_object():
    labels = labels_with({1: (100, 120, 150, 160)})
    picture = painter().draw(grey(), NOTHING, labels, found(labels))
    expected = grey()
    expected[117:163, 97:153] = 16
    expected[118:162, 98:152] = COLORS[1]
    expected[120:160, 100:150] = 100
    expected[118:162, [97, 152]] = expected[[117, 162], 97:153] = 16
    np.testing.assert_array_equal(picture, expected)


@pytest.mark.usefixtures("no_tags")
def test_futures_start_at_the_object_and_end_in_dots():
    """Object 1 goes right in one future and down in the other; the prediction goes up. Object 2 is not there."""
    labels = labels_with({1: (100, 120, 150, 160)})
    last = found(labels)
    move = lambda x, y, slot=1: {slot: last[1]._replace(label=slot, x=x, y=y)}  # noqa: E731
    futures = [[move(200, 140), move(250, 140)], [move(125, 200), {}]]
    picture = painter().draw_futures(grey(), labels, last, [move(125, 90), move(125, 50)], futures)
    half = (COLORS[1] / 2 + 50.5).astype(np.uint8)
    for x, y in ((170, 140), (240, 140), (125, 180)):
        assert (picture[y, x] == half).all(), (x, y)
    for x, y in ((250, 140), (125, 200)):
        assert (picture[y, x] == COLORS[1]).all() and (picture[y, x - 3] == 16).all(), (x, y)
    for x, y in ((125, 110), (125, 51)):
        assert (picture[y, x] == 255).all() and (picture[y, x - 2] == 16).all(), (x, y)
    for x, y in ((260, 140), (125, 220), (200, 200), (30, 30)):
        assert (picture[y, x] == 100).all(), (x, y)
    assert not (painter().draw_futures(grey(), labels, last, [], []) == half).all(-1).any()


@pytest.mark.usefixtures("no_tags")
def test_between_objects_that_touch_there_is_one_line():
    labels = labels_with({1: (100, 120, 150, 160), 2: (150, 120, 190, 160)})
    picture = painter().draw(grey(), NOTHING, labels, found(labels))
    row = picture[140]
    assert (row[98:100] == COLORS[1]).all() and (row[148:150] == COLORS[2]).all() and (row[190:192] == COLORS[2]).all()
    assert (row[100:147] == 100).all() and (row[150:190] == 100).all() and (row[147] == 16).all()


@pytest.mark.usefixtures("no_tags")
def test_nothing_is_drawn_around_the_background_and_the_view_has_a_line():
    labels = labels_with({})
    labels[:, :40] = labels[:, 280:] = NOT_SEEN
    picture = painter(box=(40, 0, 280, 300)).draw(grey(), NOTHING, labels, found(labels))
    expected = grey()
    expected[:, [38, 39, 280, 281]] = 150
    np.testing.assert_array_equal(picture, expected)
    assert (painter().draw(grey(), NOTHING, labels_with({}), {}) == 100).all()


@pytest.mark.usefixtures("no_tags")
@pytest.mark.parametrize("size", [(64, 64), (63, 20), (20, 63)])
def test_small_frames_are_enlarged_by_a_whole_number(size):
    width, height = size
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    drawn = painter(width, height).draw(frame, NOTHING, labels_with({}, width, height), {})
    zoom = {64: 4, 63: 5}[max(size)]
    np.testing.assert_array_equal(drawn, frame.repeat(zoom, axis=0).repeat(zoom, axis=1))
    labels = labels_with({1: (5, 5, 9, 9)}, width, height)
    drawn = painter(width, height).draw(frame, NOTHING, labels, {})
    assert is_color(drawn, COLORS[1])[5 * zoom - 2 : 9 * zoom + 2, 5 * zoom - 2 : 9 * zoom + 2].sum() == 4 * 2 * (
        4 * zoom + 2
    )


@pytest.mark.usefixtures("no_tags")
@pytest.mark.parametrize("size", [(601, 403), (600, 402)])
def test_smaller_labels_are_drawn_in_full_resolution(size):
    """An outline meets the far corner, where labels may lie only partly in the frame."""
    width, height = size
    labels = labels_with({2: (290, 190, 301, 202)}, -(-width // 2), -(-height // 2))
    picture = painter(width, height, scale=2).draw(grey(width, height), NOTHING, labels, {})
    blue = is_color(picture, COLORS[2])
    rows, columns = np.nonzero(blue)
    assert picture.shape == (height, width, 3) and (rows.min(), columns.min()) == (378, 578)
    assert (rows.max(), columns.max()) == (height - 1, width - 1) and (picture[380:, 580:][:20, :20] == 100).all()


@pytest.mark.usefixtures("no_tags")
def test_predicted_frames_show_the_reconstruction_in_an_orange_edge():
    painted = np.full((8, 8, 3), (0.2, 0.4, 0.6), np.float32)
    picture = painter(box=(100, 50, 200, 150)).draw(None, painted, labels_with({}), {})
    assert (picture[60:140, 110:190] == (51, 102, 153)).all() and (picture[200:250][:, 20:300] == OUTSIDE).all()
    orange = is_color(picture, PREDICTED)
    assert orange[:4].all() and orange[-4:].all() and orange[:, :4].all() and orange[:, -4:].all()
    assert orange.sum() == 320 * 300 - 312 * 292


@pytest.mark.usefixtures("no_tags")
@pytest.mark.parametrize("scale", [1, 2])
def test_predicted_frames_show_the_scene_if_its_background_was_removed(scale):
    scene = grey()
    scene[:, :160] = 50
    labels = labels_with({1: (140, 120, 180, 180)})[::scale, ::scale]
    paint = OverlayPainter(320, 300, scale, (0, 0, 320, 300), COLORS, 0, scene)
    picture = paint.draw(None, NOTHING, labels, {})
    half = (COLORS[1] / 2).astype(int)
    np.testing.assert_allclose(picture[150, 150], 25 + half, atol=1)
    np.testing.assert_allclose(picture[150, 170], 50 + half, atol=1)
    assert (picture[50, 50] == 50).all() and (picture[50, 300] == 100).all()
    assert (picture[0, 0] == PREDICTED).all()
    assert (paint.draw(grey(), NOTHING, labels_with({})[::scale, ::scale], {}) == 100).all()  # not if it is observed


def moving(where):
    """Return a region at each place; None where the object is not visible."""
    return [{} if at is None else {1: Region(1, *at, 0.0, *at, *at, 1.0)} for at in where]


@pytest.mark.usefixtures("no_tags")
def test_paths_reach_back_so_many_frames_and_fade():
    paint, frame = painter(), np.zeros((300, 320, 3), np.uint8)
    places = [(10.5 + 5 * t, 150.5) for t in range(TAIL + 20)]
    for step in moving(places):
        picture = paint.draw(frame, NOTHING, labels_with({}), step)
    line = picture[150, :, 0].astype(int)
    drawn = np.flatnonzero(line)
    assert abs(drawn.max() - 255) <= 1 and abs(drawn.min() - (255 - 5 * (TAIL - 1))) <= 5
    assert (np.diff(line[drawn]) >= 0).all() and line[drawn[-1]] == round(0.85 * COLORS[1][0])
    assert not picture[:148].any() and not picture[153:].any()


@pytest.mark.usefixtures("no_tags")
def test_paths_are_interrupted_where_the_object_was_not_visible():
    paint = painter()
    for step in moving([(20.5, 50.5), (60.5, 50.5), None, (140.5, 50.5), (180.5, 50.5)]):
        picture = paint.draw(grey(), NOTHING, labels_with({}), step)
    changed = (picture[50] != 100).any(axis=-1)
    assert changed[21:60].all() and not changed[63:138].any() and changed[141:180].all()


@pytest.mark.usefixtures("no_tags")
def test_paths_can_begin_anew():
    paint = painter()
    for t, step in enumerate(moving([(20.5, 50.5), (60.5, 50.5), (140.5, 50.5), (180.5, 50.5)])):
        if t == 2:
            paint.forget_paths()
        picture = paint.draw(grey(), NOTHING, labels_with({}), step)
    changed = (picture[50] != 100).any(axis=-1)
    assert not changed[:138].any() and changed[141:180].all()


def test_every_number_is_legible_on_its_tag():
    """Black or white by the luminance of the colour: a contrast of at least 3, as large text needs."""

    def light(color):
        linear = np.where(color <= 10, color / 255 / 12.92, ((color / 255 + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    for color, tag in zip(slot_colors(20, 0), painter(colors=slot_colors(20, 0))._tags):
        pixels = tag.reshape(-1, 3)
        ink = pixels[np.abs(pixels.astype(int) - color).sum(axis=1).argmax()]
        high, low = sorted((light(color), light(ink)), reverse=True)
        assert (high + 0.05) / (low + 0.05) > 3 and (ink.max() < 20 or ink.min() > 235)


@pytest.mark.parametrize("size", [(64, 64), (320, 300), (1920, 1080)])
@pytest.mark.parametrize("place", [(0, 0), (1, 0), (0, 1), (1, 1), (0.5, 0.5)])
def test_numbers_stay_whole_within_the_frame(size, place):
    width, height = size
    left, top = (round(share * (side * 3 // 4)) for share, side in zip(place, size))
    labels = labels_with({3: (left, top, left + width // 4, top + height // 4)}, width, height)
    paint = painter(width, height)
    picture = paint.draw(grey(width, height), NOTHING, labels, found(labels))
    tag = paint._tags[3]
    windows = np.lib.stride_tricks.sliding_window_view(is_color(picture, tag[0, 0]), tag.shape[:2])
    rows, columns = np.nonzero(windows[:, :, 0].all(axis=-1) & windows[:, :, -1].all(axis=-1))
    places = [(y, x) for y, x in zip(rows, columns) if (picture[y:, x:][: tag.shape[0], : tag.shape[1]] == tag).all()]
    assert len(places) == 1 and tag.shape[0] >= max(picture.shape) / 70


def test_scattered_pixels_do_not_move_the_number_away():
    labels = labels_with({1: (150, 200, 170, 220)})
    labels[2, 2] = 1
    paint = painter()
    picture = paint.draw(grey(), NOTHING, labels, found(labels))
    rows, _ = np.nonzero(is_color(picture, (255, 255, 255)) | is_color(picture, (0, 0, 0)))
    assert rows.min() > 150
