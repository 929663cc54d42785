"""A folder of videos: the files that are read, their splits and clips, and the handling of bad files."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sample_recordings import balls, colored, make_video_folder, write_raw, write_video

from stii_jax.data.errors import DataError
from stii_jax.data.pipeline.prepare import build_if_missing
from stii_jax.data.pipeline.source import VideoDataset
from stii_jax.data.video.folder import Recording, find_recordings, split_recordings
from stii_jax.data.video_folder import VideoFolder


def configure(folder: Path | str, **options):
    options = {"image_size": 32, "num_frames": 4, "validation_fraction": 0.0} | options
    return VideoFolder.BUILDER_CONFIGS[0].with_options({"folder": str(folder), **options})


def build(folder: Path, **options) -> VideoDataset:
    return VideoDataset(build_if_missing(VideoFolder, configure(folder, **options), folder.parent / "built", folder))


def whole(source: VideoDataset, split: str = "train") -> dict[str, np.ndarray]:
    """Return all clips of a split."""
    (batch,) = source.eval_batches(split, source.num_frames, source.split_sizes[split])
    return batch


def noise(num_frames: int, height: int = 32, width: int = 48, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num_frames, height, width, 3), np.uint8)


def write_images(folder: Path, frames: np.ndarray, name: str = "{}.png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / name.format(number))


def named(*names: str) -> list[Recording]:
    return [Recording(name, (), ()) for name in names]


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "videos").mkdir()
    return tmp_path / "videos"


def test_clips_follow_one_another(folder):
    frames = noise(11)
    write_raw(folder / "a.avi", frames)
    clips = whole(build(folder))
    assert set(clips) == {"video", "valid"}
    np.testing.assert_array_equal(clips["video"], frames[:8, :, 8:40].reshape(2, 4, 32, 32, 3))


def test_view_options(folder):
    frames = noise(4)
    write_raw(folder / "a.avi", frames)
    (right,) = whole(build(folder, crop=(16, 0, 0, 0)))["video"]
    np.testing.assert_array_equal(right, frames[:, :, 16:])
    (squeezed,) = whole(build(folder, square=False))["video"]
    np.testing.assert_array_equal(squeezed[0], Image.fromarray(frames[0]).resize((32, 32), Image.Resampling.BILINEAR))
    (gray,) = whole(build(folder, gray=True))["video"]
    np.testing.assert_array_equal(gray[0, ..., 1], Image.fromarray(frames[0, :, 8:40]).convert("L"))


def test_every_third_frame(folder):
    frames = noise(24)
    write_raw(folder / "a.avi", frames)
    clips = whole(build(folder, frame_stride=3))["video"]
    np.testing.assert_array_equal(clips, frames[::3, :, 8:40].reshape(2, 4, 32, 32, 3))
    np.testing.assert_array_equal(whole(build(folder, frame_stride=3, max_clips_per_video=1))["video"], clips[:1])


def test_files_that_are_videos(folder):
    for name in ("a10.avi", "a2.AVI", "sub/deeper/c.mkv", ".hidden.avi", "._a2.avi", ".cache/d.avi", "e.avi/f.avi"):
        path = write_raw(folder / Path(name).with_suffix(Path(name).suffix.lower()), noise(2))
        path.rename(folder / name)
    for name in ("notes.txt", "a2.json", "alone.png"):
        (folder / name).write_text("")
    (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
    write_images(folder / "frames", noise(11), "x{}.PNG")
    write_images(folder / "frames_masks", noise(2)[..., 0])
    (folder / "frames" / "readme.txt").write_text("")
    found = find_recordings(folder)
    assert [recording.name for recording in found] == ["a2.AVI", "a10.avi", "e.avi/f.avi", "frames", "sub/deeper/c.mkv"]
    assert [path.name for path in found[3].frames] == [f"x{number}.PNG" for number in range(11)]


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp"])
def test_folders_of_images(folder, suffix):
    frames = noise(12)
    write_images(folder / "walk", frames, "{}." + suffix)
    clips = whole(build(folder, num_frames=12))["video"]
    exact = 0 if suffix != "webp" else 255
    assert np.abs(clips[0].astype(int) - frames[:, :, 8:40]).max() <= exact


def test_the_folder_itself_may_be_the_images(folder):
    write_images(folder, noise(4))
    assert build(folder).split_sizes == {"train": 1}
    assert build(folder, validation_fraction=0.5).split_sizes == {"train": 1}


def test_images_of_other_kinds(folder):
    gray = noise(4, 32, 32)[..., 0]
    deep = [Image.fromarray(frame.astype(np.uint16) * 257) for frame in gray]
    (folder / "deep").mkdir()
    for number, image in enumerate(deep):
        image.save(folder / "deep" / f"{number}.png")
    write_images(folder / "gray", gray)
    first, second = whole(build(folder))["video"]
    np.testing.assert_array_equal(first, gray[..., None].repeat(3, axis=-1))
    np.testing.assert_array_equal(first, second)


def test_splits_by_name_stay_as_they_are():
    names = [f"video_{number}.mp4" for number in range(200)]
    before, after = split_recordings(named(*names[:100]), 0.2), split_recordings(named(*names), 0.2)
    assert 10 <= len(before["validation"]) <= 30
    assert {one.name for one in before["validation"]} == {one.name for one in after["validation"]} & set(names[:100])
    assert len(after["train"]) + len(after["validation"]) == 200


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
def test_no_split_is_empty(fraction):
    for count in range(2, 6):
        splits = split_recordings(named(*map(str, range(count))), fraction)
        assert splits["train"] and splits["validation"]
    assert split_recordings(named("a"), fraction) == {"train": named("a"), "validation": named("a"), "test": []}
    assert split_recordings(named("a"), 0.0) == {"train": named("a"), "validation": [], "test": []}
    assert not split_recordings(named("a", "b"), 0.0)["validation"]
    assert not any(split_recordings([], fraction).values())


@pytest.mark.parametrize(
    ("num_frames", "options", "sizes"),
    [
        (4 * 10, {"validation_fraction": 0.25}, (8, 2)),
        (4 * 10 + 3, {"validation_fraction": 0.01}, (9, 1)),
        (4 * 10, {"validation_fraction": 0.99}, (1, 9)),
        (4 * 10, {"validation_fraction": 0.5, "max_clips_per_video": 4}, (2, 2)),
        (8 * 4 - 1, {"validation_fraction": 0.25, "frame_stride": 2}, (3, 1)),
        (8, {"validation_fraction": 0.1}, (1, 1)),
        (7, {"validation_fraction": 0.1}, (1,)),
        (8, {"validation_fraction": 0.1, "max_clips_per_video": 1}, (1,)),
        (8, {"validation_fraction": 0.0}, (2,)),
    ],
)
def test_the_end_of_a_single_video_is_for_validation(folder, num_frames, options, sizes):
    frames = noise(num_frames, 32, 32)
    write_raw(folder / "a.avi", frames)
    source = build(folder, **options)
    assert tuple(source.split_sizes.values()) == sizes
    clips = np.concatenate([whole(source, split)["video"] for split in source.splits])
    seen = frames[:: options.get("frame_stride", 1)][: 4 * sum(sizes)]
    np.testing.assert_array_equal(clips.reshape(seen.shape), seen)


def test_splits_by_folder(folder, capsys):
    for number, name in enumerate(["train/a.avi", "train/x/b.avi", "test/c.avi", "d.avi"]):
        write_raw(folder / name, noise(4, seed=number))
    write_images(folder / "validation", noise(5))
    source = build(folder, validation_fraction=0.9)
    assert source.split_sizes == {"train": 2, "validation": 1, "test": 1}
    assert "warning: 1 videos of" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["archive", "only array", "masks folder", "folder"])
def test_masks_beside_a_video(folder, form):
    (labels,) = balls(1, 9)
    write_raw(folder / "a.avi", colored(labels))
    if form == "archive":
        np.savez(folder / "a.npz", other=np.zeros(3), segmentation=labels.astype(np.int32))
    elif form == "only array":
        np.savez_compressed(folder / "a.npz", labels)
    else:
        write_images(folder / ("a_masks" if form == "masks folder" else "a"), labels)
    source = build(folder, image_size=64)
    clips = whole(source)
    assert source.split_sizes == {"train": 2} and source.num_objects == 16
    np.testing.assert_array_equal(clips["segmentation"], labels[:8].reshape(2, 4, 64, 64))
    # Colour k of the palette is label k + 1; frames and masks are in sync.
    assert all(len(np.unique(clips["video"][clips["segmentation"] == label], axis=0)) == 1 for label in range(5))
    half = whole(build(folder, image_size=32))
    np.testing.assert_array_equal(np.unique(half["segmentation"]), range(5))


def test_masks_with_a_palette_beside_a_folder_of_images(folder):
    (labels,) = balls(1, 4)
    write_images(folder / "a", colored(labels))
    (folder / "a_masks").mkdir()
    for number, frame in enumerate(labels):
        image = Image.frombytes("P", (64, 64), frame.tobytes())
        image.putpalette([7 * value % 256 for value in range(768)])
        image.save(folder / "a_masks" / f"mask{number}.png")
    np.testing.assert_array_equal(whole(build(folder, image_size=64))["segmentation"], labels[None])


def test_labels_are_kept_only_if_all_videos_of_a_split_have_them(folder, capsys):
    for number, labels in enumerate(balls(2, 4)):
        write_raw(folder / "train" / f"{number}.avi", colored(labels))
        write_raw(folder / "test" / f"{number}.avi", colored(labels))
        np.savez(folder / "test" / f"{number}.npz", labels)
    np.savez(folder / "train" / "0.npz", labels)
    source = build(folder)
    assert "videos whose masks are ignored because other videos of the split have none: 1" in capsys.readouterr().out
    assert "segmentation" not in whole(source) and "segmentation" in whole(source, "test")


def save(path: Path, array: np.ndarray, **more: np.ndarray) -> None:
    np.savez(path, array, **more)


LABELS = np.ones((4, 32, 48), np.uint8)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: save(path, LABELS[:3]), "the masks end after 3: there must be as many masks as frames"),
        (lambda path: save(path, LABELS.repeat(2, axis=0)), "the frames end after 4"),
        (lambda path: save(path, LABELS[:, :16]), "masks of 48x16 pixels, frames of 48x32"),
        (lambda path: save(path, LABELS * 17), r"label 17 in the masks: give 0 \(background\) to 16, .* max_objects"),
        (lambda path: save(path, LABELS.astype(np.int64) - 2), "label -1 in the masks"),
        (lambda path: save(path, LABELS.astype(np.int64) * 257), "label 257 in the masks"),
        (lambda path: save(path, LABELS.astype(np.float32)), "holds float32"),
        (lambda path: save(path, LABELS[0]), r"of shape \(32, 48\)"),
        (lambda path: save(path, LABELS, more=LABELS), "holds arrays more, arr_0: give one"),
        (lambda path: np.savez(path), r"of shape \(0,\)"),
        (lambda path: save(path, np.array([None])), "cannot be read as an npz file"),
        (lambda path: path.write_bytes(b"PK\3\4 nothing"), "cannot be read as an npz file"),
        (lambda path: path.write_bytes(b""), "cannot be read as an npz file"),
        (lambda path: write_images(path.with_name("a_masks"), noise(4)), "is PNG RGB: give masks as PNG, grey"),
        (lambda path: write_images(path.with_name("a_masks"), LABELS, "{}.jpg"), "is JPEG L: give masks as PNG"),
    ],
)
def test_invalid_masks(folder, write, message):
    write_raw(folder / "a.avi", noise(4))
    write(folder / "a.npz")
    with pytest.raises(
        DataError, match=f"none of the 1 files for split 'train' of video_folder is usable: .*{message}"
    ):
        build(folder)


def test_bad_files_among_good_ones(folder, capsys):
    for name in ("a.avi", "b.avi", "sub/c.avi"):
        write_raw(folder / name, noise(4))
    write_raw(folder / "short.avi", noise(3))
    (folder / "page.mp4").write_text("<html>404</html>")
    write_raw(folder / "cut.avi", noise(40))
    os.truncate(folder / "cut.avi", 60_000)
    write_images(folder / "sizes", noise(2))
    write_images(folder / "sizes", noise(2, 10, 10), "x{}.png")
    write_images(folder / "broken", noise(4))
    (folder / "broken" / "2.png").write_bytes((folder / "broken" / "2.png").read_bytes()[:500])
    source = build(folder)
    out = capsys.readouterr().out
    assert source.split_sizes == {"train": 3}
    assert "skipped 5 of 8: broken, cut.avi, page.mp4, short.avi, sizes" in out
    for reason in (
        r"short.avi: too short: it has 3 frames, but a clip takes 4",
        "is a web page, not a video",
        "cut.avi is damaged after ",
        "sizes: frames of 48x32 and of 10x10 pixels",
        "2.png cannot be read as an image",
    ):
        assert reason in out


def test_a_bad_file_is_not_kept_for_validation(folder, capsys):
    files = [write_raw(folder / f"{number}.avi", noise(4, seed=number)) for number in range(4)]
    (chosen,) = configure(folder, validation_fraction=0.01).recordings_of["validation"]
    (folder / chosen.name).write_text("<html>")
    source = build(folder, validation_fraction=0.01)
    assert source.split_sizes == {"train": 2, "validation": 1}
    assert f"skipped 1 of 3: {chosen.name}" in capsys.readouterr().out
    for path in files[1:]:
        path.write_text("<html>")
    (folder / "0.avi").unlink()
    write_raw(folder / "0.avi", noise(4))
    assert build(folder, validation_fraction=0.02).split_sizes == {"train": 1}  # of the one good file


def test_names_in_another_encoding(folder, capsys):
    write_raw(folder / "a.avi", noise(4)).rename(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.avi"))
    (folder / os.fsdecode(b"pi\xe8ge.avi")).write_text("<html>")
    assert build(folder).split_sizes == {"train": 1}
    assert r"warning: skipped pi\udce8ge.avi: " in capsys.readouterr().out


def test_none_of_use(folder):
    write_raw(folder / "a.avi", noise(9))
    with pytest.raises(DataError, match=r"none of the 1 files .* too short: it has 9 frames, but a clip takes 10"):
        build(folder, frame_stride=3)
    with pytest.raises(DataError, match=r"frames are 48x32 pixels: the view from .* does not fit"):
        build(folder, crop=(48, 0, 0, 0))


def test_no_videos(folder):
    with pytest.raises(DataError, match=f"there are no videos in {folder}: set .*folder .*mp4"):
        build(folder)
    with pytest.raises(DataError, match=f"there is no folder {folder}/nowhere: set --config"):
        build(folder / "nowhere")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folder": ""}, r"set --config\.data\.options\.folder=/my/videos"),
        ({"frame_stride": 0}, "frame_stride=0"),
        ({"crop": (0, 0, 0, -1)}, "crop="),
        ({"validation_fraction": 1.0}, "validation_fraction=1.0"),
        ({"max_clips_per_video": -1}, "max_clips_per_video=-1"),
        ({"max_objects": 256}, "max_objects=256"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(DataError, match=message):
        configure(**{"folder": "/my/videos"} | options)
    with pytest.raises(DataError, match="no folder of videos given"):
        VideoFolder.BUILDER_CONFIGS[0].with_options({})


def test_a_folder_is_the_same_however_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    configs = [configure(name) for name in ("videos", "./videos/", "~/videos", tmp_path / "x" / ".." / "videos")]
    assert {config.name for config in configs} == {configure(tmp_path / "videos").name}
    assert configs[0].folder == str(tmp_path / "videos")


def test_a_folder_that_is_not_there_lacks_no_split(tmp_path):
    assert configure(tmp_path / "nowhere").splits == ("train", "validation", "test")  # the built dataset decides


def test_a_dataset_outlives_its_folder(folder):
    for number in range(3):
        write_raw(folder / f"{number}.avi", noise(4, seed=number))
    before = whole(source := build(folder, validation_fraction=0.1))
    shutil.rmtree(folder)
    assert build(folder, validation_fraction=0.1).split_sizes == source.split_sizes == {"train": 2, "validation": 1}
    np.testing.assert_array_equal(whole(build(folder, validation_fraction=0.1))["video"], before["video"])
    folder.mkdir()
    build(folder, validation_fraction=0.1)


def test_a_changed_folder_is_refused(folder):
    write_raw(folder / "a.avi", noise(4))
    build(folder)
    (folder / "notes.txt").write_text("not a video")
    build(folder)
    np.savez(folder / "a.npz", LABELS)
    with pytest.raises(DataError, match=r"have changed since it was built\. .*--overwrite"):
        build(folder)


def test_a_folder_of_compressed_videos(tmp_path):
    variant, options, manual_dir = make_video_folder(tmp_path)
    assert (variant, manual_dir) == ("default", "")
    source = build(**options | {"folder": Path(options["folder"])})
    assert source.split_sizes.keys() == {"train", "validation"} and sum(source.split_sizes.values()) == 10
    clips = whole(source)
    inside, outside = clips["segmentation"] > 0, clips["segmentation"] == 0
    assert np.abs(clips["video"][outside].astype(int) - 40).mean() < 20
    assert clips["video"][inside].max(-1).mean() > 180


def test_real_videos(samples, folder):
    for path in [*samples.glob("clevrer/video_*/*/*.mp4"), samples / "avi" / "bgs_dataset_demo.avi"]:
        (folder / path.name).symlink_to(path)
    source = build(folder, num_frames=16)
    assert source.split_sizes == {"train": 8 + 8 + 3}
    assert whole(source)["video"].std() > 10


def test_a_long_video_is_not_held_whole(folder):
    """While a video is read, only one clip is kept in memory."""
    write_video(folder / "a.mp4", noise(40))
    builder = VideoFolder(config=configure(folder), data_dir=str(folder.parent))
    reading = builder.read("train", "a.mp4")
    first = next(iter(reading.clips))
    assert first.video.shape == (4, 32, 32, 3) and first.video.base is None
