"""TIFF files: every kind gives exactly the written frames, or a clear error."""

import struct

import numpy as np
import pytest
import tifffile
import tifffile._imagecodecs
from PIL import Image

from stii_jax.data.errors import DamageError, DataError
from stii_jax.data.video.tiff import TiffStack, count_pages, is_tiff


def noise(*shape: int, high: int = 256, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


GREY, DEEP, COLORS = noise(5, 8, 10), noise(5, 8, 10, high=4096, dtype=np.uint16), noise(5, 8, 10, 3)
FLOATS = np.random.default_rng(0).normal(size=(5, 8, 10)).astype(np.float32)
TWO = noise(5, 2, 8, 10, high=4096, dtype=np.uint16)
TWO_AS_RGB = np.concatenate([TWO, np.zeros_like(TWO[:, :1])], axis=1).transpose(0, 2, 3, 1)
PLAIN = {"photometric": "minisblack"}


def read(path, **options) -> np.ndarray:
    return np.stack(list(TiffStack(path).frames(**options)))


@pytest.mark.parametrize(
    ("written", "options", "frames"),
    [
        (GREY, PLAIN, GREY),
        (DEEP, {**PLAIN, "metadata": None}, DEEP),
        (DEEP, {**PLAIN, "bigtiff": True}, DEEP),
        (DEEP, {**PLAIN, "byteorder": ">"}, DEEP),
        (DEEP, {**PLAIN, "rowsperstrip": 3}, DEEP),
        (noise(5, 32, 48), {**PLAIN, "tile": (16, 16)}, noise(5, 32, 48)),
        (FLOATS, PLAIN, FLOATS),
        (FLOATS.astype(np.float16), PLAIN, FLOATS.astype(np.float16)),
        (DEEP.astype(np.int16) - 99, PLAIN, DEEP.astype(np.int16) - 99),
        (GREY > 127, PLAIN, (GREY > 127) * np.uint8(255)),
        (GREY, {"photometric": "miniswhite"}, 255 - GREY),
        (COLORS, {"photometric": "rgb"}, COLORS),
        (
            np.dstack([GREY[0]] * 4)[None].repeat(5, 0),
            {"photometric": "rgb"},
            np.dstack([GREY[0]] * 3)[None].repeat(5, 0),
        ),
        (COLORS.transpose(0, 3, 1, 2), {"photometric": "rgb", "planarconfig": "separate"}, COLORS),
        (DEEP, {**PLAIN, "compression": "zlib", "predictor": 2}, DEEP),
        (DEEP, {**PLAIN, "compression": "lzw", "predictor": 2}, DEEP),
        (DEEP, {**PLAIN, "compression": "zstd"}, DEEP),
        (GREY, {**PLAIN, "compression": "packbits"}, GREY),
        (DEEP, {"imagej": True, "metadata": {"axes": "TYX"}}, DEEP),
        (TWO, {"imagej": True, "metadata": {"axes": "TCYX"}}, TWO_AS_RGB),
        (TWO, {"ome": True, "metadata": {"axes": "TCYX"}}, TWO_AS_RGB),
        (GREY[:1], PLAIN, GREY[:1]),
    ],
)
def test_frames_are_those_written(tmp_path, written, options, frames):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, written, **options)
    assert is_tiff(path) and TiffStack(path).num_frames == len(frames)
    found = read(path)
    assert found.dtype == frames.dtype
    np.testing.assert_array_equal(found, frames)


def test_jpeg_compression(tmp_path):
    y, x = np.mgrid[:32, :48]
    frames = np.stack([np.stack([4 * x + t, 5 * y, x + y + t], axis=-1) for t in range(3)]).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", frames, compression="jpeg", photometric="rgb", compressionargs={"level": 98})
    assert np.abs(read(tmp_path / "a.tif").astype(int) - frames).max() <= 6


def test_pages_of_a_palette(tmp_path):
    palette = noise(256, 3)
    pages = [Image.frombytes("P", (10, 8), frame.tobytes()) for frame in GREY]
    for page in pages:
        page.putpalette(palette.tobytes())
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), palette[GREY])
    np.testing.assert_array_equal(read(tmp_path / "a.tif", indices=True), GREY)


