"""Frames of every kind of file: their number, times and values, and the errors for unreadable ones."""

import os

import numpy as np
import pytest
import tifffile
from PIL import Image
from sample_recordings import write_raw, write_video

from stii_jax.data.errors import DamageError, DataError
from stii_jax.data.video import pyav
from stii_jax.data.video.footage import Footage, open_footage
from stii_jax.data.video.images import read_image, read_label_image
from stii_jax.data.video.levels import measure, to_rgb


def noise(*shape: int, high: int = 256, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


def frames_of(path, **options) -> np.ndarray:
    return np.stack([frame.pixels for frame in Footage(path, **options).frames()])


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return grey frames as they should be displayed."""
    shown = np.round(np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return shown[..., None].repeat(3, axis=-1)


DEEP = 100 + noise(4, 8, 10, high=3996, dtype=np.uint16)  # 12 bits in 16
DEEP[2, 3, 4], DEEP[1, 0, 0] = 4095, 100
SHOWN = scaled(DEEP, 100, 4095)


def write_deep(folder, kind):
    path = folder / f"a.{kind}"
    if kind == "tif":
        tifffile.imwrite(path, DEEP, photometric="minisblack")
    elif kind == "mkv":
        write_grey(path, DEEP)
    else:
        path.mkdir()
        for number, frame in enumerate(DEEP):
            if kind == "pngs":
                Image.fromarray(frame).save(path / f"{number}.png")
            else:
                tifffile.imwrite(path / f"{number}.tiff", frame)
    return path


def write_grey(path, frames, pix_fmt="gray16le"):
    with pyav.av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = pix_fmt
        for frame in frames:
            container.mux(stream.encode(pyav.av.VideoFrame.from_ndarray(frame, format=pix_fmt)))
        container.mux(stream.encode())


@pytest.mark.parametrize("kind", ["tif", "mkv", "pngs", "tifs"])
def test_deep_frames_are_scaled_by_one_range(tmp_path, kind):
    footage = open_footage(write_deep(tmp_path, kind))
    np.testing.assert_array_equal([frame.pixels for frame in footage.frames()], SHOWN)
    assert footage.levels == (100, 4095, "16-bit", 0) and footage.value_range == (100, 4095)


def test_a_range_of_ones_own(tmp_path):
    path = write_deep(tmp_path, "tif")
    footage = Footage(path, value_range=(1000.0, 2000.0))
    np.testing.assert_array_equal([frame.pixels for frame in footage.frames()], scaled(DEEP, 1000, 2000))
    assert footage.levels is None
    raw = write_raw(tmp_path / "b.avi", noise(2, 32, 48, 3))
    np.testing.assert_array_equal(
        frames_of(raw, value_range=(50.0, 100.0))[..., 0], scaled(noise(2, 32, 48, 3)[..., 0], 50, 100)[..., 0]
    )


def test_sixteen_bits_per_color(tmp_path):
    """RGB films and PNG, which Pillow would reduce to the upper 8 bits; all channels share one range."""
    colors = noise(2, 8, 10, 3, high=4000, dtype=np.uint16)
    low, high = colors.min(), colors.max()
    expected = np.round((colors.astype(float) - low) / (high - low) * 255)
    with pyav.av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 8, 10, "gbrp16le"
        for frame in colors:
            container.mux(stream.encode(pyav.av.VideoFrame.from_ndarray(frame, format="gbrp16le")))
        container.mux(stream.encode())
    np.testing.assert_array_equal(frames_of(tmp_path / "a.mkv"), expected)
    codec = pyav.av.CodecContext.create("png", "w")
    codec.height, codec.width, codec.pix_fmt, codec.time_base = 8, 10, "rgb48be", pyav.Fraction(1)
    frame = pyav.av.VideoFrame.from_ndarray(colors[0], format="rgb48be")
    (tmp_path / "a.png").write_bytes(b"".join(map(bytes, [*codec.encode(frame), *codec.encode(None)])))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colors[0])


def test_ten_bit_films_are_shown_as_players_do(tmp_path):
    """They are made for display: black is 64, white is 940."""
    path = write_video(tmp_path / "a.mkv", np.full((2, 32, 48, 3), 128, np.uint8), "libx264", "yuv420p10le")
    footage = Footage(path)
    assert np.abs(next(footage.frames()).pixels.astype(int) - 128).max() <= 3 and footage.levels is None


def test_values_that_are_no_numbers(tmp_path):
    frames = np.linspace(-1, 1, 80, dtype=np.float32).reshape(2, 5, 8)
    frames[0, 0, :3] = np.nan, np.inf, -np.inf
    tifffile.imwrite(tmp_path / "a.tif", frames, photometric="minisblack")
    footage = Footage(tmp_path / "a.tif")
    shown = np.stack([frame.pixels for frame in footage.frames()])
    assert footage.levels.num_infinite == 3 and footage.levels.low == frames[0, 0, 3]
    assert shown[0, 0, :3, 0].tolist() == [0, 255, 0]
    tifffile.imwrite(tmp_path / "a.tif", frames * np.nan, photometric="minisblack")
    with pytest.raises(DataError, match=r"a\.tif: all values are NaN or infinite"):
        frames_of(tmp_path / "a.tif")


def test_one_value_alone_is_black():
    flat = np.full((3, 4), 7, np.uint16)
    levels = measure(iter([flat]))
    assert not to_rgb(flat, (levels.low, levels.high)).any()


DURATIONS = [30, 40, 500, 20, 100, 70]
TIMES = [0, 0.03, 0.07, 0.57, 0.59, 0.69]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animations(tmp_path, suffix):
    frames = noise(6, 16, 20, 3)
    frames[..., 1:] = 0  # fits into a palette
    pictures = [Image.fromarray(frame) for frame in frames]
    path = tmp_path / f"a.{suffix}"
    lossless = {"lossless": True} if suffix == "webp" else {}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=DURATIONS, **lossless)
    footage = Footage(path)
    found = list(footage.frames())
    assert footage.header.num_frames == 6 and [frame.seconds for frame in found] == pytest.approx(TIMES)
    np.testing.assert_array_equal([frame.pixels for frame in found], frames)
    for share in (0.97, 0.6, 0.3):
        os.truncate(path, int(share * path.stat().st_size))
        count = 0
        with pytest.raises(DataError, match=r"is damaged after \d frames|cannot be read as an image"):
            for frame in Footage(path).frames():
                np.testing.assert_array_equal(frame.pixels, frames[count])
                count += 1


def test_a_gif_without_durations(tmp_path):
    """Viewers show such frames for a tenth of a second."""
    pictures = [Image.fromarray(frame) for frame in noise(3, 8, 8)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    assert [frame.seconds for frame in Footage(tmp_path / "a.gif").frames()] == pytest.approx([0, 0.1, 0.2])
    data = (tmp_path / "a.gif").read_bytes()
    cut = data.rindex(b"\x21\xf9\x04")  # the start of the last frame: the rest looks complete to Pillow
    (tmp_path / "a.gif").write_bytes(data[:cut])
    with pytest.raises(DamageError, match="after 2 frames: it is truncated"):
        list(Footage(tmp_path / "a.gif").frames())


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.tif", "a.gif"])
def test_a_still_picture_is_one_frame(tmp_path, name):
    Image.fromarray(noise(8, 10)).save(tmp_path / name)
    footage = Footage(tmp_path / name)
    assert len(list(footage.frames())) == footage.count() == 1
    assert footage.note == f"{tmp_path / name} is a still image: one frame"


@pytest.mark.parametrize(
    ("name", "start", "message"),
    [
        (
            "a.czi",
            b"ZISRAWFILE",
            r"a\.czi: CZI files cannot be read: open it in ImageJ \(File > Import > Bio-Formats\)",
        ),
        ("a.nd2", b"\xda\xce\xbe\x0a", "ND2 files cannot be read: open it in ImageJ"),
        (
            "IMG_1.HEIC",
            b"\0\0\0\x18ftypheic",
            "HEIC files cannot be read: convert it, e.g. magick IMG_1.HEIC IMG_1.png",
        ),
        ("a.mp4", b"\0\0\0\x18ftypheic", "cannot be read: convert it"),
        ("a.raw", b"\0" * 99, r"RAW files cannot be read: import it in ImageJ \(File > Import > Raw\)"),
    ],
)
def test_formats_that_are_not_read(tmp_path, name, start, message):
    (tmp_path / name).write_bytes(start)
    with pytest.raises(DataError, match=message):
        Footage(tmp_path / name)


def test_files_of_several_frames_among_pictures(tmp_path):
    """Each would count as a single frame, so this is an error."""
    Image.fromarray(noise(8, 10)).save(tmp_path / "0.tif")
    tifffile.imwrite(tmp_path / "1.tif", noise(3, 8, 10), photometric="minisblack")
    frames = open_footage(tmp_path).frames()
    assert next(frames).pixels.shape == (8, 10, 3)
    with pytest.raises(DamageError, match=r"after 1 frames: .*1\.tif holds 3 frames: give the file alone, as a video"):
        next(frames)
    with pytest.raises(DataError, match="holds 3 frames"):
        read_label_image(tmp_path / "1.tif")


def test_pictures_of_other_depths_among_each_other(tmp_path):
    Image.fromarray(noise(8, 10)).save(tmp_path / "0.png")
    Image.fromarray(DEEP[0]).save(tmp_path / "1.png")
    with pytest.raises(
        DamageError, match="after 1 frames: the next frame has 16-bit values, not 8-bit as in the first"
    ):
        list(open_footage(tmp_path).frames())


def test_a_video_that_states_more_frames_than_it_has(tmp_path, monkeypatch):
    path = write_raw(tmp_path / "a.avi", noise(5, 32, 48, 3))
    footage = Footage(path)
    assert len(list(footage.frames())) == 5 and footage.num_missing == 0
    monkeypatch.setattr(pyav, "read_header", lambda path: pyav.Header(7, 10.0, True))
    footage = Footage(path)
    assert len(list(footage.frames())) == 5 and footage.num_missing == 2


def test_a_real_file_that_states_more_frames_than_it_has(samples):
    footage = Footage(samples / "avi" / "bgs_dataset_video02.avi")
    assert sum(1 for _ in footage.stored()) == 748 and footage.num_missing == 2
