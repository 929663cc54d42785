"""A folder of short videos: the default length of its clips."""

import shutil

import numpy as np
import pytest
from sample_recordings import write_raw
from test_video_folder import build, configure, noise, whole

from stii_jax.data.errors import DataError

AUTOMATIC = {"num_frames": 0, "validation_fraction": 0.1}


def write(folder, lengths):
    for number, length in enumerate(lengths):
        write_raw(folder / f"{number}.avi", noise(length, 32, 32, seed=number))


@pytest.mark.parametrize(
    ("lengths", "options", "num_frames", "sizes"),
    [
        # A single video is cut into at least two clips.
        ([3], {}, 1, (2, 1)),
        ([5], {}, 2, (1, 1)),
        ([10], {}, 5, (1, 1)),
        ([16], {}, 8, (1, 1)),
        ([20], {}, 10, (1, 1)),
        ([40], {}, 16, (1, 1)),
        ([1], {}, 1, (1,)),
        ([20], {"validation_fraction": 0.0}, 16, (1,)),
        ([20], {"max_clips_per_video": 1}, 16, (1,)),
        # With two videos, both are used.
        ([3, 5], {}, 3, (1, 1)),
        ([20, 40], {}, 16, (1, 2)),
        # With more videos, half of them are used; shorter ones are skipped.
        ([3, 5, 10, 16, 20], {}, 10, (2, 2)),
        ([20, 20, 20, 5], {}, 16, (2, 1)),
        ([7, 7, 7], {"frame_stride": 3}, 3, (2, 1)),
    ],
)
def test_clips_are_as_long_as_the_videos(tmp_path, lengths, options, num_frames, sizes):
    write(tmp_path / "videos", lengths)
    options = AUTOMATIC | options
    source = build(tmp_path / "videos", **options)
    assert {source.frames_of(split) for split in source.splits} == {num_frames}
    assert sorted(source.split_sizes.values()) == sorted(sizes)
    shutil.rmtree(tmp_path / "videos")  # a dataset that is already built opens without them
    again = build(tmp_path / "videos", **options)
    assert (again.num_frames, again.split_sizes) == (num_frames, source.split_sizes)
    assert whole(again)["video"].shape[1] == num_frames


def test_each_split_of_folders_has_clips(tmp_path):
    for split, length in {"train": 20, "validation": 9, "test": 12}.items():
        write(tmp_path / "videos" / split, [length, length])
    source = build(tmp_path / "videos", **AUTOMATIC)
    assert source.num_frames == 9 and source.split_sizes == {"train": 4, "validation": 2, "test": 2}


def test_a_damaged_video_does_not_count(tmp_path, capsys):
    write(tmp_path / "videos", [6, 6])
    (tmp_path / "videos" / "page.mp4").write_text("<html>404</html>")
    source = build(tmp_path / "videos", **AUTOMATIC)
    assert source.num_frames == 6 and source.split_sizes == {"train": 1, "validation": 1}
    assert "skipped 1 of 2: page.mp4" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "<html>404</html>"])
def test_nothing_but_damaged_videos(tmp_path, content):
    (tmp_path / "videos").mkdir()
    for number in range(2):
        (tmp_path / "videos" / f"{number}.mp4").write_text(content)
    with pytest.raises(DataError, match=r"none of the \d files for split 'train' of video_folder is usable: "):
        build(tmp_path / "videos", **AUTOMATIC)


@pytest.mark.parametrize("lengths", [[3], [3, 5], [5, 5, 5]])
def test_all_are_shorter_than_the_length_asked_for(tmp_path, lengths):
    """A regression test: it raised an IndexError."""
    write(tmp_path / "videos", lengths)
    with pytest.raises(DataError, match=r"too short: it has \d frames, but a clip takes 16 \(omit --config\.data"):
        build(tmp_path / "videos", num_frames=16, validation_fraction=0.1)
    assert build(tmp_path / "videos", **AUTOMATIC).num_frames < 16


def test_before_the_videos_are_read_the_longest_clip_is_announced():
    assert configure("/my/videos", num_frames=0).frames_of("train") == 16
    assert configure("/my/videos", num_frames=5).frames_of("train") == 5
    assert np.all([configure("/my/videos", num_frames=n).num_frames == n for n in (0, 7)])
