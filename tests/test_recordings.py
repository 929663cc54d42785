"""Recordings, as a model is to see them, read up to where they are damaged."""

import numpy as np
import pytest
from PIL import Image
from sample_recordings import write_raw

from stii_jax.data import DataError
from stii_jax.data.view import View
from stii_jax.recordings import Recording


def noise(num_frames, height=16, width=24):
    return np.random.default_rng(0).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


@pytest.fixture
def video(tmp_path):
    return write_raw(tmp_path / "video.mkv", noise(7))


def test_the_dataset_says_what_is_seen(video):
    frames = noise(7)
    view = View(size=4, margins=(2, 1, 2, 3))
    recording = Recording(video, view, stride=3)
    assert (recording.box, recording.fps, recording.expected) == ((2, 1, 22, 13), pytest.approx(10 / 3), 3)
    np.testing.assert_array_equal(list(recording), [view.frame(frames[t]) for t in (0, 3, 6)])


def test_images_that_cannot_be_used_end_the_video(tmp_path):
    for number, frame in enumerate(noise(3)):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    Image.fromarray(noise(1, 16, 16)[0]).save(tmp_path / "3.png")
    view = View(size=8)
    recording = Recording(tmp_path, view)
    assert len(list(recording)) == 3
    assert recording.damage.endswith("is damaged after 3 frames: the next has 16x16 pixels, not 24x16")
    (tmp_path / "2.png").write_bytes(b"no image")
    recording = Recording(tmp_path, view)
    assert (
        len(list(recording)) == 2
        and "after 2 frames: " in recording.damage
        and "2.png cannot be read" in recording.damage
    )


def test_a_view_that_does_not_fit(video):
    with pytest.raises(DataError, match=r"video.mkv does not fit the view of the run's dataset: frames are 24x16 "):
        Recording(video, View(size=8, region=(20, 0, 16, 16)))
