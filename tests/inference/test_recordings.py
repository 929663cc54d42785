"""Recordings in the form that a model sees, read up to any damage."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image
from sample_recordings import write_raw, write_video

from stii_jax.data import DataError
from stii_jax.data.video import pyav
from stii_jax.data.video.tiles import TiledView
from stii_jax.data.video.view import View
from stii_jax.inference.recordings import Frames, Recording


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
    for frame, t in zip(recording, (0, 3, 6), strict=True):
        np.testing.assert_array_equal(frame.pixels, frames[t])
        np.testing.assert_array_equal(frame.view, view.frame(frames[t]))
        assert frame.plain is None
        assert frame.seconds == pytest.approx(t / 10, abs=1e-3)  # Matroska counts milliseconds


def seconds_of(recording):
    return [frame.seconds for frame in recording]


@pytest.mark.parametrize("name", ["video.mkv", "video.mp4"])
def test_frames_at_uneven_times(tmp_path, name):
    times = [3, 4, 5, 50, 51, 400, 401, 900]
    video = write_video(tmp_path / name, noise(8), "libx264", times=times)
    recording = Recording(video, View(size=8), stride=2)
    assert seconds_of(recording) == pytest.approx([(time - 3) / 100 for time in times[::2]])
    assert recording.untimed is None


@pytest.mark.parametrize(
    ("times", "expected", "problem"),
    [
        ([2.0, 2.1, 2.1, 9.0], [0, 0.1, 0.15, 0.2], "frame 2 is not later than the previous frame"),
        ([2.0, 2.5, 2.4, 9.0], [0, 0.5, 0.55, 0.6], "frame 2 is not later than the previous frame"),
        ([2.0, None, 2.4, 9.0], [0, 0.05, 0.1, 0.15], "frame 1 has no time"),
        ([None, 1.0, 2.0, 3.0], [0, 0.05, 0.1, 0.15], "frame 0 has no time"),
    ],
)
def test_times_that_make_no_sense(video, monkeypatch, times, expected, problem):
    """After invalid times, frames follow at the average rate, here 20."""
    frames = [SimpleNamespace(seconds=time, pixels=lambda: noise(1)[0]) for time in times]
    monkeypatch.setattr(pyav, "decode", lambda *_: iter(frames))
    monkeypatch.setattr(pyav, "read_header", lambda path: pyav.Header(4, 20.0))
    recording = Recording(video, View(size=8))
    assert seconds_of(recording) == pytest.approx(expected) and recording.untimed == problem


@pytest.mark.parametrize(
    ("name", "num_frames", "rate"),
    [
        ("avi/bgs_dataset_demo.avi", 51, 15),
        ("avi/bgs_dataset_video02.avi", 748, 25),
        pytest.param("pedestrian/pets2009_vtest_480x360_h264.avi", 795, 10, marks=pytest.mark.slow),
        pytest.param("flies/centered_pair_small.mp4", 1100, 15, marks=pytest.mark.slow),
    ],
)
def test_real_files(samples, name, num_frames, rate):
    """Two of the AVI files have B-frames, whose times FFmpeg gets wrong."""
    recording = Recording(samples / name, View(size=8))
    assert seconds_of(recording) == pytest.approx(np.arange(num_frames) / rate, abs=1e-6)
    assert recording.fps == rate and recording.untimed is None


def test_images_have_a_rate(tmp_path):
    for number, frame in enumerate(noise(5)):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    recording = Recording(tmp_path, View(size=8), stride=2)
    assert seconds_of(recording) == [0, 2 / 25, 4 / 25] and (recording.fps, recording.expected) == (12.5, 3)


def test_images_that_cannot_be_used_end_the_video(tmp_path):
    for number, frame in enumerate(noise(3)):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    Image.fromarray(noise(1, 16, 16)[0]).save(tmp_path / "3.png")
    view = View(size=8)
    recording = Recording(tmp_path, view)
    assert len(list(recording)) == 3
    assert recording.damage.endswith("is damaged after 3 frames: the next frame has 16x16 pixels, not 24x16")
    (tmp_path / "2.png").write_bytes(b"no image")
    recording = Recording(tmp_path, view)
    assert (
        len(list(recording)) == 2
        and "after 2 frames: " in recording.damage
        and "2.png cannot be read" in recording.damage
    )


def test_a_view_that_does_not_fit(video):
    with pytest.raises(DataError, match=r"video.mkv does not fit the model's view: frames are 24x16 "):
        Recording(video, View(size=8, region=(20, 0, 16, 16)))


def test_the_background_is_removed_from_what_the_model_sees(tmp_path):
    """This holds for files and arrays; the frames themselves stay unchanged."""
    scene = np.random.default_rng(0).integers(60, 120, (48, 64, 3), np.uint8)
    frames = np.stack([scene] * 9)
    for number in range(9):
        frames[number, 8:16, 4 * number : 4 * number + 8] = 250
        Image.fromarray(frames[number]).save(tmp_path / f"{number}.png")
    view = View(size=48, region=(0, 0, 48, 48), background="median")
    for recording in (Recording(tmp_path, view), Frames(frames, view)):
        assert recording.background == "median" and not recording.notes
        for number, frame in enumerate(recording):
            expected = np.zeros((48, 48, 3), np.uint8)
            expected[8:16, 4 * number : 4 * number + 8] = 255
            assert np.array_equal(frame.pixels, frames[number])
            assert np.array_equal(frame.view > 127, expected > 127)
            assert np.array_equal(frame.plain, frames[number][:, :48])
    with pytest.raises(DataError, match='background="median" needs a file or an array'):
        Frames(iter(frames), view)


@pytest.mark.parametrize("view", [View(size=8), TiledView(size=8, side=12)])
def test_the_negative_of_a_bright_background_is_seen(view, tmp_path):
    """The frames themselves stay unchanged."""
    frames = np.random.default_rng(0).integers(120, 255, (2, 12, 20, 3), np.uint8)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    negative = dataclasses.replace(view, background="bright")
    for kept, seen in (
        (Recording(tmp_path, view), Recording(tmp_path, negative)),
        (Frames(frames, view), Frames(frames, negative)),
    ):
        assert (kept.background, seen.background) == ("keep", "bright") and not seen.notes
        for before, after in zip(kept, seen, strict=True):
            assert np.array_equal(after.view, 255 - before.view) and np.array_equal(after.pixels, before.pixels)


@pytest.mark.parametrize(
    ("length", "size", "detail"),
    [(6, 16, 4), (18, 16, 3), (40, 16, 2), (6, 8, 8), (6, 64, 1)],
    ids=["small", "medium", "large", "the most", "no more pixels than the frame"],
)
def test_a_removed_background_shows_objects_in_detail(length, size, detail):
    """The smaller the objects, the more pixels. The difference is the model's view before it is reduced."""
    frames = np.full((30, 64, 96, 3), 40, np.uint8)
    for number in range(30):
        frames[number, 20 : 20 + length, 3 * number : 3 * number + length] = 250
    recording = Frames(frames, View(size=size, square=True, background="median"))
    assert recording.detail == detail and not recording.notes
    for frame in recording:
        assert frame.detailed.picture.shape == (detail * size, detail * size, 3)
        assert frame.detailed.change.shape == (detail * size, detail * size)
        reduced = frame.detailed.change.reshape(size, detail, size, detail).mean(axis=(1, 3))
        assert np.abs(reduced - frame.view[..., 0]).mean() < 8
    assert np.array_equal(frame.plain, View(size=size, square=True).picture(frame.pixels))


