"""Datasets of many files: bad files are named and counted, and a killed build resumes."""

import dataclasses
import re
import threading
import time
from typing import ClassVar

import numpy as np
import pytest

from stii_jax.data.errors import DataError
from stii_jax.data.options import VideoConfig
from stii_jax.data.pipeline import tfds
from stii_jax.data.pipeline.files import FilesBuilder, Reading
from stii_jax.data.pipeline.prepare import build_if_missing
from stii_jax.data.pipeline.stored import Clip


@dataclasses.dataclass(eq=False, kw_only=True)
class _Config(VideoConfig):
    files: tuple[str, ...] = ()
    splits: ClassVar[tuple[str, ...]] = ("train",)  # type: ignore[misc]
    max_objects: ClassVar[int] = 9  # type: ignore[misc]


class ManyFiles(FilesBuilder):
    """A dataset whose files are mere names: "good3" gives three clips, "bad" none, "late" a clip and then an error."""

    VERSION = tfds.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[VideoConfig]] = [_Config(name="default", image_size=4, num_frames=2)]
    reads: ClassVar[list[str]] = []
    stamp: ClassVar[str] = "a"
    break_at: ClassVar[str] = ""

    def fingerprint(self) -> str:
        return self.stamp

    def entries(self, split):
        return self.builder_config.files

    def extra_features(self):
        return {"number": tfds.Scalar(np.int64)}

    def read(self, split, entry):
        if entry == self.break_at:
            raise KeyboardInterrupt
        self.reads.append(entry)
        if entry.startswith("bad"):
            raise DataError("it is no good")
        time.sleep(0.02 * entry.startswith("slow"))
        return Reading(self._clips(entry), {"letters": len(entry)})

    def _clips(self, entry):
        rng = np.random.default_rng(list(entry.encode()))
        for number in range(int(entry[-1]) if entry[-1].isdigit() else 1):
            labels = rng.integers(0, 9, (2, 4, 4), np.uint8) if number % 2 else None
            yield Clip(rng.integers(0, 256, (2, 4, 4, 3), np.uint8), labels, {"number": np.int64(number)})
        if entry.startswith("late"):
            raise DataError("it ends too soon")


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(ManyFiles, "reads", [])
    monkeypatch.setattr(ManyFiles, "break_at", "")


def build(tmp_path, *files, **more):
    config = dataclasses.replace(ManyFiles.BUILDER_CONFIGS[0], name="some", files=files)
    return build_if_missing(ManyFiles, config, tmp_path, tmp_path, **more)


def stored(builder):
    return [(record["number"], builder.decode(record, 0, 2)) for record in builder.as_data_source("train")]


def expected(builder, *files):
    return [
        (
            clip.extras["number"],
            {key: value for key in ("video", "segmentation") if (value := getattr(clip, key)) is not None},
        )
        for file in files
        for clip in builder._clips(file)
    ]


def assert_same(first, second):
    assert [number for number, _ in first] == [number for number, _ in second]
    for (_, one), (_, two) in zip(first, second):
        assert one.keys() == two.keys() and all(np.array_equal(one[key], two[key]) for key in one)


def shorten_an_array(npz: bytes) -> bytes:
    """One flipped bit shortens an odd length by one; numpy then reads fewer values without noticing."""
    length = re.search(rb"'shape': \(\d*([13579]),\)", npz)
    assert length
    return npz[: length.start(1)] + bytes([npz[length.start(1)] ^ 1]) + npz[length.end(1) :]


def test_clips_come_in_the_order_of_the_files(tmp_path):
    files = ("slow3", "a2", "b1", "slow2", "c3", "d1", "e1", "f2")
    builder = build(tmp_path, *files)
    assert_same(stored(builder), expected(builder, *files))
    assert {path.name for path in builder.partial_dir.parent.iterdir()} == {"1.0.0", "build.lock"}


