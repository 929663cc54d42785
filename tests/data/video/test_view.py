"""The visible part of a frame, to the pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stii_jax.data.errors import DataError
from stii_jax.data.video.view import View


@pytest.mark.parametrize(
    ("view", "box"),
    [
        (View(size=8), (0, 0, 480, 320)),
        (View(size=8, square=True), (80, 0, 400, 320)),
        (View(size=8, margins=(40, 0, 40, 0)), (40, 0, 440, 320)),
        (View(size=8, margins=(1, 2, 3, 4)), (1, 2, 477, 316)),
        (View(size=8, margins=(100, 0, 0, 0), square=True), (130, 0, 450, 320)),
        (View(size=8, region=(10, 20, 128, 64)), (10, 20, 138, 84)),
        (View(size=8, region=(10, 20, 128, 64), square=True), (42, 20, 106, 84)),
        (View(size=8, region=(10, 20, 128, 64), margins=(8, 4, 2, 1)), (18, 24, 136, 83)),
        (View(size=8, region=(352, 192, 128, 128)), (352, 192, 480, 320)),
    ],
)
def test_boxes(view, box):
    assert view.box(320, 480) == box


def test_the_middle_square_of_an_odd_size():
    assert View(size=8, square=True).box(37, 54) == (8, 0, 45, 37)
    assert View(size=8, square=True).box(54, 37) == (0, 8, 37, 45)


@pytest.mark.parametrize(
    "view",
    [
        View(size=8, region=(353, 0, 128, 128)),
        View(size=8, region=(0, 193, 128, 128)),
        View(size=8, region=(-1, 0, 128, 128)),
        View(size=8, margins=(240, 0, 240, 0)),
        View(size=8, margins=(0, 200, 0, 200)),
        View(size=8, margins=(240, 0, 240, 0), square=True),
    ],
)
def test_parts_that_a_frame_does_not_have(view):
    with pytest.raises(DataError, match=r"frames are 480x320 pixels: the view from \("):
        view.frame(np.zeros((320, 480, 3), np.uint8))


def test_a_view_of_the_frames_own_size_is_the_frame():
    frame = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(View(size=8, region=(5, 3, 8, 8)).frame(frame), frame[3:11, 5:13])


def test_smaller_frames_are_averages():
    # Stripes of one pixel would become all black or all white if pixels were picked.
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[:, ::2] = 200
    seen = View(size=8).frame(frame)
    assert seen.shape == (8, 8, 3) and np.abs(seen.astype(int) - 100).max() < 10


def test_gray_frames_show_brightness():
    frame = np.zeros((4, 4, 3), np.uint8)
    frame[:, :2], frame[:, 2:] = (255, 0, 0), (0, 255, 0)
    seen = View(size=4, gray=True).frame(frame)
    assert seen.shape == (4, 4, 3) and (seen == seen[..., :1]).all()
    assert seen[0, 0, 0] == 76 and seen[0, 3, 0] == 150


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.integers(1, 40),
    square=st.booleans(),
    seed=st.integers(0, 9),
)
def test_labels_are_those_of_the_nearest_pixel(height, width, size, square, seed):
    labels = np.random.default_rng(seed).integers(0, 5, (height, width), np.uint8)
    view = View(size=size, square=square)
    left, top, right, bottom = view.box(height, width)
    seen = view.labels(labels)
    assert seen.shape == (size, size) and seen.dtype == np.uint8
    # A centre on the border of two pixels is equally near to both.
    near = [
        labels[_nearest(top, bottom, size, tie)[:, None], _nearest(left, right, size, other)]
        for tie in (0, 1)
        for other in (0, 1)
    ]
    assert (seen == near).any(0).all()


def _nearest(start: int, stop: int, size: int, tie: int) -> np.ndarray:
    """Return the pixels, from start to stop, that hold the centres of `size` equal parts, in exact integers."""
    return start + ((2 * np.arange(size) + 1) * (stop - start) - tie) // (2 * size)


def test_labels_and_frames_are_aligned():
    labels = np.zeros((60, 90), np.uint8)
    labels[20:40, 30:60] = 1
    frame = labels[..., None].repeat(3, axis=2) * np.uint8(200)
    view = View(size=30, margins=(0, 6, 6, 0), square=True)
    inside = view.frame(frame)[..., 0] > 100
    assert (inside == (view.labels(labels) == 1)).mean() > 0.99
