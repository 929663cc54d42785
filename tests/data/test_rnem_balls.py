"""R-NEM's file: read unchanged, coloured like our own balls, and rejected if it is malformed."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from sample_recordings import balls, make_rnem_balls, write_rnem

from stii_jax.data.bouncing_balls import render
from stii_jax.data.errors import DataError
from stii_jax.data.pipeline.prepare import build_if_missing
from stii_jax.data.pipeline.source import VideoDataset
from stii_jax.data.rnem_balls import GROUPS, RnemBalls

COUNTS = {"train": 5, "validation": 2, "test": 3}


def build(manual_dir: Path, variant: str = "color4", **options) -> VideoDataset:
    config = {config.name: config for config in RnemBalls.BUILDER_CONFIGS}[variant]
    config = config.with_options({"num_frames": 8} | options)
    return VideoDataset(build_if_missing(RnemBalls, config, manual_dir.parent / "built", manual_dir))


def whole(source: VideoDataset, split: str = "train") -> dict[str, np.ndarray]:
    """Return all videos of a split."""
    (batch,) = source.eval_batches(split, source.num_frames, source.split_sizes[split])
    return batch


@pytest.fixture
def manual(tmp_path) -> Path:
    write_rnem(tmp_path / "manual" / "balls4mass64.h5", COUNTS, 8)
    return tmp_path / "manual"


@pytest.fixture
def changed(manual):
    """Change the file: the function maps an array of the given name to its replacement."""

    def change(name, function):
        with h5py.File(manual / "balls4mass64.h5", "a") as file:
            old = file[name][...] if isinstance(file[name], h5py.Dataset) else None
            del file[name]
            if (new := function(old)) is not None:
                file[name] = new
        return manual

    return change


@pytest.mark.parametrize("split", GROUPS)
def test_colours_are_those_of_the_balls(manual, split):
    source = build(manual)
    assert source.split_sizes == COUNTS and source.num_objects == 4
    labels = balls(COUNTS[split], 8, seed=list(GROUPS).index(split))
    clips = whole(source, split)
    np.testing.assert_array_equal(clips["segmentation"], labels)
    table = np.concatenate([np.zeros((1, 3), np.uint8), render.PALETTES["paper"]])
    np.testing.assert_array_equal(clips["video"], table[labels])


def test_white_balls_are_the_files_own_pictures(changed):
    labels = balls(5, 8)
    np.testing.assert_array_equal(
        whole(build(changed("training/collisions", lambda old: None), "binary4"))["video"],
        (labels[..., None] > 0).repeat(3, axis=-1) * np.uint8(255),
    )


@pytest.mark.parametrize(("variant", "num_colors"), [("color678_4colors", 4), ("color678_8colors", 8)])
def test_more_balls_share_or_have_colours(tmp_path, variant, num_colors):
    write_rnem(tmp_path / "manual" / "balls678mass64.h5", {split: 2 for split in GROUPS}, 8, num_balls=7)
    source = build(tmp_path / "manual", variant)
    clips = whole(source)
    assert source.num_objects == 8 and clips["segmentation"].max() == 7
    for label in range(1, 8):
        colors = clips["video"][clips["segmentation"] == label]
        assert (colors == render.PALETTES["paper"][(label - 1) % num_colors]).all()


@pytest.mark.parametrize(
    ("features", "groups"),
    [
        (lambda x: x.astype(np.float32), lambda x: x.astype(np.float32)),
        (lambda x: x.astype(np.uint8), lambda x: x.astype(np.int64)),
        (lambda x: x * np.uint8(255), lambda x: x.astype(np.float64)),
        (lambda x: x * np.float32(255), lambda x: x),
    ],
)
def test_types_of_other_writers(changed, features, groups):
    changed("training/features", features)
    clips = whole(build(changed("training/groups", groups), "binary4"))
    np.testing.assert_array_equal(clips["segmentation"], balls(5, 8))
    np.testing.assert_array_equal(clips["video"][..., 0], (balls(5, 8) > 0) * 255)


def test_fewer_videos_and_frames(manual):
    source = build(manual, max_videos=2, num_frames=3)
    assert source.split_sizes == dict.fromkeys(GROUPS, 2)
    np.testing.assert_array_equal(whole(source)["segmentation"], balls(5, 8)[:2, :3])


@pytest.mark.parametrize("chunk", [None, 1, 7, 48, 100])
def test_many_videos_come_in_blocks(tmp_path, chunk):
    write_rnem(tmp_path / "manual" / "balls4mass64.h5", {split: 1 for split in GROUPS}, 2)
    labels = balls(150, 2, seed=9).swapaxes(0, 1)[..., None]
    with h5py.File(tmp_path / "manual" / "balls4mass64.h5", "a") as file:
        for name, values in (("features", labels > 0), ("groups", labels)):
            del file[f"training/{name}"]
            chunks = (2, chunk, 64, 64, 1) if chunk else None
            file.create_dataset(f"training/{name}", data=values, chunks=chunks)
    np.testing.assert_array_equal(
        whole(build(tmp_path / "manual", num_frames=2))["segmentation"], labels[..., 0].swapaxes(0, 1)
    )


def reshaped(time_first: np.ndarray) -> np.ndarray:
    """A known generator's mistake: an (N, T, ...) array is read as (T, N, ...)."""
    return np.swapaxes(time_first, 0, 1).reshape(time_first.shape)


