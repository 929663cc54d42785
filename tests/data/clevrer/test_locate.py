"""Locating files, and the messages if they are missing."""

import zipfile

import pytest
from sample_clevrer import write

from stii_jax.data import DataError
from stii_jax.data.clevrer.locate import Locator

NUMBERS = {3: "train", 10_500: "validation", 15_999: "test"}


@pytest.mark.parametrize(
    "layout",
    [
        "{kind}_{part}/{kind}_10000-11000/",
        "{kind}_{part}/",
        "{kind}s/{part}/{kind}_10000-11000/",
        "{kind}s/{short}/",
        "{kind}_{part}.zip",
    ],
)
def test_every_layout_of_the_official_files(tmp_path, layout):
    files = {}
    for kind, suffix in (("video", "mp4"), ("annotation", "json")):
        for number, part in NUMBERS.items():
            place = layout.format(kind=kind, part=part, short={"validation": "val"}.get(part, part))
            files[place, f"{kind}_{number:05d}.{suffix}"] = f"{kind}{number}".encode()
    for (place, name), data in files.items():
        if place.endswith(".zip"):
            with zipfile.ZipFile(tmp_path / place, "a", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(f"any/{name}", data)
                archive.writestr(f"__MACOSX/any/._{name}", b"no video")
        else:
            write(tmp_path, {place + name: data, f"{place}._{name}": b"no video"})
    locator = Locator(tmp_path)
    for kind in ("video", "annotation"):
        assert locator.index(kind).keys() == NUMBERS.keys()
        for number in NUMBERS:
            found = locator.find(kind, number)
            assert found.read() == f"{kind}{number}".encode()
            with found.on_disk() as path:
                assert path.read_bytes() == found.read() and path.suffix in (".mp4", ".json")


@pytest.mark.parametrize("name", ["derender_proposals/proposal_00003.json", "processed_proposals/sim_00003.json"])
def test_both_names_of_proposals(tmp_path, name):
    write(tmp_path, {name: b"{}"})
    assert str(Locator(tmp_path).find("proposal", 3)) == str(tmp_path / name)


def test_unpacked_files_take_precedence(tmp_path):
    with zipfile.ZipFile(tmp_path / "video_train.zip", "w") as archive:
        archive.writestr("video_00001.mp4", b"packed")
        archive.writestr("video_00002.mp4", b"packed")
    write(tmp_path, {"video_train/video_00000-01000/video_00001.mp4": b"unpacked"})
    locator = Locator(tmp_path)
    assert [locator.find("video", number).read() for number in (1, 2)] == [b"unpacked", b"packed"]


@pytest.mark.parametrize(
    ("kind", "number", "archive"),
    [
        ("video", 3, r"video_train.zip, or unpacked in video_train/"),
        ("annotation", 12_345, r"annotation_validation.zip, or unpacked in annotation_validation/"),
        ("proposal", 12_345, r"derender_proposals.zip, or unpacked in derender_proposals/"),
        ("mask", 12_345, r"mask_validation.zip"),
    ],
)
def test_missing_files(tmp_path, kind, number, archive):
    with pytest.raises(DataError, match=f"there is no {kind} {number:05d} in {tmp_path}: it should be in {archive}"):
        Locator(tmp_path).find(kind, number)


@pytest.mark.parametrize("member", ["../video_00001.mp4", "a/../../b.txt", "/video_00001.mp4", "C:\\x", "..\\x"])
def test_an_archive_that_reaches_outside(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "video_train.zip", "w") as archive:
        archive.writestr(member, b"x")
    with pytest.raises(DataError, match=r"video_train.zip holds .* which leaves its folder"):
        Locator(tmp_path).find("video", 1)


def test_damaged_archives(tmp_path):
    path = tmp_path / "video_train.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("video_00001.mp4", b"x" * 1000)
    whole = path.read_bytes()
    path.write_bytes(whole[:500])
    with pytest.raises(DataError, match=r"video_train.zip is not a complete zip archive .*: download it again"):
        Locator(tmp_path).index("video")
    path.write_bytes(whole.replace(b"xxxx", b"xxxy", 1))
    found = Locator(tmp_path).find("video", 1)
    with pytest.raises(DataError, match=r"video_train.zip:video_00001.mp4 cannot be read: Bad CRC"):
        found.read()


def test_archives_of_a_newer_format(tmp_path):
    """The version needed to extract a member is at byte 6 of its entry in the central directory."""
    path = tmp_path / "video_train.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("video_00001.mp4", b"x")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 6] = 99
    path.write_bytes(data)
    with pytest.raises(
        DataError, match=r"video_train.zip cannot be read by Python \(zip file version 9.9\): unpack it"
    ):
        Locator(tmp_path).index("video")


def test_complaints_about_a_copy_name_the_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "video_train.zip", "w") as archive:
        archive.writestr("v/video_00001.mp4", b"x")
    with (
        pytest.raises(DataError, match=f"^{tmp_path}/video_train.zip:v/video_00001.mp4 is bad$"),
        Locator(tmp_path).find("video", 1).on_disk() as path,
    ):
        raise DataError(f"{path} is bad")