def test_no_detail_in_tiles_or_with_the_background():
    frames = np.full((30, 64, 96, 3), 40, np.uint8)
    for view in (View(size=16), TiledView(size=16, side=24, background="median")):
        recording = Frames(frames, view)
        assert recording.detail == 0 and next(iter(recording)).detailed is None


def test_a_camera_that_moves_keeps_its_background():
    wide = np.random.default_rng(0).integers(0, 255, (32, 200, 3), np.uint8)
    pan = np.stack([wide[:, 5 * number : 5 * number + 32] for number in range(30)])
    recording = Frames(pan, View(size=32, background="median"))
    assert recording.background == "keep"
    assert [note.partition(":")[0] for note in recording.notes] == ["the camera moves, or its noise is strong"]
    assert np.array_equal([frame.view for frame in recording], pan)


def crossing(scene, num_frames=40):
    """A square that crosses the scene."""
    frames = np.stack([scene] * num_frames)
    for number in range(num_frames):
        frames[number, 12:22, number : number + 10] = 220
    return frames


def resting(scene):
    """A square that is in one place and then in another."""
    frames = np.stack([scene] * 40)
    for number in range(40):
        x = 5 if number < 18 else 35
        frames[number, 12:32, x : x + 20] = 240
    return frames


DARK, LIGHT = (np.random.default_rng(0).integers(low, low + 60, (40, 60, 3), np.uint8) for low in (20, 150))
PANS = [np.stack([scene[:, n : n + 30] for n in (0, 9, 20, 5, 30, 14)] * 3) for scene in (3 * DARK,)]


