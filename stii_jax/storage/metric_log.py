"""The log of a run: `metrics.jsonl`, pictures and TensorBoard.

WORKDIR/metrics.jsonl    one JSON object per line: `step`, `time` (seconds of training) and the scalars
WORKDIR/media/           the newest picture of each name, as PNG or GIF
WORKDIR/tensorboard/     the same scalars and pictures

To add a tracker, write a `Logger` and add it to `LOGGERS`.
"""

import abc
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stii_jax.errors import UserError
from stii_jax.storage.files import PathLike, dumps, name_in_errors, write_atomic
from stii_jax.storage.images import Picture, encode_gif, encode_png

RESERVED_KEYS = ("step", "time")


class LogError(UserError, ValueError):
    """A line of a `metrics.jsonl` cannot be read."""


class Logger(abc.ABC):
    """A tracker that receives a copy of a run's scalars and pictures. Import its library on the first write."""

    @abc.abstractmethod
    def __init__(self, workdir: Path): ...

    @abc.abstractmethod
    def write_scalars(self, step: int, values: Mapping[str, int | float]) -> None:
        """Record the scalars of a step."""

    @abc.abstractmethod
    def write_picture(self, step: int, name: str, path: Path, shape: tuple[int, ...]) -> None:
        """Record a picture, a PNG or GIF file of `shape` (height, width, channels)."""

    @abc.abstractmethod
    def truncate(self, step: int) -> None:
        """Drop everything after `step`, from which the run resumes."""

    @abc.abstractmethod
    def close(self) -> None:
        """Flush. A later write may follow."""


class TensorBoard(Logger):
    """A tracker that writes event files to `tensorboard/`."""

    def __init__(self, workdir: Path):
        self._folder = workdir / "tensorboard"
        self._writer: Any = None

    def write_scalars(self, step: int, values: Mapping[str, int | float]) -> None:
        """See `Logger`."""
        with name_in_errors(self._folder):
            for name, value in values.items():
                self._open().add_scalar(name, value, step)

    def write_picture(self, step: int, name: str, path: Path, shape: tuple[int, ...]) -> None:
        """See `Logger`. A GIF is an image, which TensorBoard plays; tensorboardX's video summary would need moviepy."""
        from tensorboardX.proto.summary_pb2 import Summary

        height, width, channels = shape
        image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=path.read_bytes())
        # The public method takes only tensors; it encodes them and makes this call.
        with name_in_errors(self._folder):
            self._open()._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def truncate(self, step: int) -> None:
        """See `Logger`: a purge mark hides later steps."""
        self.close()
        self._open(purge_step=step + 1)

    def close(self) -> None:
        """Finish the file. A later write starts a new one."""
        if self._writer is not None:
            with name_in_errors(self._folder):
                self._writer.close()
            self._writer = None

    def _open(self, purge_step: int | None = None) -> Any:
        if self._writer is None:
            from tensorboardX import SummaryWriter  # takes a second; not needed to read logs or write results

            self._writer = SummaryWriter(
                str(self._folder),
                purge_step=purge_step,
                flush_secs=10,
                # Default names are unique only per second, and a file of the same name replaces the first one.
                filename_suffix=f".{time.time_ns()}",
            )
        return self._writer


LOGGERS: tuple[type[Logger], ...] = (TensorBoard,)
"""The trackers of every run, besides `metrics.jsonl` and `media/`."""


class MetricWriter:
    """A writer of a run's scalars and pictures. It does nothing unless `enabled`, which only process 0 may be.

    A run that resumes from the checkpoint of step s creates a writer for the same folder and calls `truncate(s)`. Its
    files then look as if it had never stopped. `time` continues from the last kept line, without the pause.
    """

    def __init__(self, workdir: PathLike, enabled: bool = True):
        self.enabled = enabled
        self._workdir = Path(workdir)
        self._metrics = self._workdir / "metrics.jsonl"
        self._loggers = [logger(self._workdir) for logger in LOGGERS] if enabled else []
        self._started = time.monotonic()
        if enabled:
            self._workdir.mkdir(parents=True, exist_ok=True)
            _cut_torn_line(self._metrics)
            self._continue_clock()

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Append one line of scalars, given as numbers or one-element arrays.

        NaN and infinity become null in the file, because JSON cannot represent them.

        Raises:
          ValueError: a name is `step` or `time`.
        """
        if not self.enabled:
            return
        if taken := [name for name in RESERVED_KEYS if name in scalars]:
            raise ValueError(f"scalar {taken[0]!r}: each line of metrics.jsonl has this key, rename it")
        values = {name: np.asarray(value).item() for name, value in scalars.items()}
        line = {"step": int(step), "time": round(time.monotonic() - self._started, 3), **values}
        with name_in_errors(self._metrics), self._metrics.open("a") as file:
            file.write(dumps(line) + "\n")
        for logger in self._loggers:
            logger.write_scalars(step, values)

    def write_images(self, step: int, images: Mapping[str, Picture]) -> None:
        """Write each image to `media/NAME.png`, replacing the previous one, and to the trackers."""
        if self.enabled:
            for name, image in images.items():
                self._write_picture(step, name, ".png", encode_png(image), image.shape)

    def write_gif(self, step: int, name: str, frames: Sequence[Picture], fps: int | float) -> None:
        """Write an animation to `media/NAME.gif`, replacing the previous one, and to the trackers."""
        if self.enabled:
            self._write_picture(step, name, ".gif", encode_gif(frames, fps), frames[0].shape)

    def truncate(self, step: int) -> None:
        """Drop everything after `step`."""
        if not self.enabled:
            return
        kept = [line for line in read_metrics(self._metrics) if line["step"] <= step]
        write_atomic(self._metrics, "".join(dumps(line) + "\n" for line in kept).encode())
        self._continue_clock()
        for logger in self._loggers:
            logger.truncate(step)

    def close(self) -> None:
        """Flush the trackers. A later write may follow."""
        for logger in self._loggers:
            logger.close()

    def _continue_clock(self) -> None:
        lines = read_metrics(self._metrics)
        self._started = time.monotonic() - (lines[-1]["time"] if lines else 0)

    def _write_picture(self, step: int, name: str, suffix: str, encoded: bytes, shape: tuple[int, ...]) -> None:
        path = self._workdir / "media" / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, encoded)
        for logger in self._loggers:
            logger.write_picture(step, name, path, shape)


def read_metrics(path: PathLike) -> list[dict[str, Any]]:
    """Return the lines of a `metrics.jsonl`, none if there is no file; null reads as NaN.

    A last line without a line break was cut short by a kill and is skipped.

    Raises:
      LogError: any other line is not a JSON object with `step` and `time`.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines = []
    for number, text in enumerate(path.read_text(errors="replace").split("\n")[:-1], 1):
        try:
            line = json.loads(text)
            line |= {"step": int(line["step"]), "time": float(line["time"])}
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise LogError(f"{path}:{number}: no JSON object with step and time: {text[:80]!r}") from error
        lines.append({key: math.nan if value is None else value for key, value in line.items()})
    return lines


def _cut_torn_line(path: Path) -> None:
    """Remove a last line that a kill cut short; otherwise the next line would be appended to it."""
    if path.exists() and not (data := path.read_bytes()).endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)
