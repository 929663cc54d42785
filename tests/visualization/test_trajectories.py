"""Pictures of paths: at the objects' positions, in the slots' colours, with predictions marked."""

import jax
import numpy as np
import pytest

from stii_jax.types import Decomposition
from stii_jax.visualization.trajectories import (
    BRIGHTNESS,
    DOTS_EVERY,
    SIZE,
    centroid_paths,
    draw_trajectories,
    trajectory_animation,
)
from stii_jax.visualization.visualize import GAP, PREDICTED, slot_colors

T, H, W, K = 5, 16, 16, 4
SCALE = SIZE // H
BACKGROUND_SLOT = 2
COLORS = slot_colors(K, BACKGROUND_SLOT)


def scene(channels=3):
    """Two 3x3 squares in slots 0 and 3 that move right and down: (video, decomposition, segmentation)."""
    segmentation = np.zeros((T, H, W), np.uint8)
    for t in range(T):
        segmentation[t, 2:5, 1 + 2 * t : 4 + 2 * t], segmentation[t, 4 + 2 * t : 7 + 2 * t, 12:15] = 1, 2
    slots = np.array([BACKGROUND_SLOT, 0, 3])[segmentation]
    masks = np.moveaxis(np.eye(K, dtype=np.float32)[slots], -1, 1)
    means = np.zeros((T, K, H, W, channels), np.float32)
    video = np.full((T, H, W, channels), 200, np.uint8)
    return video, Decomposition(means[None], masks[None], np.zeros((1, T, K, 4), np.float32)), segmentation


def at(picture, x, y):
    """Return the colour at a point of the video."""
    return picture[GAP + round(y * SCALE), GAP + round(x * SCALE)].tolist()


FIRST = [(2.5 + 2 * t, 3.5) for t in range(T)]
SECOND = [(13.5, 5.5 + 2 * t) for t in range(T)]


def between(path, t):
    """Return the middle of the step that ends in frame t."""
    return tuple(np.mean(path[t - 1 : t + 1], axis=0))


def test_centroids_of_every_label():
    _, _, segmentation = scene()
    segmentation[3][segmentation[3] == 1] = 0
    paths = centroid_paths(segmentation, 4)
    np.testing.assert_allclose(paths[2], SECOND)
    np.testing.assert_allclose(paths[1, [0, 1, 2, 4]], [FIRST[t] for t in (0, 1, 2, 4)])
    assert np.isnan(paths[1, 3]).all() and np.isnan(paths[3]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_paths_are_where_the_objects_were(channels):
    video, decomposition, _ = scene(channels)
    picture = draw_trajectories(video, decomposition)
    for slot, path in ((0, FIRST), (3, SECOND)):
        assert at(picture, *path[-1]) == COLORS[slot].tolist()
        for t in range(1, T):
            assert at(picture, *between(path, t)) == COLORS[slot].tolist()
    inside = picture[GAP : GAP + SIZE, GAP : GAP + SIZE].reshape(-1, 3)
    assert not (inside == COLORS[BACKGROUND_SLOT]).all(-1).any(), "the background's slot has no path"
    assert np.median(inside) == 200 * BRIGHTNESS


def test_true_paths_are_dotted_in_white():
    video, decomposition, segmentation = scene()
    moved = np.roll(segmentation, 4, axis=1)  # far from the found path
    picture = draw_trajectories(video, decomposition, moved)
    row = picture[GAP + round(7.5 * SCALE), GAP + round(2.5 * SCALE) - 1 : GAP + round(10.5 * SCALE)]
    starts = np.flatnonzero(np.diff((row > 150).all(-1).astype(int)) == 1)
    np.testing.assert_array_equal(np.diff(starts)[:-2], DOTS_EVERY)  # the last ones merge with the end marker
    assert len(starts) == pytest.approx(8 * SCALE / DOTS_EVERY, abs=2)
    assert at(picture, 10.5, 7.5) == [255, 255, 255]


def test_a_gap_is_not_bridged():
    video, decomposition, _ = scene()
    masks = decomposition.masks.copy()
    masks[0, 2, BACKGROUND_SLOT] += masks[0, 2, 0]
    masks[0, 2, 0] = 0
    picture = draw_trajectories(video, decomposition._replace(masks=masks))
    assert at(picture, *between(FIRST, 1)) == at(picture, *between(FIRST, 4)) == COLORS[0].tolist()
    dimmed = [200 * BRIGHTNESS] * 3
    assert at(picture, *between(FIRST, 2)) == at(picture, *between(FIRST, 3)) == dimmed


def thickness(picture, slot, x, y):
    """Return the number of pixels of the slot's colour above and below a point."""
    column = picture[GAP : GAP + SIZE, GAP + round(x * SCALE)]
    near = column[round((y - 0.5) * SCALE) : round((y + 0.5) * SCALE)]
    return int((near == COLORS[slot]).all(-1).sum())


def test_predicted_steps_are_thin_with_hollow_markers():
    video, decomposition, _ = scene()
    picture = draw_trajectories(video, decomposition, num_observed=3)
    observed, predicted = (thickness(picture, 0, *between(FIRST, t)) for t in (2, 3))
    assert observed > predicted > 0
    for t in range(T):
        assert (at(picture, *FIRST[t]) == COLORS[0].tolist()) == (t < 3), "hollow from the first predicted frame on"


def test_an_animation_grows_and_marks_what_is_predicted():
    video, decomposition, segmentation = scene()
    frames = trajectory_animation(video, decomposition, segmentation, num_observed=3)
    assert len(frames) == T and len({frame.shape for frame in frames}) == 1
    assert [frame[0, 0].tolist() == list(PREDICTED) for frame in frames] == [False] * 3 + [True] * 2
    np.testing.assert_array_equal(frames[-1], draw_trajectories(video, decomposition, segmentation, num_observed=3))
    without_truth = trajectory_animation(video, decomposition)
    for t, frame in enumerate(without_truth):
        drawn = [at(frame, *between(SECOND, step)) == COLORS[3].tolist() for step in range(1, T)]
        # The end marker of frame t covers only the beginning of the step after it.
        assert drawn == [step <= t for step in range(1, T)]


def test_only_slots_with_pixels_are_in_the_legend():
    """A picture grows by a line if its legend needs one."""
    video, decomposition, _ = scene()
    many = 40
    masks = np.zeros((1, T, many, H, W), np.float32)
    masks[:, :, :K] = decomposition.masks
    means = np.zeros((1, T, many, H, W, 3), np.float32)
    wide = Decomposition(means, masks, np.zeros((1, T, many, 4), np.float32))
    few = draw_trajectories(video, wide)
    assert few.shape == draw_trajectories(video, decomposition).shape
    wide.masks[0, :, K:, 0, 0] = 2 * np.eye(many - K, T).T
    wide.masks[0, :, K:, 0, 1] = 2 * np.eye(many - K, T, -T).T
    assert draw_trajectories(video, wide).shape[0] > few.shape[0]


def test_an_object_that_does_not_move_is_a_point():
    video, decomposition, segmentation = scene()
    still = jax.tree.map(lambda array: array[:, :1].repeat(T, 1), decomposition)
    picture = draw_trajectories(video, still, segmentation[:1].repeat(T, 0))
    assert at(picture, *FIRST[0]) == [255, 255, 255]


def test_another_number_of_frames_is_refused():
    video, decomposition, _ = scene()
    with pytest.raises(ValueError, match=r"\(1, 5\) \(videos, frames\), expected \(1, 3\)"):
        draw_trajectories(video[:3], decomposition)
