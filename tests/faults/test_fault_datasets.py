"""Datasets with killed builds, full disks or damaged files: an incomplete dataset never passes as complete."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from breaking import TRIALS, cut_short, fill, flip_bit, small_disk
from sample_recordings import balls, colored, write_video

from stii_jax.data import DataError, VideoDataset, open_dataset
from stii_jax.data.video_folder import VideoFolder

pytestmark = pytest.mark.faults
ROOT = Path(__file__).resolve().parents[2]
SMALL = {"num_frames": 20, "num_train": 300, "num_validation": 8, "num_test": 8}
NUM_VIDEOS = 24


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """A folder of videos, one of them damaged."""
    folder = tmp_path_factory.mktemp("videos")
    for number, labels in enumerate(balls(NUM_VIDEOS, 40)):
        write_video(folder / f"balls_{number:02}.mp4", np.kron(colored(labels), np.ones((1, 4, 4, 1), np.uint8)))
    (folder / "damaged.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(params=["bouncing_balls", "video_folder"])
def dataset(request, videos) -> tuple[str, str, dict]:
    """Return name, variant and options."""
    if request.param == "bouncing_balls":
        return "bouncing_balls", "mini", SMALL
    return "video_folder", "default", {"folder": str(videos), "image_size": 64, "num_frames": 8}


def start_build(dataset: tuple[str, str, dict], data_dir: Path, word: str = "Building") -> subprocess.Popen:
    """Start a build in another process, and wait until it reports its start."""
    name, variant, options = dataset
    command = [sys.executable, "-m", "stii_jax.data.build", "--dataset", name, "--variant", variant]
    command += ["--options", json.dumps(options), "--data_dir", str(data_dir)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert child.stdout is not None
    assert child.stdout.readline().startswith(word)
    return child


def kill(child: subprocess.Popen) -> None:
    child.send_signal(signal.SIGKILL)
    child.communicate()


def contents(source: VideoDataset) -> dict[str, np.ndarray]:
    """Return every video of every split, decoded."""
    whole = {}
    for split in source.splits:
        (batch,) = source.eval_batches(split, source.frames_of(split), source.split_sizes[split])
        whole |= {f"{split}/{key}": value for key, value in batch.items()}
    return whole


def assert_whole(source: VideoDataset, expected: dict[str, np.ndarray]) -> None:
    found = contents(source)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)
    folder = Path(source.builder.data_path)
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, "build.lock"}, "something is left behind"


def test_a_build_that_is_killed_is_made_up_for(dataset, tmp_path, monkeypatch):
    name, variant, options = dataset
    began = time.monotonic()
    source = open_dataset(name, variant, options, str(tmp_path / "undisturbed"))
    seconds = time.monotonic() - began
    expected = contents(source)
    outcomes: Counter[str] = Counter()
    reads: list[str] = []
    read = VideoFolder.read
    monkeypatch.setattr(VideoFolder, "read", lambda self, split, entry: reads.append(entry) or read(self, split, entry))
    for trial in range(TRIALS):
        data_dir = tmp_path / str(trial)
        child = start_build(dataset, data_dir)
        time.sleep(random.Random(trial).uniform(0, 0.8 * seconds) if trial else 0)
        kill(child)
        outcomes["built before the kill" if list(data_dir.glob("*/*/*.*.*/dataset_info.json")) else "half built"] += 1
        kept = len(list(data_dir.glob("*/*/partial.*/*/*.clips")))
        reads.clear()
        source = open_dataset(name, variant, options, str(data_dir))
        assert_whole(source, expected)
        if name == "video_folder" and reads:
            assert len(reads) == NUM_VIDEOS + 1 - kept, "what was kept is not used"
            outcomes["videos kept"] += kept
        shutil.rmtree(data_dir)
    print(f"{name}: {TRIALS} kills, {dict(outcomes)}")
    assert outcomes["half built"]


def test_a_build_takes_over_from_one_that_is_killed(dataset, tmp_path):
    name, variant, options = dataset
    expected = contents(open_dataset(name, variant, options, str(tmp_path / "undisturbed")))
    taken_over = 0
    for trial in range(TRIALS):
        data_dir = tmp_path / str(trial)
        first = start_build(dataset, data_dir)
        first.send_signal(signal.SIGSTOP)  # up to the point where the other process waits for it
        second = start_build(dataset, data_dir, "Waiting")
        first.send_signal(signal.SIGCONT)
        time.sleep(random.Random(trial).uniform(0, 0.1) if trial else 0)
        kill(first)
        taken_over += first.returncode == -signal.SIGKILL
        out, _ = second.communicate(timeout=120)
        assert second.returncode == 0, out
        assert_whole(open_dataset(name, variant, options, str(data_dir)), expected)
    print(f"{name}: {TRIALS} kills, {taken_over} of them in time")
    assert taken_over


def test_a_kill_while_an_old_dataset_is_removed(tmp_path, monkeypatch):
    """Afterwards there is the old dataset, the new one or none, but never a partly removed one."""
    arguments = ("bouncing_balls", "mini", SMALL | {"num_train": 50}, str(tmp_path))
    source = open_dataset(*arguments)
    expected, folder = contents(source), Path(source.builder.data_path)
    doomed = folder.rename(folder.with_name(f"incomplete.{folder.name}"))
    next(doomed.glob("*train*")).unlink()
    assert_whole(open_dataset(*arguments), expected)
    for left in (f"partial.{folder.name}", "incomplete.downloads"):  # killed between the last two steps
        folder.with_name(left).mkdir()
        assert_whole(open_dataset(*arguments), expected)


def test_a_full_disk_leaves_no_dataset(dataset, tmp_path):
    name, variant, options = dataset
    source = open_dataset(name, variant, options, str(tmp_path / "undisturbed"))
    expected = contents(source)
    size = sum(path.stat().st_blocks * 512 for path in Path(source.builder.data_path).iterdir())
    with small_disk(tmp_path / "disk", megabytes=64) as disk:
        for trial in range(TRIALS):
            ballast = fill(disk, left=random.Random(trial).randrange(size))
            way_out = rf"(write the dataset to {disk}|to the data folder {disk}).*No.* space.*(data_dir|STII_DATA_DIR)"
            with pytest.raises((OSError, DataError), match=way_out):
                open_dataset(name, variant, options, str(disk))
            assert not list(disk.glob("*/*/*.*.*/dataset_info.json"))
            ballast.unlink()
            assert_whole(open_dataset(name, variant, options, str(disk)), expected)  # the same command
            shutil.rmtree(disk / name)
    print(f"{name}: {TRIALS} full disks, with up to all of the {size / 1e6:.1f} MB that are needed")


@pytest.mark.parametrize("damage", [flip_bit, cut_short])
def test_damage_to_any_file_is_noticed_or_harmless(dataset, tmp_path, damage):
    name, variant, options = dataset
    if name == "bouncing_balls":
        options = options | {"num_train": 60}
    source = open_dataset(name, variant, options, str(tmp_path))
    expected, folder = contents(source), Path(source.builder.data_path)
    outcomes: Counter[str] = Counter()
    files = sorted(folder.iterdir())
    for path in files:
        whole = path.read_bytes()
        for trial in range(2 * TRIALS):
            damage(path, random.Random(f"{path.name} {trial}"))
            try:
                assert_whole(open_dataset(name, variant, options, str(tmp_path)), expected)
                outcomes["harmless"] += 1
            except DataError as error:
                assert str(folder) in str(error) and "--overwrite" in str(error) and "\n" not in str(error)
                outcomes["noticed"] += 1
            path.write_bytes(whole)
    print(f"{name}, {damage.__name__}: {len(files)} files, {dict(outcomes)}")
    assert outcomes["noticed"] > TRIALS


def test_damage_to_kept_parts_of_a_build(videos, tmp_path, monkeypatch):
    """The damaged part is read again."""
    options = {"folder": str(videos), "image_size": 64, "num_frames": 8}
    monkeypatch.setattr("shutil.rmtree", lambda path, **more: None)
    source = open_dataset("video_folder", "default", options, str(tmp_path))
    monkeypatch.undo()
    expected, folder = contents(source), Path(source.builder.data_path)
    kept = sorted(source.builder.partial_dir.glob("*/*.clips"))
    assert len(kept) == NUM_VIDEOS
    partial = shutil.copytree(source.builder.partial_dir, tmp_path / "partial")
    rng = random.Random(0)
    for trial in range(TRIALS):
        shutil.rmtree(folder.parent)
        shutil.copytree(partial, source.builder.partial_dir)
        for path in kept:
            (cut_short if trial % 3 == 2 else flip_bit)(path, rng)
        assert_whole(open_dataset("video_folder", "default", options, str(tmp_path)), expected)
    print(f"video_folder: {TRIALS * NUM_VIDEOS} kept files damaged")


def test_the_clock_does_not_matter(tmp_path, monkeypatch):
    """No part of a built dataset depends on the clock."""
    expected = contents(open_dataset("bouncing_balls", "mini", SMALL, str(tmp_path / "now")))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86_400 * random.random())
    assert_whole(open_dataset("bouncing_balls", "mini", SMALL, str(tmp_path / "then")), expected)
