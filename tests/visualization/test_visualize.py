"""Pictures: their layout, their colours and their content."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from stii_jax.types import Decomposition
from stii_jax.visualization.visualize import (
    BACKGROUND,
    CELL,
    GAP,
    LINE,
    OUTSIDE,
    PREDICTED,
    animation,
    animation_frame,
    find_slots,
    one_video,
    overlay,
    plot_learning_curve,
    save_gif,
    save_png,
    segmentation_colors,
    strip,
)

T, H, W = 4, 16, 16
SCALE = CELL // H


def scene(num_slots=3, background=1, channels=3):
    """Two bright squares that move apart, found exactly: (video, decomposition, segmentation)."""
    segmentation = np.zeros((T, H, W), np.uint8)
    for t in range(T):
        segmentation[t, 2:6, 4 + t : 8 + t], segmentation[t, 9:14, 6 - t : 11 - t] = 1, 2
    slot_of_label = [k for k in range(num_slots) if k != background]
    slots = np.array([background, *slot_of_label])[segmentation]
    masks = np.moveaxis(np.eye(num_slots, dtype=np.float32)[slots], -1, 1)
    means = np.zeros((T, num_slots, H, W, channels), np.float32)
    means[:, slot_of_label[0]], means[:, slot_of_label[1]] = 0.8, 0.4
    video = np.array([0, 204, 102], np.uint8)[segmentation][..., None].repeat(channels, -1)
    return (
        video,
        Decomposition(means[None], masks[None], np.zeros((1, T, num_slots, 4), np.float32)),
        segmentation,
    )


def cell(image, row, column):
    """Return a cell of a strip, at the size of the frame."""
    left = image.shape[1] - GAP - T * (CELL + GAP)
    y, x = LINE + GAP + row * (CELL + GAP), left + GAP + column * (CELL + GAP)
    return image[y : y + CELL : SCALE, x : x + CELL : SCALE]


def test_colors_are_distinct_and_stable():
    colors = segmentation_colors(30)
    assert colors.dtype == np.uint8 and len(np.unique(colors, axis=0)) == 30
    distances = np.abs(colors[:12, None].astype(int) - colors[None, :12]).sum(-1) + 1000 * np.eye(12)
    assert distances.min() > 60
    np.testing.assert_array_equal(colors[:4], segmentation_colors(4))


def test_many_colors():
    """Each colour differs from those shortly before it."""
    colors = segmentation_colors(255).astype(float)
    assert min(np.linalg.norm(colors[i - 24 : i] - colors[i], axis=1).min() for i in range(24, 255)) > 80


def test_overlay_blends():
    frames, labels = np.full((2, 3, 3, 1), 100, np.uint8), np.arange(18).reshape(2, 3, 3) % 3
    np.testing.assert_array_equal(overlay(frames, labels, alpha=1.0), segmentation_colors(3)[labels])
    np.testing.assert_array_equal(overlay(frames, labels, alpha=0.0), frames.repeat(3, -1))


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_of_a_strip_show_what_they_say(channels):
    video, decomposition, segmentation = scene(channels=channels)
    image = strip(video, decomposition, segmentation)
    assert image.shape[0] == LINE + GAP + (4 + 2 * 3) * (CELL + GAP)
    for t in range(T):
        rgb = np.broadcast_to(video[t], (H, W, 3))
        np.testing.assert_array_equal(cell(image, 0, t), rgb)
        np.testing.assert_array_equal(cell(image, 1, t), rgb)  # the reconstruction is perfect
        np.testing.assert_array_equal(cell(image, 2, t), cell(image, 3, t))  # so is the segmentation
        assert (cell(image, 2, t)[segmentation[t] == 0] == BACKGROUND).all()
        np.testing.assert_array_equal(cell(image, 4, t)[..., 0], 255 * (segmentation[t] == 1))
        assert (cell(image, 5, t)[segmentation[t] == 1] == 204).all(), "slot 0 alone"


def test_a_swapped_object_differs_from_the_truth():
    video, decomposition, segmentation = scene()
    masks = decomposition.masks.copy()
    masks[:, 3] = masks[:, 3][:, [2, 1, 0]]
    image = strip(video, decomposition._replace(masks=masks), segmentation)
    np.testing.assert_array_equal(cell(image, 2, 0), cell(image, 3, 0))
    assert (cell(image, 2, 3) != cell(image, 3, 3)).any(-1)[segmentation[3] > 0].all()


def test_more_labels_than_slots_still_have_colors():
    video, decomposition, segmentation = scene()
    segmentation[:, 0, :5] = np.arange(3, 8)
    assert len(np.unique(cell(strip(video, decomposition, segmentation), 3, 0).reshape(-1, 3), axis=0)) == 8


def test_predicted_frames_are_marked_only_where_the_model_speaks():
    video, decomposition, segmentation = scene()
    image = strip(video, decomposition, segmentation, num_observed=2)
    left = image.shape[1] - GAP - T * (CELL + GAP)
    for row, marked in enumerate((False, True, True, False, True)):
        for t in range(T):
            edge = image[LINE + 2 * GAP + row * (CELL + GAP), left + GAP + t * (CELL + GAP) - 1]
            assert (tuple(edge.tolist()) == PREDICTED) == (marked and t >= 2), (row, t)
    assert not (strip(video, decomposition, segmentation) == PREDICTED).all(-1).any()


def test_columns_are_spread_over_the_video():
    video, decomposition, _ = scene()
    first_and_last = strip(video, decomposition, num_columns=2)
    whole = strip(video, decomposition, num_columns=50)
    assert whole.shape[1] - first_and_last.shape[1] == 2 * (CELL + GAP)
    np.testing.assert_array_equal(first_and_last[LINE:, -CELL:], whole[LINE:, -CELL:])


@pytest.mark.parametrize("num_slots", [3, 12])
def test_frames_of_an_animation_have_one_size(num_slots, tmp_path):
    video, decomposition, segmentation = scene(num_slots)
    frames = animation(video, decomposition, segmentation, num_observed=2)
    assert len(frames) == T and len({frame.shape for frame in frames}) == 1
    assert [bool((frame == PREDICTED).all(-1).any()) for frame in frames] == [False, False, True, True]
    save_gif(tmp_path / "video.gif", frames, fps=8)
    assert Image.open(tmp_path / "video.gif").n_frames == T


def test_one_video_of_a_batch():
    _, decomposition, _ = scene()
    for whole in (decomposition, decomposition._replace(responsibilities=decomposition.masks)):
        batch = jax.tree.map(lambda array: np.concatenate([array, array + 1]), whole)
        expected = jax.tree.map(lambda array: array + 1, whole)
        jax.tree.map(np.testing.assert_array_equal, one_video(batch, 1), expected)


def test_responsibilities_decide_the_segmentation():
    """Slots change places in it; the reconstruction stays the same."""
    video, decomposition, _ = scene()
    swapped = decomposition._replace(responsibilities=decomposition.masks[:, :, ::-1])
    K = decomposition.masks.shape[2]
    plain, other = (find_slots(video, found)[0] for found in (decomposition, swapped))
    np.testing.assert_array_equal(other, K - 1 - plain)
    np.testing.assert_array_equal(swapped.reconstruction, decomposition.reconstruction)


def test_another_number_of_frames_is_refused(tmp_path):
    video, decomposition, _ = scene()
    with pytest.raises(ValueError, match=r"\(1, 4\) \(videos, frames\), expected \(1, 3\)"):
        strip(video[:3], decomposition)


def test_png_round_trip(tmp_path):
    image = strip(*scene())
    save_png(tmp_path / "strip.png", image)
    np.testing.assert_array_equal(Image.open(tmp_path / "strip.png"), image)


def write_run(folder, num_lines):
    folder.mkdir()
    lines = []
    for step in range(num_lines):
        lines.append({"step": step, "time": 2.0 * step, "train/loss": 1e4 / (step + 1)})
        if step % 10 == 0:
            lines.append({"step": step, "time": 2.0 * step, "eval/ari": 0.5, "eval/f_ari": None})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "metrics.jsonl"


@pytest.mark.parametrize("num_lines", [1, 100])
def test_learning_curves_of_several_runs(tmp_path, num_lines):
    runs = [write_run(tmp_path / name, num_lines) for name in ("seed_0", "seed_1")]
    plot_learning_curve(tmp_path / "curve.png", *runs)
    assert Image.open(tmp_path / "curve.png").size[0] > 1000


def test_a_curve_of_nothing_is_refused(tmp_path):
    for metrics in ((), (write_run(tmp_path / "empty", 0),)):
        with pytest.raises(ValueError, match="at least one line"):
            plot_learning_curve(tmp_path / "curve.png", *metrics)


@pytest.mark.parametrize("predicted", [False, True])
def test_pixels_of_a_moment(predicted):
    """Two slots, left and right: the frame, the segmentation over it, and the reconstruction side by side."""
    frame = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    masks = np.zeros((1, 1, 2, 8, 8), np.float32)
    masks[..., 0, :, :3] = masks[..., 1, :, 3:] = 1
    means = np.broadcast_to(np.float32([0.2, 0.8])[:, None, None, None], (1, 1, 2, 8, 8, 3))
    decomposition = Decomposition(means, masks, np.zeros((1, 1, 2, 4), np.float32))
    colors = np.array([[10, 20, 30], [200, 100, 50]], np.uint8)
    picture = animation_frame(None if predicted else frame, decomposition, colors, "caption")
    left = np.arange(8) < 3
    reconstruction = np.broadcast_to(np.where(left, 51, 204)[None, :, None], frame.shape)
    mixed = 0.6 * colors[np.where(left, 0, 1)] + 0.4 * (reconstruction if predicted else frame)
    width = (picture.shape[1] - GAP) // 3
    cells = [picture[LINE : LINE + CELL, GAP + i * width :][:, :CELL] for i in range(3)]
    seen, over, decoded = (cell[:: CELL // 8, :: CELL // 8] for cell in cells)
    np.testing.assert_array_equal(seen, np.full_like(frame, OUTSIDE) if predicted else frame)
    np.testing.assert_allclose(over, mixed, atol=0.5)
    np.testing.assert_array_equal(decoded, reconstruction)
    for slot, color in enumerate(colors):
        assert (picture[LINE + CELL + GAP :, GAP + slot * width :][10, 5] == color).all()
    assert (picture == PREDICTED).all(-1).any() == predicted
