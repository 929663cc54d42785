"""The log of a run: `metrics.jsonl`, TensorBoard and pictures.

WORKDIR/metrics.jsonl    one JSON object a line: `step`, `time` (seconds of training) and the scalars
WORKDIR/tensorboard/     the same scalars, and the pictures
WORKDIR/media/           the newest picture of each name, as PNG or GIF
"""

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
    """A `metrics.jsonl` with a line that is none of ours."""


class MetricWriter:
    """Writes the scalars and pictures of a run; does nothing if not `enabled`, which only process 0 may be.

    A run that resumes from the checkpoint of step s makes a writer for the same folder and calls
    `truncate(s)`: its files then read as if it had never stopped. `time` counts on from the last kept line,
    without the pause.
    """

    def __init__(self, workdir: PathLike, enabled: bool = True):
        self.enabled = enabled
        self._workdir = Path(workdir)
        self._metrics = self._workdir / "metrics.jsonl"
        self._tensorboard: Any = None
        self._started = time.monotonic()
        if enabled:
            self._workdir.mkdir(parents=True, exist_ok=True)
            _cut_torn_line(self._metrics)
            self._continue_clock()

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Append one line of numbers, or arrays of one number.

        NaN and infinity become null in the file, as JSON has no number for them.

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
        with name_in_errors(self._workdir / "tensorboard"):
            for name, value in values.items():
                self._summaries().add_scalar(name, value, step)

    def write_images(self, step: int, images: Mapping[str, Picture]) -> None:
        """Each as `media/NAME.png`, in place of the one before, and in TensorBoard."""
        if self.enabled:
            for name, image in images.items():
                self._write_picture(step, name, ".png", encode_png(image), image.shape)

    def write_gif(self, step: int, name: str, frames: Sequence[Picture], fps: int | float) -> None:
        """As `media/NAME.gif`, in place of the one before, and in TensorBoard.

        There it is an image, which TensorBoard plays too; tensorboardX's video summary would need moviepy.
        """
        if self.enabled:
            self._write_picture(step, name, ".gif", encode_gif(frames, fps), frames[0].shape)

    def truncate(self, step: int) -> None:
        """Drop what was written after `step`: lines of `metrics.jsonl`; TensorBoard by a purge mark."""
        if not self.enabled:
            return
        kept = [line for line in read_metrics(self._metrics) if line["step"] <= step]
        write_atomic(self._metrics, "".join(dumps(line) + "\n" for line in kept).encode())
        self._continue_clock()
        self.close()
        self._summaries(purge_step=step + 1)

    def close(self) -> None:
        """Finish the TensorBoard file. A later write starts another one."""
        if self._tensorboard is not None:
            with name_in_errors(self._workdir / "tensorboard"):
                self._tensorboard.close()
            self._tensorboard = None

    def _continue_clock(self) -> None:
        lines = read_metrics(self._metrics)
        self._started = time.monotonic() - (lines[-1]["time"] if lines else 0)

    def _summaries(self, purge_step: int | None = None) -> Any:
        if self._tensorboard is None:
            from tensorboardX import SummaryWriter  # a second; reading logs and writing results do without

            self._tensorboard = SummaryWriter(
                str(self._workdir / "tensorboard"),
                purge_step=purge_step,
                flush_secs=10,
                # Names are unique to the second only, and a second file of the same name replaces the first.
                filename_suffix=f".{time.time_ns()}",
            )
        return self._tensorboard

    def _write_picture(self, step: int, name: str, suffix: str, encoded: bytes, shape: tuple[int, ...]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        path = self._workdir / "media" / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, encoded)
        height, width, channels = shape
        image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=encoded)
        # Only tensors have a public method; this is what it calls once they are encoded.
        with name_in_errors(self._workdir / "tensorboard"):
            file_writer = self._summaries()._get_file_writer()
            file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)


def read_metrics(path: PathLike) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, none where there is no file; null reads as NaN.

    A last line without its line end was cut short by a kill and is left out.

    Raises:
      LogError: any other line that is no JSON object with `step` and `time`.
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
    """Remove a last line that a kill cut short: the next line would be glued to it."""
    if path.exists() and not (data := path.read_bytes()).endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)
