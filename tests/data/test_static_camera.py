"""Sequences from one long recording: disjoint, in the order of time, and the region they show."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_recordings import make_grand_central, make_static_camera, write_raw, write_video

from stii_jax.data.errors import DataError
from stii_jax.data.pipeline.prepare import build_if_missing
from stii_jax.data.pipeline.source import VideoDataset
from stii_jax.data.static_camera import GrandCentral, RecordingConfig, StaticCamera, StaticCameraConfig, cut

HEIGHT, WIDTH = 16, 24


def numbered(num_frames: int) -> np.ndarray:
    """Return frames that encode their number and the position of each pixel."""
    frames = np.zeros((num_frames, HEIGHT, WIDTH, 3), np.uint8)
    frames[..., 0] = np.arange(num_frames)[:, None, None]
    frames[..., 1] = np.arange(HEIGHT)[:, None]
    frames[..., 2] = np.arange(WIDTH)
    return frames


def build(file: Path, builder_class=StaticCamera, manual_dir=None, **options) -> VideoDataset:
    options = {"image_size": HEIGHT, "num_frames": 4} | options
    if builder_class is StaticCamera:
        options["file"] = str(file)
    config = builder_class.BUILDER_CONFIGS[0].with_options(options)
    return VideoDataset(build_if_missing(builder_class, config, file.parent / "built", manual_dir or file.parent))


def whole(source: VideoDataset, split: str = "train") -> np.ndarray:
    """Return all sequences of a split."""
    (batch,) = source.eval_batches(split, source.num_frames, source.split_sizes[split])
    assert set(batch) == {"video", "valid"}
    return batch["video"]


@pytest.fixture
def file(tmp_path) -> Path:
    return write_raw(tmp_path / "street.avi", numbered(103))


def test_sequences_follow_in_time(file):
    source = build(file)
    assert source.split_sizes == {"train": 21, "validation": 2, "test": 2}
    frames = np.concatenate([whole(source, split) for split in source.splits])
    np.testing.assert_array_equal(frames[:, :, 0, 0, 0], np.arange(100).reshape(25, 4))
    # The central square.
    assert np.array_equal(frames[0, 0, :, :, 1:], numbered(1)[0, :, 4:20, 1:])


def test_a_gap_and_a_stride(file):
    frames = whole(build(file, gap=3, frame_stride=2, validation_fraction=0.0))
    # 4 frames of every 7, and 3 left out: every sequence starts 10 later.
    assert len(frames) == 9
    np.testing.assert_array_equal(frames[:, :, 0, 0, 0], 10 * np.arange(9)[:, None] + 2 * np.arange(4))


def test_a_region(file):
    source = build(file, region=(3, 5, 8, 8), image_size=8, validation_fraction=0.0, test_fraction=0.0)
    assert source.splits == ("train",)
    np.testing.assert_array_equal(whole(source)[0], numbered(4)[:, 5:13, 3:11])
    with pytest.raises(DataError, match=r"frames are 24x16 pixels: the view from \(3, 5\) to \(11, 17\) does not fit"):
        build(file, region=(3, 5, 8, 12))


@given(
    num_frames=st.integers(0, 400),
    length=st.integers(1, 20),
    stride=st.integers(1, 4),
    gap=st.integers(0, 30),
    fractions=st.tuples(st.floats(0, 0.45), st.floats(0, 0.45)),
)
def test_every_frame_is_in_one_sequence_at_most(num_frames, length, stride, gap, fractions):
    config = RecordingConfig(
        name="test",
        num_frames=length,
        frame_stride=stride,
        gap=gap,
        validation_fraction=fractions[0],
        test_fraction=fractions[1],
    )
    span = (length - 1) * stride + 1
    try:
        sequences = cut(num_frames, config, Path("a.avi"))
    except DataError:
        assert num_frames < 5 * len(config.splits) * (span + gap)
        return
    assert tuple(sequences) == config.splits
    bounds = [bound for pair in sequences.values() for bound in pair]
    assert bounds[0] == 0 and bounds == sorted(bounds)
    assert all(first < last for first, last in sequences.values())
    used = bounds[-1] * (span + gap) - gap
    assert used <= num_frames < used + span + gap


def test_too_short(file):
    with pytest.raises(DataError, match=r"has 103 frames, but one clip for each of train, validation, test takes 120"):
        build(file, num_frames=40)
    build(file, num_frames=34)
    build(file, num_frames=103, validation_fraction=0.0, test_fraction=0.0)


def test_a_recording_cut_short_gives_what_is_there(file, capsys):
    os.truncate(file, file.stat().st_size // 2)
    source = build(file)
    assert (
        "street.avi is damaged after 49 frames: it is truncated. The frames before the damage are used"
        in capsys.readouterr().out
    )
    assert sum(source.split_sizes.values()) == 12
    np.testing.assert_array_equal(whole(source, "test")[-1, :, 0, 0, 0], range(44, 48))


def test_invalid_files(tmp_path):
    page = tmp_path / "page.avi"
    page.write_text("<!doctype html>")
    with pytest.raises(DataError, match=r"page\.avi is a web page"):
        build(page)
    with pytest.raises(DataError, match=rf"there is no file {tmp_path}/none\.avi: give .*options\.file"):
        build(tmp_path / "none.avi")
    with pytest.raises(DataError, match=rf"there is no file {tmp_path}: give"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"file": ""}, r"set --config\.data\.options\.file=/my/video\.mp4"),
        ({"region": (0, 0, 0, 8)}, "region="),
        ({"region": (-1, 0, 8, 8)}, "region="),
        ({"gap": -1}, "gap=-1"),
        ({"frame_stride": 0}, "frame_stride=0"),
        ({"test_fraction": -0.1}, "test_fraction=-0.1"),
        ({"test_fraction": 0.5, "validation_fraction": 0.5}, "test_fraction=0.5 of .*: give a sum below 1"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(DataError, match=f"(?i){message}"):
        StaticCameraConfig(name="default").with_options({"file": "/my/video.mp4"} | options)
    with pytest.raises(DataError, match="no recording given"):
        StaticCameraConfig(name="default").with_options({})


def test_a_recording_may_go_but_not_change(file):
    build(file)
    shutil.move(file, file.with_name("elsewhere.avi"))
    build(file)
    write_raw(file, numbered(40))
    with pytest.raises(DataError, match=r"have changed since it was built\. .*--overwrite"):
        build(file)


def test_grand_central(tmp_path):
    variant, options, manual_dir = make_grand_central(tmp_path)
    assert variant == "default" and GrandCentral.name == "grand_central"
    source = build(tmp_path / "x", GrandCentral, Path(manual_dir), **options | {"image_size": 128})
    assert source.split_sizes == {"train": 8, "validation": 1, "test": 1} and source.num_frames == 6
    frames = whole(source)
    # The balls are at 34 to 98 and 24 to 88 of the region; the rest has one colour.
    assert np.abs(frames[..., :20, :, :].astype(int) - 90).mean() < 5
    assert frames[..., 24:88, 34:98, :].std() > 40


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["a.avi"], "a.avi"),
        (["a.AVI", "b.txt"], "a.AVI"),
        (["a.avi", "GrandCentral.avi"], "GrandCentral.avi"),
        (["a.avi", "b.avi"], "a.avi, b.avi"),
        (["a.mp4"], "none"),
    ],
)
def test_the_recording_of_a_folder(tmp_path, names, chosen):
    manual = tmp_path / "manual"
    manual.mkdir()
    for name in names:
        write_raw(tmp_path / "raw.avi", numbered(30)).rename(manual / name)
    options = {"region": (0, 0, 16, 16)}
    if len(chosen.split(",")) == 1 and chosen != "none":
        assert build(tmp_path / "x", GrandCentral, manual, **options).split_sizes["train"] == 5
    else:
        with pytest.raises(DataError, match=rf"put one file named grandcentral\.avi in {manual}; .*: {chosen}"):
            build(tmp_path / "x", GrandCentral, manual, **options)


def test_a_compressed_recording(tmp_path):
    variant, options, manual_dir = make_static_camera(tmp_path)
    assert (variant, manual_dir) == ("default", "")
    source = build(Path(options.pop("file")), **options)
    assert source.split_sizes == {"train": 9, "validation": 1, "test": 1} and whole(source).std() > 30


@pytest.mark.slow
def test_pedestrians(samples, tmp_path):
    recording = samples / "pedestrian" / "pets2009_vtest_480x360_h264.avi"
    (tmp_path / "street.avi").symlink_to(recording)
    source = build(tmp_path / "street.avi", region=(230, 80, 128, 128), image_size=64, num_frames=20)
    assert source.split_sizes == {"train": 31, "validation": 4, "test": 4}
    frames = whole(source).astype(int)
    # The camera is static, and people walk by.
    still = np.median(frames.reshape(-1, 64, 64, 3)[::5], axis=0)
    away = np.abs(frames - still).max(-1)
    assert np.median(away) < 12 and 0.005 < (away > 60).mean() < 0.3


def test_a_header_that_lies(samples, tmp_path):
    """The header says 750 frames; 748 can be decoded."""
    shutil.copy(samples / "avi" / "bgs_dataset_video02.avi", tmp_path / "grandcentral.avi")
    options = {"region": (96, 56, 128, 128), "num_frames": 25, "image_size": 32}
    source = build(tmp_path / "built" / "x", GrandCentral, tmp_path, **options)
    assert source.split_sizes == {"train": 23, "validation": 3, "test": 3}


def test_frames_of_a_variable_rate_are_all_counted(tmp_path):
    times = sorted(np.random.default_rng(0).choice(5000, 40, replace=False).tolist())
    path = write_video(tmp_path / "a.mkv", numbered(40), "libx264", times=times)
    assert sum(build(path, region=(0, 0, 16, 16)).split_sizes.values()) == 10
