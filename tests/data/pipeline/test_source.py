"""Batches are a function of the seed and the step, for any number of processes."""

import itertools
import resource
from pathlib import Path

import numpy as np
import pytest

from stii_jax.data import DataError, open_dataset
from stii_jax.data.pipeline.source import allow_open_files


def take(batches, count):
    return list(itertools.islice(batches, count))


def assert_same(first, second):
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])


def join(parts):
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def test_the_same_seed_gives_the_same_batches(tiny):
    first, again = take(tiny.train_batches(4, 8, 3), 3), take(tiny.train_batches(4, 8, 3), 3)
    for one, two in zip(first, again):
        assert_same(one, two)
    other = next(tiny.train_batches(4, 8, 4))
    assert not np.array_equal(first[0]["video"], other["video"])


@pytest.mark.parametrize("start_step", [1, 7])
def test_resuming_goes_on_with_the_same_batches(tiny, start_step):
    # 7 steps of 8 exceed the 40 videos, so they reach into the second epoch.
    whole = take(tiny.train_batches(4, 8, 0), start_step + 2)
    resumed = take(tiny.train_batches(4, 8, 0, start_step=start_step), 2)
    for one, two in zip(whole[start_step:], resumed):
        assert_same(one, two)


def test_recoloured_clips_are_the_same_clips_in_one_of_48_ways(tiny):
    plain, recoloured = (take(tiny.train_batches(4, 8, 3, recolored=on), 12) for on in (False, True))
    ways = [(order, flips) for order in itertools.permutations(range(3)) for flips in np.ndindex(2, 2, 2)]
    seen = set()
    for one, other in zip(plain, recoloured):
        assert_same({**one, "video": 0}, {**other, "video": 0})
        for before, after in zip(one["video"], other["video"]):
            flipped = {way: np.where(way[1], 255 - before[..., way[0]], before[..., way[0]]) for way in ways}
            fits = [way for way, video in flipped.items() if np.array_equal(video, after)]
            assert fits
            seen.add(fits[0])
    assert len(seen) > 30


def test_recolouring_depends_on_seed_and_step_alone(tiny):
    whole = take(tiny.train_batches(4, 8, 0, recolored=True), 4)
    assert_same(whole[3], next(tiny.train_batches(4, 8, 0, start_step=3, recolored=True)))
    parts = [next(tiny.train_batches(4, 8, 0, recolored=True, process_index=i, process_count=2)) for i in range(2)]
    assert_same(join(parts), whole[0])


@pytest.mark.parametrize("process_count", [2, 4])
def test_processes_share_the_same_batch(tiny, process_count):
    parts = [
        take(tiny.train_batches(4, 8, 0, process_index=index, process_count=process_count), 3)
        for index in range(process_count)
    ]
    for step, whole in enumerate(take(tiny.train_batches(4, 8, 0), 3)):
        assert_same(join([part[step] for part in parts]), whole)
    parts = [
        list(tiny.eval_batches("test", 5, 8, process_index=index, process_count=process_count))
        for index in range(process_count)
    ]
    for step, whole in enumerate(tiny.eval_batches("test", 5, 8)):
        assert_same(join([part[step] for part in parts]), whole)


@pytest.mark.parametrize("read", ["train_batches", "eval_batches"])
def test_a_damaged_video_names_its_file(tmp_path, read):
    """An exception in a reader thread reaches the loop as a data error."""
    few = {"num_frames": 12, "num_train": 16, "num_validation": 1, "num_test": 1}
    source = open_dataset("bouncing_balls", "mini", few, str(tmp_path))
    shard = next(Path(source.builder.data_path).glob("*-train.*"))
    data = bytearray(shard.read_bytes())
    data[2_000] ^= 1  # in one of the videos
    shard.write_bytes(data)
    batches = source.train_batches(4, 8, 0) if read == "train_batches" else source.eval_batches("train", 4, 8)
    with pytest.raises(DataError, match=rf"{shard} is damaged: video \d+ of train: .*hash mismatch.*--overwrite"):
        take(batches, 2)  # a whole epoch


