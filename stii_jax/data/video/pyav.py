"""Decoding and encoding of video files by FFmpeg, in software. No other module imports PyAV.

Hardware decoders reject some of the profiles used by datasets.
"""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import av.error
import av.stream
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import Shaped, UInt8

from stii_jax.data.errors import DamageError, DataError

MAX_PIXELS = 1 << 27
"""Maximum number of pixels per frame, as in 16K video. A file of a few kilobytes may announce more."""
VERSION = av.__version__
_LISTS = ("hls", "concat", "dash", "imf")
"""FFmpeg's names of playlist formats, which refer to other files in any folder."""
_DEEP = re.compile(r"(gray|ya|gbra?p|rgba?|bgra?)(9|10|12|14|16|48|64|f32)(le|be)")
"""FFmpeg's names of pixel formats with more than 8 bits per channel."""
_ERRORS = (av.error.FFmpegError, OSError, ValueError)
_TICKS = 90_000
"""Minimum number of time steps per second in the files written here."""


class Header(NamedTuple):
    """The metadata in a file's header, which is often wrong."""

    num_frames: int = 0
    """Announced number of frames; 0 if unknown."""
    rate: float = 0.0
    """Average frames per second; 0 if the file does not state it."""
    is_counted: bool = False
    """True if the file states the number of frames; otherwise it is estimated from the duration."""


class DecodedFrame:
    """A decoded frame, whose pixels are converted on request."""

    def __init__(self, frame: av.VideoFrame, seconds: float | None, reformatter: VideoReformatter):
        self._frame, self._reformatter = frame, reformatter
        self.seconds = seconds
        """Presentation time; None if the file does not state it."""

    def pixels(self) -> Shaped[np.ndarray, "H W *channels"]:
        """Return the frame, upright: phones store their orientation instead of rotating the pixels.

        The result is 8-bit RGB `H W 3`. Grey or RGB deeper than 8 bits, as written by scientific cameras, is returned
        as stored, `H W` or `H W 3`. Deep YCbCr (10-bit films) becomes 8-bit RGB, as in a video player.
        """
        pixels = _measured(self._frame)
        if pixels is None:
            pixels = self._reformatter.reformat(self._frame, format="rgb24").to_ndarray()
        degrees = self._frame.rotation
        return np.ascontiguousarray(np.rot90(pixels, round(degrees / 90))) if degrees % 360 else pixels


def decode(path: Path, num_threads: int = 1) -> Iterator[DecodedFrame]:
    """Decode the frames of a video file, one by one and in order of presentation.

    Args:
        path: the video file.
        num_threads: number of threads of the decoder.

    Raises:
        DataError: there is no such file, it is not a video, or it has no frame.
        DamageError: after the frames before the damage.
    """
    # Shared by all frames: `frame.to_ndarray(format=...)` creates one per frame, which takes longer than using it.
    reformatter = VideoReformatter()
    count, seconds = 0, None
    try:
        with _open(path) as container:
            if container.format.name in _LISTS:
                raise DataError(f"{path} is not a video but a list of other files: give one of those")
            # The cover image of an audio file does not count as a video.
            pictures = av.stream.Disposition.attached_pic
            videos = [stream for stream in container.streams.video if not stream.disposition & pictures]
            if not videos:
                raise DataError(f"{path} has no video stream")
            videos[0].thread_type, videos[0].codec_context.thread_count = "AUTO", num_threads
            videos[0].codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            if (width := videos[0].width) * (height := videos[0].height) > MAX_PIXELS:
                raise DataError(f"{path} has frames of {width}x{height} pixels, over {MAX_PIXELS} in all: downscale it")
            for packet in container.demux(videos[0]):
                # Decoders would invent the missing data.
                if packet.is_corrupt:
                    raise DamageError(path, count, "it is truncated")
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise DamageError(path, count, "the next frame cannot be decoded")
                    seconds = _seconds(frame, seconds, container.format.name, float(videos[0].average_rate or 0))
                    yield DecodedFrame(frame, seconds, reformatter)
                    count += 1
    except _ERRORS as error:
        if isinstance(error, DataError):
            raise
        if count:
            raise DamageError(path, count, str(error)) from error
        raise DataError(_diagnosis(path, error)) from error
    if count == 0:
        raise DataError(f"{path} has no frames")


def read_header(path: Path) -> Header:
    """Read a file's header, without decoding. The header of an unreadable file has unknown values."""
    with contextlib.suppress(*_ERRORS), _open(path) as container:
        for stream in container.streams.video:
            rate = float(stream.average_rate or 0)
            seconds = (container.duration or 0) / av.time_base
            return Header(stream.frames or round(seconds * rate), rate, stream.frames > 0)
    return Header()