def shuffled(time_first: np.ndarray) -> np.ndarray:
    """Shuffle the frames of every video independently."""
    rng = np.random.default_rng(0)
    return np.stack([video[rng.permutation(len(video))] for video in time_first.swapaxes(0, 1)], axis=1)


DEFECTS = {"reshaped": reshaped, "videos first": lambda x: x.swapaxes(0, 1), "shuffled": shuffled}


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("num_videos", [9, 40, 120])
def test_files_whose_first_axis_is_not_time(tmp_path, defect, num_videos):
    path = write_rnem(tmp_path / "manual" / "balls4mass64.h5", {split: 1 for split in GROUPS}, 40)
    wrong = DEFECTS[defect](balls(num_videos, 40).swapaxes(0, 1)[..., None])
    with h5py.File(path, "a") as file:
        del file["test"]
        file["test/features"], file["test/groups"] = wrong > 0, wrong
    with pytest.raises(
        DataError, match=r"'test', does not hold videos with time as the first axis: .*transpose\(1, 0, 2, 3, 4\)"
    ):
        build(tmp_path / "manual")


def test_the_advice_of_the_error_mends_the_file():
    labels = balls(9, 12).swapaxes(0, 1)[..., None]
    wrong = reshaped(labels)
    np.testing.assert_array_equal(wrong.reshape(9, 12, 64, 64, 1).transpose(1, 0, 2, 3, 4), labels)


@pytest.mark.parametrize("kind", ["one video", "copies", "one frame", "standing still", "fast"])
def test_no_false_alarm(tmp_path, kind):
    path = write_rnem(tmp_path / "manual" / "balls4mass64.h5", {split: 1 for split in GROUPS}, 8)
    labels = balls(6, 40, seed=3).swapaxes(0, 1)[..., None]
    labels = {
        "one video": labels[:8, :1],
        "copies": labels[:8, [0, 0, 0, 1, 1, 1]],
        "one frame": labels[:1],
        "standing still": labels[[0] * 8],
        "fast": labels[::5],  # 3 to 6 pixels per frame
    }[kind]
    with h5py.File(path, "a") as file:
        for group in GROUPS.values():
            del file[group]
            file[f"{group}/features"], file[f"{group}/groups"] = labels > 0, labels
    build(tmp_path / "manual", num_frames=len(labels))


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("test", lambda old: None, "'test', has no dataset 'features'; it has: no such group"),
        ("validation/groups", lambda old: None, "'validation', has no dataset 'groups'; it has: collisions, features"),
        ("test/features", lambda old: old[..., 0], r"has 'features' of shape \(8, 3, 64, 64\): it should be frames"),
        ("test/groups", lambda old: old[:, :2], r"features of shape \(8, 3, .*, but groups of shape \(8, 2,"),
        ("test/groups", lambda old: old + np.uint8(1), "groups from 1 to 5: option max_objects is 4"),
        ("training/groups", lambda old: old - np.float32(1), "groups from -1.0 to 3.0"),
        ("training/groups", lambda old: old * np.float32(0.5), "groups that are not whole numbers"),
        ("training/groups", lambda old: np.where(old == 4, np.nan, old), "groups from nan"),
        (
            "training/features",
            lambda old: old * np.float32(300),
            "features from 0.0 to 300.0: give 0 to 1, or 0 to 255",
        ),
        ("training/features", lambda old: -old.astype(np.float32), "features from -1.0"),
    ],
)
def test_invalid_files(changed, name, function, message):
    manual = changed(name, function)
    with pytest.raises(DataError, match=rf"balls4mass64\.h5, group .*{message}"):
        build(manual, "binary4")