def test_a_pass_shows_every_video_once_in_changing_order(tiny):
    # Whole videos, so that each clip is its video.
    batches = take(tiny.train_batches(12, 8, 0), 10)
    passes = [[clip.tobytes() for batch in part for clip in batch["video"]] for part in (batches[:5], batches[5:])]
    assert len(set(passes[0])) == 40
    assert set(passes[0]) == set(passes[1]) and passes[0] != passes[1]


def test_clips_start_anywhere_in_a_video(tiny):
    videos = next(tiny.eval_batches("train", 12, 40))["video"]
    starts = set()
    for batch in take(tiny.train_batches(10, 8, 0), 5):
        for clip in batch["video"]:
            found = [
                start for start in range(3) if any(np.array_equal(video[start : start + 10], clip) for video in videos)
            ]
            assert found
            starts.update(found)
    assert starts == {0, 1, 2}


def test_evaluation_is_the_first_videos_in_order(tiny):
    whole = join(list(tiny.eval_batches("test", 12, 5)))
    assert whole["valid"].all() and len(whole["video"]) == 10
    some = list(tiny.eval_batches("test", 6, 4, 7))
    assert [batch["valid"].sum() for batch in some] == [4, 3]
    padded = join(some)
    np.testing.assert_array_equal(padded["video"][:7], whole["video"][:7, :6])
    assert not padded["video"][7].any() and not padded["segmentation"][7].any()


def test_a_batch_larger_than_the_split(tiny):
    (batch,) = tiny.eval_batches("validation", 3, 16)
    assert batch["valid"].sum() == 8 and batch["video"].shape == (16, 3, 32, 32, 3)
    assert next(tiny.train_batches(3, 64, 0))["video"].shape[0] == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(num_frames=13), "num_frames=13: .* have 12 frames"),
        (dict(num_frames=0), "num_frames=0"),
        (dict(batch_size=0), "batch_size=0 over 1 processes"),
        (dict(batch_size=6, process_count=4), "batch_size=6 over 4 processes: give a positive multiple of 4"),
        (dict(process_index=2, process_count=2), "process_index=2 of 2"),
        (dict(split="trian"), "split 'trian'; did you mean 'train'"),
        (dict(seed=-1), "seed=-1"),
    ],
)
def test_requests_that_cannot_be_met(tiny, arguments, message):
    with pytest.raises(DataError, match=message):
        tiny.train_batches(**{"num_frames": 4, "batch_size": 8, "seed": 0} | arguments)


@pytest.mark.parametrize("num_videos", [11, -1])
def test_more_videos_than_there_are(tiny, num_videos):
    with pytest.raises(DataError, match=f"num_videos={num_videos}: split 'test' has 10 videos"):
        tiny.eval_batches("test", 4, 8, num_videos)


def test_files_that_a_process_may_open(monkeypatch):
    limits = [1024, 4096]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: limits.__setitem__(slice(None), both))
    allow_open_files(100)
    assert limits == [1024, 4096]
    allow_open_files(200)
    assert limits == [4 * 200 + 512, 4096]
    allow_open_files(1024)
    assert limits == [4096, 4096]
    with pytest.raises(DataError, match=r"the dataset has 5000 files .* may open 4096 in all: raise the limit"):
        allow_open_files(5000)
    limits[:] = resource.RLIM_INFINITY, resource.RLIM_INFINITY
    allow_open_files(5000)
    assert limits == [resource.RLIM_INFINITY] * 2


def test_reading_asks_for_open_files(tiny, monkeypatch):
    asked = []
    monkeypatch.setattr("stii_jax.data.pipeline.source.allow_open_files", asked.append)
    tiny.train_batches(4, 8, 0)
    tiny.eval_batches("test", 4, 8)
    assert asked == [1, 1]
