"""The standard files of a decomposition: times, empty slots, and memory use."""

import csv

import numpy as np
from PIL import Image

from stii_jax.inference.outputs import COLUMNS, MAX_ANIMATED, Animation, Masks, SegmentedFrame, Trajectories, VideoInfo
from stii_jax.visualization.regions import OUTSIDE, Canvas
from stii_jax.visualization.visualize import slot_colors

TIMES = [0.0, 0.1, 0.4, 0.47]


def info(num_slots=3):
    return VideoInfo("video.mp4", 12, 8, 1, 10.0, len(TIMES), slot_colors(num_slots, 0), 0)


def frames():
    """Slot 1 moves to the right in a view that leaves out four columns; slot 2 has no pixels."""
    canvas = Canvas((8, 8), (4, 0, 12, 8), 12, 8)
    for t, seconds in enumerate(TIMES):
        masks = np.zeros((3, 8, 8), np.float32)
        masks[0], masks[2] = 0.5, 0.1
        masks[1, 2:4, t : t + 3] = 0.75
        labels = canvas.segment(masks)
        yield SegmentedFrame(t, seconds, t == 3, labels.slots, canvas.measure(labels))


def write(file):
    with file:
        for frame in frames():
            file.write(frame)


def test_one_row_per_frame_and_slot(tmp_path):
    write(Trajectories(tmp_path, info()))
    with (tmp_path / "trajectories.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [(int(row["frame"]), int(row["object"])) for row in rows] == [(t, k) for t in range(4) for k in range(3)]
    for t, seconds in enumerate(TIMES):
        background, ball, empty = rows[3 * t : 3 * t + 3]
        assert {float(row["time"]) for row in rows[3 * t : 3 * t + 3]} == {seconds}
        assert list(ball.values())[3:] == [
            *("1", f"{t + 5.5}", "3.0", "6.0", f"{t + 4.0}", "2.0", f"{t + 7.0}", "4.0"),
            *("0.75", "0", str(int(t == 3))),
        ]
        assert list(empty.values())[3:] == ["0", "", "", "0", "", "", "", "", "", "0", str(int(t == 3))]
        assert (background["area"], background["background"]) == ("58.0", "1")


def test_masks_in_both_forms(tmp_path):
    write(Masks(tmp_path, info()))
    assert {path.name for path in tmp_path.iterdir()} == {"masks", "masks.npz"}  # no helper is left
    with np.load(tmp_path / "masks.npz", allow_pickle=False) as archive:
        segmentation, palette, time = (archive[name] for name in ("segmentation", "palette", "time"))
    np.testing.assert_array_equal(segmentation, [frame.slots for frame in frames()])
    assert (segmentation[:, :, :4] == OUTSIDE).all() and segmentation.max(initial=0, where=segmentation < 255) == 1
    assert palette.shape == (256, 3) and time.tolist() == TIMES
    np.testing.assert_array_equal(palette[:3], slot_colors(3, 0))
    assert (palette[3:] == 0).all()
    for path, labels in zip(sorted((tmp_path / "masks").iterdir()), segmentation, strict=True):
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), labels)
            np.testing.assert_array_equal(np.asarray(image.convert("RGB")), palette[labels])


def test_an_animation_lasts_as_long_as_the_video(tmp_path):
    rng = np.random.default_rng(0)
    with Animation(tmp_path, 10.0) as file:
        for seconds in TIMES:
            file.write(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8), seconds)
    with Image.open(tmp_path / "slots.gif") as image:
        shown = []
        for t in range(image.n_frames):
            image.seek(t)
            shown.append(image.info["duration"])
    assert shown == [100, 300, 70, 100]


def test_the_last_frame_of_a_cut_animation_is_shown_until_the_next(tmp_path, monkeypatch):
    assert MAX_ANIMATED > 2
    monkeypatch.setattr("stii_jax.inference.outputs.MAX_ANIMATED", 2)
    test_frames = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), dtype=np.uint8)
    with Animation(tmp_path, 10.0) as file:
        for picture, seconds in zip(test_frames, TIMES):
            file.write(picture, seconds)
    with Image.open(tmp_path / "slots.gif") as image:
        image.seek(1)
        assert (image.n_frames, image.info["duration"]) == (2, 300)
