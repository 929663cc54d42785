"""Writing video files, and the facts in their headers."""

from fractions import Fraction

import numpy as np
import pytest
from sample_recordings import write_raw, write_video

from stii_jax.data.video import pyav
from stii_jax.data.video.pyav import Encoder, decode, read_header, self_test


def grey(num_frames: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Return frames of one grey value each, 7 apart."""
    return np.broadcast_to(
        7 * np.arange(num_frames, dtype=np.uint8)[:, None, None, None], (num_frames, height, width, 3)
    )


def encode(path, frames, rate, times=None):
    encoder = Encoder(path, rate)
    for number, frame in enumerate(frames):
        encoder.write(frame, None if times is None else times[number])
    encoder.close()
    return list(decode(path))


@pytest.mark.parametrize("rate", [10, 25, Fraction(30000, 1001), 7.3, 0.5])
def test_frames_written_at_a_rate(tmp_path, rate):
    frames = encode(tmp_path / "a.mp4", grey(9), float(rate))
    assert [frame.seconds for frame in frames] == pytest.approx([n / rate for n in range(9)], abs=1e-9)
    assert read_header(tmp_path / "a.mp4") == (9, pytest.approx(float(rate)), True)


def test_frames_written_at_times_of_their_own(tmp_path):
    times = [0.0, 0.011, 0.5, 0.533333, 2.75]
    frames = encode(tmp_path / "a.mp4", grey(5, 33, 47), 25.0, times)
    assert [frame.seconds for frame in frames] == pytest.approx(times, abs=1 / 90_000)
    for number, frame in enumerate(frames):
        assert frame.pixels().shape == (34, 48, 3) and np.abs(frame.pixels().astype(int) - 7 * number).max() <= 2
    assert read_header(tmp_path / "a.mp4").rate == pytest.approx(5 / 2.79)  # the last is shown for 1/25 s


def test_times_are_those_of_the_file(tmp_path):
    times = [0, 1, 2, 50, 51, 52, 53, 400, 401, 900]
    path = write_video(tmp_path / "a.mkv", grey(10), "libx264", times=times)
    assert [frame.seconds for frame in decode(path)] == pytest.approx([time / 100 for time in times])


def test_headers_of_files_that_are_not_videos(tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    assert read_header(tmp_path / "a.mp4") == read_header(tmp_path / "nowhere.mp4") == (0, 0.0, False)
    assert read_header(write_raw(tmp_path / "b.avi", grey(4))) == (4, 10.0, True)


def test_an_encoder_failure_is_reported(monkeypatch):
    assert self_test() == ""

    def fail(*_, **__):
        raise ValueError("no encoder")

    monkeypatch.setattr(pyav.av, "open", fail)
    assert self_test() == "no encoder"
