"""The whole dataset, from files generated here in CLEVRER's format."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from sample_clevrer import (
    OPTIONS,
    SCENES,
    contents,
    draw,
    encode_video,
    make_clevrer,
    make_movie,
    names,
    tree,
    write,
    write_zips,
)

from stii_jax.data import DataError, VideoDataset
from stii_jax.data.clevrer import Clevrer
from stii_jax.data.clevrer.locate import Locator
from stii_jax.data.pipeline.prepare import build_if_missing

DEFAULT, SQUARE = Clevrer.BUILDER_CONFIGS


def build(data_dir: Path, manual_dir: Path, **options) -> VideoDataset:
    config = DEFAULT.with_options(OPTIONS | options)
    return VideoDataset(build_if_missing(Clevrer, config, data_dir, manual_dir), num_threads=2)


def whole(source: VideoDataset, split: str) -> dict[str, np.ndarray]:
    (batch,) = source.eval_batches(split, source.frames_of(split), source.split_sizes[split])
    return batch


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> VideoDataset:
    folder = tmp_path_factory.mktemp("clevrer")
    make_clevrer(folder / "raw")
    return build(folder / "built", folder / "raw")


def only(*numbers: int) -> dict[str, bytes]:
    """Return the files of some of the videos."""
    return {
        name: data for name, data in tree().items() if any(f"{number:05d}" in Path(name).name for number in numbers)
    }


TEST_ONLY = {"train_videos": (0, 0), "validation_videos": (0, 0), "six_objects": False}


def test_splits(source):
    assert source.split_sizes == {"train": 2, "validation": 1, "test": 1, "test6": 1}
    assert [source.frames_of(split) for split in source.splits] == [64, 40, 40, 40]
    assert source.num_objects == 6
    assert "segmentation" not in whole(source, "train")


@pytest.mark.parametrize(("split", "number"), [("validation", 9_500), ("test", 10_000), ("test6", 10_001)])
def test_sequences_begin_when_all_objects_are_in_view(source, split, number):
    movie = make_movie(number, *SCENES[number])
    first = int(movie.visible().all(axis=1).argmax())
    assert first == {9_500: 0, 10_000: 4, 10_001: 2}[number]
    stored = whole(source, split)
    pictures = list(draw(movie))
    view = source.builder.builder_config.view
    for time in range(40):
        numbered = sum(index * mask for index, mask in enumerate(movie.masks(first + time), 1))
        np.testing.assert_array_equal(stored["segmentation"][0, time], view.labels(numbered.astype(np.uint8)))
        away = stored["video"][0, time].astype(int) - view.frame(pictures[first + time])
        assert np.abs(away).mean() < 8, "the frame of this moment"


def test_train_has_whole_videos_of_any_scene(source):
    for stored, number in zip(whole(source, "train")["video"], (0, 1)):
        pictures = list(draw(make_movie(number, *SCENES[number])))
        for time in (0, 63):
            away = stored[time].astype(int) - source.builder.builder_config.view.frame(pictures[time])
            assert np.abs(away).mean() < 8


def test_archives_give_the_same(source, tmp_path):
    write_zips(tmp_path / "raw", tree())
    again = build(tmp_path / "built", tmp_path / "raw")
    for split in source.splits:
        one, two = whole(source, split), whole(again, split)
        assert one.keys() == two.keys()
        assert all(np.array_equal(one[key], two[key]) for key in one)


def test_the_report(tmp_path, capsys):
    make_clevrer(tmp_path / "raw")
    build(tmp_path / "built", tmp_path / "raw", test_videos=(10_000, 15_000))
    out = capsys.readouterr().out
    assert f"clevrer test: 4 of 5000 videos are in {tmp_path / 'raw'}" in out
    assert "clevrer test: 1 clip from 4 files\n" in out
    assert "videos of 6 objects, which are not used for test: 1" in out
    assert "videos of 2 objects, which are not used for test6: 1" in out
    assert "videos with all objects in view for fewer than 40 frames: 1" in out


def edit(change):
    def edited(data):
        content = json.loads(data)
        change(content)
        return json.dumps(content).encode()

    return edited


def short_video(data):
    return encode_video(frame for time, frame in enumerate(draw(make_movie(10_000, 5, 4, 60))) if time < 40)


def small_video(data):
    return encode_video([np.zeros((160, 240, 3), np.uint8)] * 20)


BAD = {
    10_010: ("annotation", lambda data: None, "there is no annotation 10010 .* annotation_validation.zip"),
    10_011: ("proposal", lambda data: None, "there is no proposal 10011 .* derender_proposals.zip"),
    10_012: ("annotation", lambda data: data[:-9], "annotation_10012.json is not a complete JSON file"),
    10_013: ("annotation", edit(lambda top: top.pop("object_property")), "10013.json has no 'object_property'"),
    10_014: ("proposal", edit(lambda top: top["frames"].pop(20)), "proposal_10014.json has no frame 20"),
    10_015: (
        "proposal",
        edit(lambda top: top["frames"][9]["objects"][0]["mask"].update(counts="1")),
        r"frames\[9\].objects\[0\].mask: 'counts': the runs have 1 pixels, not the 153600 of a 480x320 mask",
    ),
    10_016: (
        "proposal",
        edit(lambda top: [frame["objects"].clear() for frame in top["frames"]]),
        "proposal_10016.json: no detection matches an object",
    ),
    10_017: ("video", lambda data: data[: len(data) // 2], "10017.mp4 cannot be read"),
    10_018: ("video", lambda data: b"", "video_10018.mp4 (is empty|cannot be read)"),
    10_019: ("video", short_video, "video_10019.mp4 has 40 frames, not 128"),
    10_020: ("video", small_video, "video_10020.mp4 is 240x160 pixels, not 480x320"),
}
"""Videos with one changed or missing file: its kind, the change, and the expected message."""


@pytest.mark.parametrize("put", [pytest.param(write, marks=pytest.mark.slow), write_zips])
def test_bad_files_are_named_and_the_others_are_kept(tmp_path, capfd, put):
    files = only(10_000)
    for number, (spoilt, change, _) in BAD.items():
        for kind, data in contents(10_000, *SCENES[10_000]).items():
            changed = change(data) if kind == spoilt else data
            if changed is not None:
                files[names(number)[kind]] = changed
    put(tmp_path / "raw", files)
    source = build(tmp_path / "built", tmp_path / "raw", test_videos=(10_000, 10_021), **TEST_ONLY)
    assert source.split_sizes == {"test": 1}
    assert "skipped 11 of 12: video_10010, video_10011" in capfd.readouterr().out
    skipped = source.builder.info.metadata["test"]["skipped"]
    assert list(skipped) == [f"video_{number:05d}" for number in BAD]
    for message, (_, _, expected) in zip(skipped.values(), BAD.values()):
        assert re.search(expected, message)
        assert f"{tmp_path / 'raw'}" in message, "and no temporary file"


def test_training_videos_of_another_length(tmp_path):
    frames = [*draw(make_movie(3, 3)), np.zeros((320, 480, 3), np.uint8)]
    files = {names(2 + extra)["video"]: encode_video(frames[: 127 + extra]) for extra in range(3)}
    write(tmp_path / "raw", files)
    options = {"validation_videos": (0, 0), "test_videos": (0, 0), "train_videos": (0, 10)}
    source = build(tmp_path / "built", tmp_path / "raw", **options)
    assert source.split_sizes == {"train": 1}
    skipped = source.builder.info.metadata["train"]["skipped"]
    assert skipped.keys() == {"video_00002", "video_00004"}
    assert skipped["video_00002"].endswith("video_00002.mp4 has 127 frames, not 128")
    assert skipped["video_00004"].endswith("video_00004.mp4 has 129 frames, not 128")


def test_hundreds_of_bad_files_fill_no_screen(tmp_path, capfd):
    write(tmp_path / "raw", only(10_000))
    folder = (tmp_path / "raw" / names(10_000)["video"]).parent
    for number in range(10_100, 10_400):
        os.link(folder / "video_10000.mp4", folder / f"video_{number}.mp4")
    build(tmp_path / "built", tmp_path / "raw", test_videos=(10_000, 15_000), **TEST_ONLY)
    out = capfd.readouterr().out
    assert out.count("there is no annotation") == 10
    assert "skipped 300 of 301: video_10100, video_10101" in out and "and 290 more" in out
    assert len(out.splitlines()) < 25


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (
            "video_train/video_09000",
            r"no video for split 'validation' \(videos 09500 to 09500\): .*video_train.zip",
        ),
        ("annotation_validation", r"no annotation for split 'test' \(.*\): .* annotation_validation.zip"),
        ("derender_proposals", r"no proposal for split 'validation' .* in derender_proposals.zip"),
    ],
)
def test_a_missing_kind_of_file_is_reported_at_once(tmp_path, monkeypatch, gone, message):
    write(tmp_path / "raw", {name: data for name, data in tree().items() if not name.startswith(gone)})
    monkeypatch.setattr(Clevrer, "read", lambda *_: pytest.fail("no video should be read"))
    with pytest.raises(DataError, match=message + r".*set the option (validation|test)_videos to \(0, 0\)"):
        build(tmp_path / "built", tmp_path / "raw")


def test_a_damaged_archive_is_noticed_at_once(tmp_path, monkeypatch):
    write(tmp_path / "raw", {**tree(), "annotation_validation.zip": b"PK"})
    monkeypatch.setattr(Clevrer, "read", lambda *_: pytest.fail("no video should be read"))
    with pytest.raises(DataError, match=r"annotation_validation.zip is not a complete zip archive"):
        build(tmp_path / "built", tmp_path / "raw")


def test_no_sequences_of_six_objects(tmp_path):
    write(tmp_path / "raw", only(0, 10_000))
    options = {"validation_videos": (0, 0)}
    with pytest.raises(DataError, match=r"'test6' of clevrer is usable.*option six_objects to false"):
        build(tmp_path / "built", tmp_path / "raw", **options)
    assert build(tmp_path / "built", tmp_path / "raw", **options, six_objects=False).splits == ("train", "test")


def test_labels_from_mask_videos(source, tmp_path):
    files = only(10_000)
    del files[names(10_000)["proposal"]]
    files[names(10_000)["mask"]] = encode_video(draw(make_movie(10_000, *SCENES[10_000]), masks=True))
    write(tmp_path / "raw", files)
    options = TEST_ONLY | {"masks": "video"}
    stored = whole(build(tmp_path / "built", tmp_path / "raw", **options), "test")["segmentation"][0]
    truth = whole(source, "test")["segmentation"][0]
    found = {(int(one), int(two)) for one, two in zip(truth[stored > 0], stored[stored > 0])}
    pairs = [pair for pair in found if ((truth == pair[0]) & (stored == pair[1])).sum() > 20]
    assert sorted(one for one, _ in pairs) == sorted(two for _, two in pairs) == [1, 2, 3, 4, 5]
    assert ((truth > 0) == (stored > 0)).mean() > 0.99

    (tmp_path / "raw" / names(10_000)["mask"]).unlink()
    with pytest.raises(DataError, match=r"has no mask for split .test.*mask_validation.zip, or unpacked in mask_valid"):
        build(tmp_path / "again", tmp_path / "raw", **options)


def test_no_masks(tmp_path):
    files = only(10_000)
    del files[names(10_000)["proposal"]]
    write(tmp_path / "raw", files)
    source = build(tmp_path / "built", tmp_path / "raw", **TEST_ONLY, masks="none")
    assert whole(source, "test").keys() == {"video", "valid"}


def test_variants():
    assert (DEFAULT.view.box(320, 480), SQUARE.view.box(320, 480)) == ((40, 0, 440, 320), (80, 0, 400, 320))
    assert DEFAULT.frames_of("train") == 128 and DEFAULT.frames_of("test6") == 40
    assert [len(DEFAULT.numbers(split)) for split in DEFAULT.splits] == [9_500, 500, 5_000, 5_000]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 129}, "num_frames=129, .* give 128 or less"),
        ({"test_frames": 0}, "test_frames=0.*give 1"),
        ({"margin": -1}, "margin=-1.*give 0"),
        ({"margin": 240}, "margin=240.*give less than 240"),
        ({"masks": "proposal"}, "unknown masks of .*did you mean 'proposals'"),
        ({"train_videos": (5, 4)}, r"train_videos=\(5, 4\) .*give \(first, end\) within 0 to 20000"),
        ({"test_videos": (10_000, 16_000)}, r"test_videos=.* within 0 to 15000; later videos have no annotations"),
        ({"train_videos": (0, 9_600)}, "train_videos and validation_videos of .* share the videos 9500 to 9599"),
        ({"train_videos": (0, 0), "validation_videos": (1, 1), "test_videos": (2, 2)}, "are empty: give one"),
    ],
)
def test_options_that_make_no_dataset(options, message):
    with pytest.raises(DataError, match=message):
        DEFAULT.with_options(options)


def test_nothing_is_unpacked_into_the_users_folder(tmp_path):
    write_zips(tmp_path, only(0))
    with Locator(tmp_path).find("video", 0).on_disk() as path:
        assert path.is_file() and not path.is_relative_to(tmp_path / "video_train")
    assert not path.exists()
    assert [file.suffix for file in tmp_path.iterdir()] == [".zip"] * 2
