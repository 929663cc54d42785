"""Reading video files by PyAV, in software: hardware decoders refuse some of the profiles that datasets come in."""

import os
from collections.abc import Iterator
from pathlib import Path

import av
import av.error
import av.stream
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8
from tqdm import tqdm

from stii_jax.data.errors import DataError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".gif", ".webm", ".m4v")
MAX_PIXELS = 1 << 27
"""Of a frame: those of 16K video. A file of a few kilobytes may announce frames that fill the memory."""
_LISTS = ("hls", "concat", "dash", "imf")
"""What ffmpeg calls files that name others, of any folder, to be played in their place."""


class DamageError(DataError):
    """A file is good up to a point: it was cut short, or some of its bytes are wrong."""

    def __init__(self, path: Path, num_frames: int, reason: str):
        super().__init__(f"{path} is damaged after {num_frames} frames: {reason}")
        self.num_frames = num_frames


def read_frames(path: str | Path, num_threads: int = 1, first: int = 0) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of a video file in RGB, upright, one by one and in order, whatever their times say.

    Args:
        path: of the file. Grey and deeper colours become 8-bit RGB.
        num_threads: of the decoder.
        first: number of the first frame to return; going past the ones before takes a part of the time.

    Raises:
        DataError: there is no such file, it is no video, or it has no frame.
        DamageError: after the frames before the damage.
    """
    # One for all: `frame.to_ndarray(format=...)` sets one up for every frame, which takes longer than its use.
    reformatter = VideoReformatter()
    for number, frame in enumerate(_decode(Path(path), num_threads)):
        if number >= first:
            pixels = reformatter.reformat(frame, format="rgb24").to_ndarray()
            yield _upright(pixels, getattr(frame, "rotation", 0))


def count_frames(path: str | Path, num_threads: int = 1, progress: str = "") -> int:
    """How many frames a file has, by decoding: headers are often wrong. Raises `DataError` as `read_frames`.

    Args:
        path: of the file.
        num_threads: of the decoder.
        progress: text of a progress bar; "" shows none.
    """
    frames = _decode(Path(path), num_threads)
    return sum(1 for _ in tqdm(frames, desc=progress, unit="frame", mininterval=0.5, disable=not progress))


def frame_rate(path: str | Path) -> float:
    """Average frames a second, as the file says; 25 where it does not, or cannot be read."""
    try:
        with _open(Path(path)) as container:
            rate = container.streams.video[0].average_rate if container.streams.video else None
    except (av.error.FFmpegError, OSError, ValueError):
        rate = None
    return float(rate) if rate else 25.0


def _decode(path: Path, num_threads: int) -> Iterator[av.VideoFrame]:
    count = 0
    try:
        with _open(path) as container:
            if container.format.name in _LISTS:
                raise DataError(f"{path} is no video but a list of other files: give those")
            # A cover picture of a song is no video.
            pictures = av.stream.Disposition.attached_pic
            videos = [stream for stream in container.streams.video if not stream.disposition & pictures]
            if not videos:
                raise DataError(f"{path} has no video stream")
            videos[0].thread_type, videos[0].codec_context.thread_count = "AUTO", num_threads
            videos[0].codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            if (width := videos[0].width) * (height := videos[0].height) > MAX_PIXELS:
                raise DataError(f"{path} has frames of {width}x{height} pixels, over {MAX_PIXELS} in all: scale it")
            for packet in container.demux(videos[0]):
                # Decoders would make up what is missing.
                if packet.is_corrupt:
                    raise DamageError(path, count, "it is cut short")
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise DamageError(path, count, "the next cannot be decoded")
                    yield frame
                    count += 1
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        if count:
            raise DamageError(path, count, str(error)) from error
        raise DataError(_diagnosis(path, error)) from error
    if count == 0:
        raise DataError(f"{path} has no frames")


def _open(path: Path) -> "av.container.InputContainer":
    # "file:", as "a:b.mp4" would be a protocol. Titles and the like are in any encoding, and not needed.
    return av.open(f"file:{path}", metadata_errors="ignore")


def _upright(frame: np.ndarray, degrees: int) -> np.ndarray:
    """Telephones store how they were held instead of turning the pixels."""
    return np.ascontiguousarray(np.rot90(frame, round(degrees / 90))) if degrees % 360 else frame


def _diagnosis(path: Path, error: Exception) -> str:
    if not path.is_file():
        return f"there is no file {path}" if not path.exists() else f"{path} is no file"
    if not os.access(path, os.R_OK):
        return f"{path} may not be read"
    if path.stat().st_size == 0:
        return f"{path} is empty: fetch it again"
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")):
        return f"{path} is a web page, not a video: fetch it again"
    cause = getattr(error, "strerror", None) or error  # FFmpeg's numbers tell nobody anything
    return f"{path} cannot be read as a video ({cause}): it is cut short, or no video"
