"""A folder of other kinds of videos: TIFF stacks, animations, deep frames, a single file."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from sample_recordings import balls, colored, write_raw
from test_video_folder import build, configure, noise, whole

from stii_jax.data.errors import DataError
from stii_jax.data.video.background import Background
from stii_jax.data.video.folder import find_recordings

PLAIN = {"photometric": "minisblack"}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "videos").mkdir()
    return tmp_path / "videos"


def deep(num_frames: int, low: int, high: int) -> np.ndarray:
    frames = np.random.default_rng(low).integers(low, high + 1, (num_frames, 32, 32)).astype(np.uint16)
    frames[-1, 0, :2] = low, high  # the range includes frames beyond the last whole clip
    return frames


def scaled(frames: np.ndarray, low: float, high: float) -> np.ndarray:
    shown = np.round(np.clip((frames.astype(float) - low) / (high - low), 0, 1) * 255)
    return shown.astype(np.uint8)[..., None].repeat(3, axis=-1)


def test_each_stack_is_a_video_with_a_range_of_its_own(folder, capsys):
    ranges = {"a.tif": (100, 4095), "b.tif": (0, 900)}
    for name, (low, high) in ranges.items():
        tifffile.imwrite(folder / name, deep(9, low, high), **PLAIN)
    clips = whole(build(folder))["video"]
    expected = [scaled(deep(9, *limits)[:8], *limits).reshape(2, 4, 32, 32, 3) for limits in ranges.values()]
    np.testing.assert_array_equal(clips, np.concatenate(expected))
    assert "videos deeper than 8 bits, scaled by their own range of values (option value_range): 2" in (
        capsys.readouterr().out
    )
    source = build(folder, value_range=(0.0, 1000.0))
    np.testing.assert_array_equal(
        whole(source)["video"][:2], scaled(deep(9, 100, 4095)[:8], 0, 1000).reshape(2, 4, 32, 32, 3)
    )
    assert "value_range=0.0_1000.0" in configure(folder, value_range=(0.0, 1000.0)).name


def test_splits_of_one_recording_share_its_range(folder):
    frames = deep(17, 50, 3000)
    tifffile.imwrite(folder / "a.tif", frames, **PLAIN)
    source = build(folder, validation_fraction=0.5)
    clips = np.concatenate([whole(source, split)["video"] for split in ("train", "validation")])
    np.testing.assert_array_equal(clips.reshape(16, 32, 32, 3), scaled(frames[:16], 50, 3000))


def test_single_pages_are_frames(folder):
    frames = deep(4, 10, 700)
    for number, frame in enumerate(frames):
        tifffile.imwrite(folder / f"frame{number}.TIF", frame)
    np.testing.assert_array_equal(whole(build(folder))["video"][0], scaled(frames, 10, 700))


def test_animated_pictures_are_videos(folder):
    for name in ("a.webp", "b.png"):
        pictures = [Image.fromarray(frame) for frame in noise(4, 32, 32)]
        options = {"lossless": True} if name == "a.webp" else {}
        pictures[0].save(folder / name, save_all=True, append_images=pictures[1:], **options)
    Image.fromarray(noise(1)[0]).save(folder / "thumbnail.jpg")
    clips = whole(build(folder))["video"]
    np.testing.assert_array_equal(clips, np.stack([noise(4, 32, 32)] * 2))


@pytest.mark.parametrize("video", ["a.avi", "a.tif", "a"])
def test_masks_in_a_stack(folder, video):
    (labels,) = balls(1, 8)
    if video == "a.avi":
        write_raw(folder / video, colored(labels))
    elif video == "a.tif":
        tifffile.imwrite(folder / video, colored(labels), photometric="rgb")
    else:
        (folder / video).mkdir()
        for number, frame in enumerate(colored(labels)):
            Image.fromarray(frame).save(folder / video / f"{number}.png")
    tifffile.imwrite(folder / "a_masks.tif", labels.astype(np.uint16), compression="zlib", **PLAIN)
    assert [recording.name for recording in find_recordings(folder)] == [video]
    clips = whole(build(folder, image_size=64))
    np.testing.assert_array_equal(clips["segmentation"], labels.reshape(2, 4, 64, 64))
    np.testing.assert_array_equal(clips["video"], colored(labels).reshape(2, 4, 64, 64, 3))


def test_masks_that_are_no_labels(folder):
    write_raw(folder / "a.avi", noise(4))
    tifffile.imwrite(folder / "a_masks.tif", np.zeros((4, 32, 48), np.float32), **PLAIN)
    with pytest.raises(DataError, match=r"a_masks\.tif holds float32 .*: give masks as grey integers"):
        build(folder)


def test_a_stack_that_is_cut_short_is_skipped(folder, capsys):
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(folder / name, noise(9)[..., 0], metadata=None, **PLAIN)
    data = (folder / "b.tif").read_bytes()
    (folder / "b.tif").write_bytes(data[: len(data) * 3 // 4])
    assert build(folder).split_sizes == {"train": 2}
    assert "skipped 1 of 2: b.tif" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a.avi", "a.tif"])
def test_a_file_given_as_folder(folder, name, capsys):
    if name == "a.avi":
        write_raw(folder / name, noise(8, 32, 32))
    else:
        tifffile.imwrite(folder / name, noise(8, 32, 32), photometric="rgb")
    write_raw(folder / "other.avi", noise(8, 32, 32, seed=1))
    source = build(folder / name, validation_fraction=0.5)
    assert source.split_sizes == {"train": 1, "validation": 1}
    np.testing.assert_array_equal(whole(source)["video"][0], noise(8, 32, 32)[:4])
    assert "left out" not in capsys.readouterr().out


def test_no_video_is_left_out_where_there_is_one(folder, capsys):
    write_raw(folder / "a.avi", noise(8))
    assert build(folder, validation_fraction=0.5).split_sizes == {"train": 1, "validation": 1}
    assert "warning" not in capsys.readouterr().out


def test_an_invalid_range():
    with pytest.raises(DataError, match=r"option value_range=\(5\.0, 5\.0\) of .*: give \(LOW, HIGH\), LOW below HIGH"):
        configure("/my/videos", value_range=(5.0, 5.0))


def test_a_background_is_removed_from_each_video(folder, capsys):
    """The result equals `Background.change` over all frames of the video; a moving camera keeps its background."""
    scene = np.random.default_rng(0).integers(60, 120, (32, 32, 3), np.uint8)
    still = np.stack([scene] * 9)
    for number in range(9):
        still[number, 10:16, 3 * number : 3 * number + 6] = 250
    write_raw(folder / "a.avi", still)
    write_raw(folder / "b.avi", moving := noise(9, 32, 32))
    clips = whole(build(folder, background="median"))["video"].reshape(2, 8, 32, 32, 3)
    found = Background(still)
    np.testing.assert_array_equal(clips[0], [found.change(frame) for frame in still[:8]])
    assert clips[0].max() > 200 and (clips[0] == 0).mean() > 0.9
    np.testing.assert_array_equal(clips[1], moving[:8])
    assert "videos whose camera moves, which keep their background (option background): 1" in capsys.readouterr().out
    assert configure(folder, background="median").view.background == "median"
    with pytest.raises(DataError, match=r"option background=mean of .*: give one of keep, median, bright"):
        configure(folder, background="mean")


def test_the_negative_of_a_bright_background(folder):
    write_raw(folder / "a.avi", noise(9, 32, 32))
    kept, negative = (whole(build(folder, background=shown))["video"] for shown in ("keep", "bright"))
    np.testing.assert_array_equal(negative, 255 - kept)
