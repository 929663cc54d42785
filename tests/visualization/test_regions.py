"""Masks in the full frame of the input, and their measures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stii_jax.visualization import regions as module
from stii_jax.visualization.regions import OUTSIDE, Canvas, regions


def test_numbers_of_a_region():
    labels = np.zeros((4, 4), int)
    labels[1:3, 2:4], labels[3, 0] = 2, 5
    rows = {label: values for label, *values in regions(labels, (0, 0, 4, 4))}
    assert rows.keys() == {0, 2, 5}  # none for labels without a pixel
    assert rows[2] == [3, 2, 4, 2, 1, 4, 3, 1]
    assert rows[5] == [0.5, 3.5, 1, 0, 3, 1, 4, 1]
    # From 10 to 30 and from 5 to 13: a pixel is 5 wide and 2 high.
    rows = {label: values for label, *values in regions(labels, (10, 5, 30, 13))}
    assert rows[2] == [25, 9, 40, 20, 7, 30, 11, 1]
    assert rows[5] == [12.5, 12, 10, 10, 11, 15, 13, 1]


def test_certainty_moves_a_centroid():
    labels = np.array([[0, 1, 1]])
    certainty = np.array([[0.5, 0.6, 0.9]], np.float32)
    of_one = list(regions(labels, (0, 0, 3, 1), certainty))[1]
    assert of_one.x == pytest.approx((0.6 * 1.5 + 0.9 * 2.5) / 1.5) and of_one.area == 2
    assert of_one.confidence == pytest.approx(0.75)


def disc_masks(x, y, radius, box, size):
    """Return an ideal model's masks of a disc: its share of every model pixel, and the background's."""
    fine = 32
    left, top, right, bottom = box
    across = left + (np.arange(size * fine) + 0.5) * (right - left) / (size * fine)
    down = top + (np.arange(size * fine) + 0.5) * (bottom - top) / (size * fine)
    inside = (across - x) ** 2 + (down[:, None] - y) ** 2 < radius**2
    share = inside.reshape(size, fine, size, fine).mean((1, 3)).astype(np.float32)
    return np.stack([1 - share, share])


@given(st.floats(100, 280), st.floats(100, 280), st.floats(30, 60))
@settings(max_examples=25, deadline=None)
def test_a_disc_is_measured_to_a_fraction_of_a_pixel(x, y, radius):
    """The model's pixels are 12 times as large as the input's."""
    canvas = Canvas((32, 32), (0, 0, 384, 384), 384, 384)
    found = canvas.measure(canvas.segment(disc_masks(x, y, radius, (0, 0, 384, 384), 32)))[1]
    assert np.hypot(found.x - x, found.y - y) < 0.6
    # Averaging over a model pixel (variance 12^2 / 12) and interpolation (12^2 / 6) blur the disc. It reaches one half
    # at a radius that is smaller by the variance over twice the radius.
    shrunk = radius - (12**2 / 12 + 12**2 / 6) / (2 * radius)
    assert found.area == pytest.approx(np.pi * shrunk**2, rel=0.035)
    edges = np.array([found.left, found.top, found.right, found.bottom])
    np.testing.assert_allclose(edges, [x - radius, y - radius, x + radius, y + radius], atol=4)  # a third of 12


def test_masks_lie_in_the_view_of_the_frame():
    box = (100, 20, 220, 140)  # of 320x240 pixels, seen as 20x20: 6 to one
    canvas = Canvas((20, 20), box, 320, 240)
    labels = canvas.segment(disc_masks(150.3, 70.6, 20, box, 20))
    assert labels.slots.shape == (240, 320) and canvas.scale == 1
    seen = np.zeros((240, 320), bool)
    seen[20:140, 100:220] = True
    assert (labels.slots[~seen] == OUTSIDE).all() and set(np.unique(labels.slots[seen])) == {0, 1}
    assert (labels.certainty[~seen] == 0).all() and (labels.certainty[seen] >= 0.5).all()
    found = canvas.measure(labels)
    assert found.keys() == {0, 1}
    assert np.hypot(found[1].x - 150.3, found[1].y - 70.6) < 0.35
    assert found[0].area + found[1].area == 120 * 120
    assert (found[0].left, found[0].top, found[0].right, found[0].bottom) == box


def test_at_the_models_size_labels_are_those_of_the_model():
    masks = np.random.default_rng(0).dirichlet(np.ones(5), (9, 7)).transpose(2, 0, 1).astype(np.float32)
    canvas = Canvas((9, 7), (0, 0, 7, 9), 7, 9)
    labels = canvas.segment(masks)
    np.testing.assert_array_equal(labels.slots, masks.argmax(0))
    np.testing.assert_allclose(labels.certainty, masks.max(0), rtol=1e-6)


def test_boundaries_are_no_blocks():
    """A diagonal edge in a 16x larger frame has steps of one pixel, not of 16."""
    share = np.clip((np.arange(8)[:, None] - np.arange(8)) / 2 + 0.5, 0, 1).astype(np.float32)
    labels = Canvas((8, 8), (0, 0, 128, 128), 128, 128).segment(np.stack([1 - share, share])).slots
    edge = labels[24:104].argmin(axis=1)
    assert set(np.diff(edge)) <= {0, 1, 2} and edge[-1] - edge[0] == pytest.approx(80, abs=2)


@pytest.mark.parametrize("width, height, scale", [(1920, 1080, 1), (1921, 1080, 2), (3840, 2160, 2), (3000, 6000, 4)])
def test_large_frames_are_reduced(width, height, scale):
    box = (0, 0, width, height)
    canvas = Canvas((16, 16), box, width, height)
    assert canvas.scale == scale and max(canvas.shape) <= module.MAX_SIDE
    assert canvas.shape == (-(-height // scale), -(-width // scale))
    assert (canvas.segment(np.full((2, 16, 16), 0.5)).slots == 0).all()
    found = canvas.measure(canvas.segment(disc_masks(width * 0.4, height * 0.6, min(width, height) / 4, box, 16)))
    assert abs(found[1].x - width * 0.4) < 0.005 * width and abs(found[1].y - height * 0.6) < 0.005 * height
    assert (found[0].left, found[0].top, found[0].right, found[0].bottom) == box