def test_bad_files_are_named_and_counted(tmp_path, capsys):
    builder = build(tmp_path, "a1", "bad", "b2", "late", "c1")
    out = capsys.readouterr().out
    assert "warning: skipped bad: it is no good" in out and "warning: skipped late: it ends too soon" in out
    assert "many_files train: 4 clips from 3 files\n  skipped 2 of 5: bad, late\n  letters: 6\n" in out
    assert_same(stored(builder), expected(builder, "a1", "b2", "c1"))
    known = builder.info.metadata["train"]
    assert known["files"] == 5 and known["clips"] == 4 and known["notes"] == {"letters": 6}
    assert known["skipped"] == {"bad": "it is no good", "late": "it ends too soon"}


def test_many_bad_files_are_not_all_in_the_summary(tmp_path, capsys):
    build(tmp_path, "a1", *(f"bad{number:02}" for number in range(14)))
    out = capsys.readouterr().out
    assert "skipped 14 of 15: bad00, " in out and "bad09 and 4 more" in out
    assert out.count("warning: skipped") == 10 and "more files are skipped" in out


def test_none_of_use_is_an_error(tmp_path):
    with pytest.raises(DataError, match="none of the 2 files for split 'train' of many_files is usable: it is no good"):
        build(tmp_path, "bad1", "bad2")
    with pytest.raises(DataError, match=r"none of the 1 files .* they are all too short"):
        build(tmp_path, "short0")
    assert not list(tmp_path.glob("many_files/some/1*"))


def test_a_build_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    files = [f"file{number}_2" for number in range(60)]
    monkeypatch.setattr(ManyFiles, "break_at", files[50])
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, *files)
    done = set(ManyFiles.reads)
    assert len(done) >= 40
    ManyFiles.reads.clear()
    monkeypatch.setattr(ManyFiles, "break_at", "")
    builder = build(tmp_path, *files)
    assert set(ManyFiles.reads) == set(files) - done
    assert_same(stored(builder), expected(builder, *files))
    assert builder.info.metadata["train"]["notes"] == {"letters": sum(map(len, files))}
    assert not builder.partial_dir.exists()


@pytest.mark.parametrize("change", ["files", "cut", "empty", "bit", "overwrite"])
def test_kept_files_are_checked_again(tmp_path, monkeypatch, change):
    files = [f"file{number:02}_1" for number in range(30)]
    monkeypatch.setattr(ManyFiles, "break_at", files[25])
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, *files)
    ManyFiles.reads.clear()
    monkeypatch.setattr(ManyFiles, "break_at", "")
    if change == "files":
        monkeypatch.setattr(ManyFiles, "stamp", "b")
    kept = list(tmp_path.glob("many_files/some/partial.*/train/*.clips"))
    assert kept
    for path in kept:
        if change in ("cut", "empty"):
            path.write_bytes(path.read_bytes()[: 100 if change == "cut" else 0])
        elif change == "bit":
            path.write_bytes(shorten_an_array(path.read_bytes()))
    builder = build(tmp_path, *files, overwrite=change == "overwrite")
    assert sorted(ManyFiles.reads) == files
    assert_same(stored(builder), expected(builder, *files))


def test_changed_files_are_refused(tmp_path, monkeypatch):
    build(tmp_path, "a1")
    monkeypatch.setattr(ManyFiles, "stamp", "")
    build(tmp_path, "a1")  # the files are gone
    monkeypatch.setattr(ManyFiles, "stamp", "b")
    with pytest.raises(DataError, match=r"have changed since it was built\. .*--overwrite"):
        build(tmp_path, "a1")
    build(tmp_path, "a1", overwrite=True)
    build(tmp_path, "a1")


def test_only_a_few_files_are_read_ahead(tmp_path, monkeypatch):
    """However slow the writer is, the queue in front of it does not fill the memory."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    config = dataclasses.replace(
        ManyFiles.BUILDER_CONFIGS[0], name="some", files=tuple(f"f{number:03}" for number in range(100))
    )
    videos = ManyFiles(config=config, data_dir=str(tmp_path)).videos("train")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            ManyFiles,
            "_clips",
            lambda self, entry: iter([Clip(np.zeros((2, 4, 4, 3), np.uint8), None, {"number": np.int64(0)})]),
        )
        next(videos)
        time.sleep(0.2)
        assert len(ManyFiles.reads) <= 6
    before = threading.active_count()
    videos.close()
    assert threading.active_count() <= before
