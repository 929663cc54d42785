"""Reading video files: every frame once and in order, and errors that name the problem."""

import os

import av
import av.stream
import numpy as np
import pytest
from sample_recordings import write_raw, write_video

from stii_jax.data.errors import DamageError, DataError
from stii_jax.data.video.footage import Footage
from stii_jax.data.video.pyav import read_header
from stii_jax.data.video.videofile import count_frames, read_frames


def numbered(num_frames: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Return frames that show their number in binary as bars, with noise below so that files are not tiny."""
    frames = np.random.default_rng(0).integers(0, 256, (num_frames, height, width, 3), np.uint8)
    bits = np.arange(num_frames)[:, None] >> np.arange(6) & 1
    frames[:, : height // 2, :48] = 255 * bits.repeat(8, axis=1)[:, None, :, None]
    return frames


def numbers(frames) -> list[int]:
    """Return the number that each frame shows."""
    return [int((frame[4:12, 4:48:8].mean((0, 2)) > 128) @ (1 << np.arange(6))) for frame in frames]


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "mpeg4", "yuv420p"),
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv420p10le"),
        ("a.mkv", "ffv1", "gray"),
        ("a.mkv", "ffv1", "gray16le"),
        ("a.mkv", "ffv1", "yuva420p"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.mov", "mpeg4", "yuv420p"),
        ("a.webm", "libvpx", "yuv420p"),
        ("a.gif", "gif", "gray"),
    ],
)
def test_formats(tmp_path, name, codec, pix_fmt):
    path = write_video(tmp_path / name, numbered(12), codec, pix_fmt)
    frames = list(read_frames(path, num_threads=2))
    assert numbers(frames) == list(range(12))
    assert all(frame.shape == (32, 48, 3) and frame.dtype == np.uint8 for frame in frames)
    assert count_frames(path) == 12 and Footage(path).header.num_frames == 12
    assert numbers(read_frames(path, first=5)) == list(range(5, 12))


@pytest.mark.parametrize("name", ["a.avi", "a.mkv"])
def test_lossless_files_are_read_exactly(tmp_path, name):
    frames = np.random.default_rng(1).integers(0, 256, (5, 37, 53, 3), np.uint8)
    np.testing.assert_array_equal(list(read_frames(write_raw(tmp_path / name, frames))), frames)


@pytest.mark.parametrize("name", ["a:b.avi", "100%d.avi", "with space é.avi", "-i.avi"])
def test_odd_names(tmp_path, name):
    assert count_frames(write_raw(tmp_path / name, numbered(3))) == 3


def test_odd_sizes(tmp_path):
    path = write_video(tmp_path / "a.mkv", numbered(4, 37, 53), "libx264", "yuv444p")
    assert [frame.shape for frame in read_frames(path)] == [(37, 53, 3)] * 4


def test_frames_at_uneven_times_are_all_read(tmp_path):
    times = [0, 1, 2, 50, 51, 52, 53, 400, 401, 900]
    path = write_video(tmp_path / "a.mkv", numbered(10), "libx264", times=times)
    assert numbers(read_frames(path)) == list(range(10))


def test_a_turned_video_is_upright(tmp_path):
    path = write_video(tmp_path / "a.mov", numbered(3), "libx264")
    data = bytearray(path.read_bytes())
    # The matrix in the track's header: 90 degrees instead of none.
    at = data.index(b"tkhd") + 4 + 40
    one, none = (1 << 16).to_bytes(4, "big"), bytes(4)
    assert data[at : at + 8] == one + none
    data[at : at + 20] = none + one + none + (2**32 - (1 << 16)).to_bytes(4, "big") + none
    path.write_bytes(data)
    frame = next(read_frames(path))
    assert frame.shape == (48, 32, 3)
    # After a clockwise turn, the top is on the right.
    assert frame[:, 20:].std() < 3 < frame[:, :12].std()


def test_titles_in_any_encoding(tmp_path):
    path = write_raw(tmp_path / "a.avi", numbered(2))
    with av.open(str(tmp_path / "b.avi"), "w") as container:
        container.metadata["title"] = "Caf!"
        stream = container.add_stream("rawvideo", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "bgr24"
        for frame in read_frames(path):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    data = (tmp_path / "b.avi").read_bytes()
    assert b"Caf!" in data
    (tmp_path / "b.avi").write_bytes(data.replace(b"Caf!", b"Caf\xe9"))
    assert count_frames(tmp_path / "b.avi") == 2 and read_header(tmp_path / "b.avi").rate == 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: download it again"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "is a web page, not a video"),
        (b"\xef\xbb\xbf\n <HTML lang=en>quota exceeded", "is a web page, not a video"),
        (b"hello " * 1000, "cannot be read as a video"),
        (bytes(100_000), "cannot be read as a video"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "cannot be read as a video|has no video stream|has no frames"),
    ],
)
@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_files_that_are_not_videos(tmp_path, content, message, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{path} .*({message})"):
        list(read_frames(path))


def test_no_file(tmp_path):
    with pytest.raises(DataError, match=f"there is no file {tmp_path}/a.mp4"):
        list(read_frames(tmp_path / "a.mp4"))
    with pytest.raises(DataError, match=f"{tmp_path} is not a file"):
        list(read_frames(tmp_path))
    path = write_raw(tmp_path / "b.avi", numbered(2))
    path.chmod(0)
    if not os.access(path, os.R_OK):  # root may read everything
        with pytest.raises(DataError, match=f"{path} is not readable"):
            list(read_frames(path))


def test_sound_alone_is_no_video(tmp_path):
    for name, cover in (("a.mp4", False), ("b.mp4", True)):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("aac", rate=44100)
            if cover:  # the cover picture of a song
                picture = container.add_stream("mjpeg", rate=1)
                picture.height, picture.width, picture.pix_fmt = 32, 48, "yuvj420p"
                picture.disposition = av.stream.Disposition.attached_pic.value  # PyAV 15 only accepts numbers
                container.mux(picture.encode(av.VideoFrame.from_ndarray(numbered(1)[0], format="rgb24")))
                container.mux(picture.encode())
            for _ in range(5):
                sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                sound.sample_rate = 44100
                container.mux(stream.encode(sound))
            container.mux(stream.encode())
        with pytest.raises(DataError, match=rf"{name} has no video stream"):
            list(read_frames(tmp_path / name))


def test_a_video_without_frames(tmp_path):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "bgr24"
        container.start_encoding()
    with pytest.raises(DataError, match=r"a\.avi (has no frames|cannot be read as a video)"):
        list(read_frames(path))


def test_a_file_cut_before_its_index(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(40), "libx264")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DataError, match=r"a\.mp4 cannot be read as a video .*truncated"):
        next(read_frames(path))


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("a.mp4", "libx264", "yuv420p"), ("a.avi", "mpeg4", "yuv420p"), ("a.avi", "rawvideo", "bgr24")],
)
def test_a_file_cut_short_gives_what_is_there(tmp_path, name, codec, pix_fmt):
    path = write_video(tmp_path / name, numbered(60), codec, pix_fmt, options={"movflags": "faststart"})
    os.truncate(path, path.stat().st_size // 2)
    frames = []
    with pytest.raises(DamageError, match=r"is damaged after \d+ frames") as error:
        frames.extend(read_frames(path))
    assert 10 < error.value.num_frames < 35
    assert len(frames) == error.value.num_frames and numbers(frames) == list(range(len(frames)))


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "mpeg4")])
def test_damage_in_the_middle(tmp_path, name, codec):
    path = write_video(tmp_path / name, numbered(60), codec)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(data)
    frames = []
    with pytest.raises(DamageError, match="is damaged after"):
        frames.extend(read_frames(path))
    assert 5 < len(frames) < 40 and numbers(frames) == list(range(len(frames)))


@pytest.mark.parametrize(
    ("name", "num_frames", "shape"),
    [
        ("avi/bgs_dataset_demo.avi", 51, (48, 48, 3)),
        ("avi/bgs_dataset_video02.avi", 748, (240, 320, 3)),
        ("pedestrian/pets2009_vtest_480x360_h264.avi", 795, (360, 480, 3)),
    ],
)
def test_real_files(samples, name, num_frames, shape):
    path = samples / name
    assert count_frames(path, num_threads=2) == num_frames
    assert next(read_frames(path)).shape == shape