def test_no_videos(changed):
    changed("test/features", lambda old: old[:, :0])
    with pytest.raises(DataError, match=r"group 'test', has no videos: shape \(8, 0, 64, 64, 1\)"):
        build(changed("test/groups", lambda old: old[:, :0]))


def test_options_that_the_file_does_not_have(manual):
    with pytest.raises(DataError, match="has videos of 64x64 pixels: give option image_size=64"):
        build(manual, image_size=32)
    with pytest.raises(DataError, match="has videos of 8 frames: give option num_frames=8 or less"):
        build(manual, num_frames=9)
    for options in ({"num_colors": 9}, {"max_videos": -1}, {"max_objects": 0}, {"max_objects": 256}):
        with pytest.raises(DataError, match=f"{next(iter(options))}=.*: give"):
            build(manual, **options)


def test_files_that_are_not_hdf5(manual):
    path = manual / "balls4mass64.h5"
    with pytest.raises(DataError, match=rf"there is no file {manual}/balls678mass64\.h5; .* there: balls4mass64\.h5"):
        build(manual, "binary678")
    assert build(manual, "color678_4colors", file="balls4mass64.h5").split_sizes == COUNTS
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DataError, match=rf"{path} cannot be read as HDF5: .*truncated.* another format"):
        build(manual)
    path.write_text("<html>")
    with pytest.raises(DataError, match=rf"{path} cannot be read as HDF5"):
        build(manual)


def test_the_sample_is_a_dataset(tmp_path):
    variant, options, manual_dir = make_rnem_balls(tmp_path / "manual")
    assert build(Path(manual_dir), variant, **options).split_sizes == {"train": 6, "validation": 3, "test": 4}


@pytest.mark.parametrize("variant", ["binary4", "color4"])
def test_the_authors_own_pixels(samples, tmp_path, variant):
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual" / "balls4mass64.h5").symlink_to(samples / "rnem" / "balls4mass64_gif.h5")
    source = build(tmp_path / "manual", variant, num_frames=51)
    assert source.split_sizes == {"train": 18, "validation": 9, "test": 9}
    clips = whole(source)
    assert clips["segmentation"].max() == 4
    np.testing.assert_array_equal(clips["video"].any(-1), clips["segmentation"] > 0)
    if variant == "color4":
        assert (clips["video"][clips["segmentation"] == 2] == (180, 120, 31)).all()


@pytest.mark.parametrize("num_videos", [2, 3, 9, 18])
def test_the_authors_pixels_reshaped_are_refused(samples, tmp_path, num_videos):
    with h5py.File(samples / "rnem" / "balls4mass64_gif.h5") as file:
        tensors = {name: file[f"training/{name}"][:, :num_videos] for name in ("features", "groups")}
    (tmp_path / "manual").mkdir()
    with h5py.File(tmp_path / "manual" / "balls4mass64.h5", "w") as file:
        for group in GROUPS.values():
            for name, tensor in tensors.items():
                file[f"{group}/{name}"] = reshaped(tensor)
    with pytest.raises(DataError, match="does not hold videos with time as the first axis"):
        build(tmp_path / "manual", num_frames=51)