@pytest.mark.parametrize(
    ("frames", "background", "note"),
    [
        (crossing(DARK), "median", "the camera stands still, so the background is removed"),
        (crossing(LIGHT), "median", "the camera stands still, so the background is removed"),
        (resting(DARK), "keep", "objects cover the same places for too long"),
        (resting(LIGHT), "bright", "objects cover the same places for too long"),
        (np.stack([DARK] * 5), "keep", "nothing moves; frames are seen as they are"),
        (np.stack([LIGHT] * 5), "bright", "nothing moves; frames are bright, so the negative is seen"),
        (PANS[0], "keep", "the camera moves, or its noise is strong"),
        (iter(crossing(DARK)), "keep", "the background is kept, since frames that come one by one do not show it"),
    ],
)
def test_the_program_chooses_what_the_model_sees(frames, background, note):
    recording = Frames(frames, View(size=30, background="auto"))
    assert recording.background == background and recording.notes[0].startswith(note)
    shown = list(recording)
    for frame in shown:
        plain = View(size=30, background="bright" if background == "bright" else "keep").frame(frame.pixels)
        assert np.array_equal(frame.view, plain) == (background != "median")


def test_the_choice_for_a_file_is_that_for_its_frames(tmp_path):
    for number, frame in enumerate(resting(LIGHT)):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    recording = Recording(tmp_path, View(size=30, background="auto"))
    assert recording.background == "bright" and len(recording.notes) == 1
    assert all(np.array_equal(frame.view, 255 - View(size=30).frame(frame.pixels)) for frame in recording)


def test_notes(tmp_path, samples):
    """Every automatic choice is reported."""
    path = tmp_path / "a.tif"
    frames = np.arange(3 * 8 * 8, dtype=np.uint16).reshape(3, 8, 8) * 20
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "ZYX"})
    recording = Recording(path, View(size=8))
    shown = [frame.pixels for frame in recording]
    assert np.array_equal(shown[1][0, 0], [round(64 / 191 * 255)] * 3) and recording.value_range == (0, 3820)
    assert recording.notes == [
        f"{path} has no axis T: its axis Z of length 3 is taken as time",
        "frames hold values 0 to 3820 (16-bit): scaled to 0..255; set --value_range=LOW,HIGH to choose",
    ]
    assert np.array_equal([frame.pixels for frame in recording], shown)  # a second time
    chosen = Recording(path, View(size=8), value_range=(0.0, 20.0))
    assert next(iter(chosen)).pixels[0, :3, 0].tolist() == [0, 255, 255] and len(chosen.notes) == 1
    Image.fromarray(shown[0]).save(tmp_path / "a.png")
    assert Recording(tmp_path / "a.png", View(size=8)).notes == [f"{tmp_path / 'a.png'} is a still image: one frame"]
    untrue = Recording(samples / "avi" / "bgs_dataset_video02.avi", View(size=8), stride=100)
    assert len(list(untrue)) == 8 and untrue.notes == [
        f"{samples / 'avi' / 'bgs_dataset_video02.avi'} announces 2 more frames than could be decoded"
    ]