class Encoder:
    """An encoder of H.264 in MP4, which any player can show.

    Args:
        path: the file to write.
        rate: frames per second for frames without a given time.
        crf: the quality, from 0 (lossless) to 51 (worst). 16 keeps camera noise, which takes up most of the time and of
            the file. 20 drops it, and looks the same.
    """

    def __init__(self, path: Path, rate: float, crf: int = 16):
        self._container = av.open(f"file:{path}", "w", format="mp4", options={"movflags": "faststart"})
        exact = max(Fraction(rate).limit_denominator(1001), Fraction(1, 1001))
        # Without B-frames (bf), the durations in the file are exact even if they are uneven.
        options = {"crf": str(crf), "preset": "veryfast", "bf": "0"}
        self._stream = self._container.add_stream("libx264", rate=exact, options=options)
        self._stream.pix_fmt = "yuv420p"
        # An integer number of steps per frame at this rate, and fine enough for any other time.
        self._time_base = Fraction(1, exact.numerator * -(-_TICKS // exact.numerator))
        self._stream.codec_context.time_base = self._time_base
        self._duration = int(1 / exact / self._time_base)
        self._next = 0

    def write(self, picture: UInt8[np.ndarray, "H W 3"], seconds: float | None = None) -> None:
        """Encode one frame. All frames have the same size.

        Args:
            picture: the pixels. An odd side is extended by a copy of the last row or column.
            seconds: the presentation time, later than that of the previous frame. None is one frame after that.
        """
        height, width, _ = picture.shape
        # Colours are stored per 2x2 pixels, so sides have to be even.
        missing = ((0, height % 2), (0, width % 2), (0, 0))
        even = np.pad(picture, missing, mode="edge") if height % 2 or width % 2 else picture
        if not self._stream.codec_context.is_open:
            self._stream.height, self._stream.width = even.shape[:2]
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        frame.time_base = self._time_base
        frame.pts = self._next if seconds is None else round(seconds / self._time_base)
        frame.duration = self._duration
        self._next = frame.pts + self._duration
        self._container.mux(self._stream.encode(frame))

    def close(self, whole: bool = True) -> None:
        """Close the file. If it is to be `whole`, write the frames that are still in the encoder first."""
        if whole:
            self._container.mux(self._stream.encode(None))
        self._container.close()


def self_test() -> str:
    """Encode a frame and decode it again. Return the error message, or "" on success."""
    try:
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width = stream.height = 32
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
            container.mux(stream.encode())
        file.seek(0)
        with av.open(file, "r") as written:
            return "" if sum(1 for _ in written.decode(video=0)) == 1 else "an encoded frame could not be decoded"
    except _ERRORS as error:
        return str(error)


def _open(path: Path) -> "av.container.InputContainer":
    url = f"file:{path}"  # "a:b.mp4" alone would be a protocol
    try:
        return av.open(url)
    except UnicodeDecodeError:  # PyAV before 19 insists on UTF-8 titles; later versions lack this keyword
        return av.open(url, metadata_errors="ignore")


def _seconds(frame: av.VideoFrame, before: float | None, format_name: str, rate: float) -> float | None:
    """The presentation time of a frame, given that of the previous frame."""
    if format_name != "avi":
        return frame.time
    # AVI stores no presentation times. FFmpeg derives them from the decoding times, which are in order.
    if frame.dts is None or frame.time_base is None:  # the last frames, which no packet follows
        return None if before is None or not rate else before + 1 / rate
    return frame.dts * float(frame.time_base)


def _measured(frame: av.VideoFrame) -> np.ndarray | None:
    """The values `H W` or `H W 3` of a grey or RGB frame deeper than 8 bits; None for other frames."""
    if not (found := _DEEP.fullmatch(frame.format.name)):
        return None
    colors, bits, end = found.groups()
    per_pixel = {"ya": 2, "rgb": 3, "bgr": 3, "rgba": 4, "bgra": 4}.get(colors, 1)
    size, kind = (4, "f") if bits == "f32" else (2, "u")
    dtype = np.dtype(f"{'<' if end == 'le' else '>'}{kind}{size}")
    planes = [
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[
            : frame.height, : frame.width * per_pixel * size
        ]
        for plane in frame.planes
    ]
    values = [np.ascontiguousarray(plane).view(dtype).astype(dtype.newbyteorder("=")) for plane in planes]
    if colors.startswith("gbr"):
        return np.stack([values[2], values[0], values[1]], axis=-1)
    pixels = values[0].reshape(frame.height, frame.width, per_pixel)
    if per_pixel < 3:
        return pixels[..., 0]
    return pixels[..., 2::-1] if colors.startswith("bgr") else pixels[..., :3]


def _diagnosis(path: Path, error: Exception) -> str:
    if not path.is_file():
        return f"there is no file {path}" if not path.exists() else f"{path} is not a file"
    if not os.access(path, os.R_OK):
        return f"{path} is not readable: check its permissions"
    if path.stat().st_size == 0:
        return f"{path} is empty: download it again"
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")):
        return f"{path} is a web page, not a video: download it again"
    cause = getattr(error, "strerror", None) or error  # without FFmpeg's error number
    return f"{path} cannot be read as a video ({cause}): it is truncated, or not a video"