def test_a_stack_of_which_one_page_is_listed(tmp_path):
    """ImageJ writes stacks above 4 GB in this form."""
    tifffile.imwrite(tmp_path / "a.tif", DEEP, imagej=True, metadata={"axes": "TYX"})
    data = bytearray((tmp_path / "a.tif").read_bytes())
    order = ">" if data[:2] == b"MM" else "<"
    (first,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, first)
    struct.pack_into(order + "I", data, first + 2 + 12 * entries, 0)
    (tmp_path / "a.tif").write_bytes(data)
    assert count_pages(tmp_path / "a.tif") == (1, True)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), DEEP)


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ({"imagej": True, "metadata": {"axes": "TYX", "finterval": 0.25}}, 4),
        ({"imagej": True, "metadata": {"axes": "TYX", "fps": 12.0}}, 12),
        ({"ome": True, "metadata": {"axes": "TYX", "TimeIncrement": 20.0, "TimeIncrementUnit": "ms"}}, 50),
        ({"ome": True, "metadata": {"axes": "TYX", "TimeIncrement": 0.5, "TimeIncrementUnit": "s"}}, 2),
        (PLAIN, 0),
    ],
)
def test_rates(tmp_path, options, rate):
    tifffile.imwrite(tmp_path / "a.tif", DEEP, **options)
    assert TiffStack(tmp_path / "a.tif").rate == pytest.approx(rate)


def test_slices_are_frames_where_there_is_no_other_time(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", DEEP, imagej=True, metadata={"axes": "ZYX"})
    assert TiffStack(tmp_path / "a.tif").note.endswith("a.tif has no axis T: its axis Z of length 5 is taken as time")
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), DEEP)


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((5, 3, 8, 10), "TZYX", r"has axes T=5, Z=3, Y=8, X=10, but a video has only a time axis\. .*Z Project"),
        ((5, 4, 8, 10), "TCYX", r"has 4 channels, but a video has at most three.*Split Channels"),
    ],
)
def test_stacks_that_are_no_video(tmp_path, shape, axes, message):
    tifffile.imwrite(tmp_path / "a.tif", noise(*shape), imagej=True, metadata={"axes": axes})
    with pytest.raises(DataError, match=message):
        TiffStack(tmp_path / "a.tif")


def test_other_invalid_files(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(GREY[0])
        file.write(GREY[0, :4])
    with pytest.raises(DataError, match=r"holds images of several kinds \(10x8, 10x4 pixels\)"):
        TiffStack(path)
    tifffile.imwrite(path, noise(8, 10, 4), photometric="separated")
    with pytest.raises(DataError, match="has SEPARATED colours: convert it to grey or RGB"):
        TiffStack(path)
    tifffile.imwrite(path, FLOATS.astype(np.complex64), **PLAIN)
    with pytest.raises(DataError, match="holds values of type complex64"):
        TiffStack(path)
    path.write_bytes(b"II*\0" + b"nothing of use")
    with pytest.raises(DataError, match=r"a\.tif (cannot be read as TIFF|holds no image)"):
        TiffStack(path)


@pytest.mark.parametrize("options", [PLAIN, {**PLAIN, "metadata": None}, {**PLAIN, "compression": "zlib"}])
@pytest.mark.parametrize("share", [0.95, 0.8, 0.6, 0.4])
def test_a_file_cut_short_says_so(tmp_path, options, share):
    """Wherever a file is cut, frames are right or an error is raised; tifffile alone would give fewer frames."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, DEEP, **options)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    frames = []
    with pytest.raises(DataError, match=r"is damaged after \d frames|cannot be read as TIFF"):
        frames.extend(TiffStack(path).frames())
    np.testing.assert_array_equal(frames, DEEP[: len(frames)] if frames else frames)


def test_a_compression_that_needs_another_package(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", DEEP, compression="lzw", **PLAIN)
    # As on a machine without imagecodecs.
    monkeypatch.setattr(tifffile.TIFF.DECOMPRESSORS, "_codecs", {})
    monkeypatch.setattr(tifffile.tifffile, "imagecodecs", tifffile._imagecodecs)
    with pytest.raises(DamageError, match=r"requires the 'imagecodecs' package: pip install imagecodecs"):
        list(TiffStack(tmp_path / "a.tif").frames())
