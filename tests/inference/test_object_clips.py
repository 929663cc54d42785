"""A clip per object: its content and its size."""

import csv

import av
import numpy as np
import pytest

from stii_jax.inference.object_clips import write_clips
from stii_jax.inference.outputs import COLUMNS, TABLE, VideoInfo
from stii_jax.inference.recordings import RecordedFrame
from stii_jax.visualization.visualize import slot_colors

WIDTH, HEIGHT = 96, 64
TIMES = [0.0, 0.1, 0.5, 0.6, 0.7]
BOXES = {1: [None, (20, 10, 30, 20), (40, 30, 60, 44), None, (88, 58, 96, 64)], 2: [(0, 0, 96, 64)] * 5, 3: [None] * 5}


@pytest.fixture
def folder(tmp_path):
    with (tmp_path / TABLE).open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for t in range(6):
            for slot in range(4):
                box = (0, 0, 96, 64) if slot == 0 or t == 5 else BOXES[slot][t]
                row = {"frame": t, "object": slot, "background": int(slot == 0), "predicted": int(t == 5)}
                edges = dict(zip(("left", "top", "right", "bottom"), box or [""] * 4))
                table.writerow(row | edges | {"visible": int(box is not None)})
    return tmp_path


def recorded():
    """Return frames in which every pixel encodes its position."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for t, seconds in enumerate(TIMES):
        yield RecordedFrame(np.stack([2 * x, 3 * y, 0 * x + 20 * t], -1).astype(np.uint8), np.zeros((8, 8, 3)), seconds)


def read(path):
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [frame.to_ndarray(format="rgb24").astype(float) for frame in frames], [frame.time for frame in frames]


def test_clips_follow_their_objects(folder):
    write_clips(folder, recorded(), VideoInfo("v.mp4", WIDTH, HEIGHT, 1, 10.0, 5, slot_colors(4, 0), 0))
    assert {path.name for path in (folder / "objects").iterdir()} == {"slot_1.mp4", "slot_2.mp4"}  # 3 is never visible
    frames, times = read(folder / "objects" / "slot_1.mp4")
    assert times == pytest.approx(TIMES, abs=1e-3)
    # The largest box has 20x14 pixels, plus 4 on every side. It does not move while the object is not visible.
    corners = [(11, 4), (11, 4), (36, 26), (36, 26), (WIDTH - 28, HEIGHT - 22)]
    for frame, (left, top) in zip(frames, corners, strict=True):
        assert frame.shape == (22, 28, 3)
        assert np.median(frame[..., 0] / 2 - np.arange(28)) == pytest.approx(left, abs=1.5)
        assert np.median(frame[..., 1] / 3 - np.arange(22)[:, None]) == pytest.approx(top, abs=1.5)
    whole, _ = read(folder / "objects" / "slot_2.mp4")
    assert whole[0].shape == (HEIGHT, WIDTH, 3) and len(whole) == 5
