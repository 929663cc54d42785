"""Measure the cost of reading from many files: `python -m stii_jax.data.pipeline.simulate --shards 1000 [--json]`.

Builds bouncing balls in the requested number of files and reads them with training's own code. It measures the time to
open the dataset, open files, memory and clips per second. It also checks that any number of hosts see each clip once
per pass, in the same order. docs/scaling.md has the figures. The files are removed at the end.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from absl import logging

from stii_jax.data.bouncing_balls import BouncingBalls
from stii_jax.data.builder import VideoBuilder
from stii_jax.data.catalog import resolve_config
from stii_jax.data.errors import DataError
from stii_jax.data.pipeline import tfds
from stii_jax.data.pipeline.source import VideoDataset, open_dataset
from stii_jax.devices.machine import peak_bytes

_MEMORY = Path("/proc/self/statm")  # on Linux only

Figures = dict[str, bool | int | float]

_THREADS = 1, 2, 4, 8


class Numbered(BouncingBalls, skip_registration=True):  # type: ignore[call-arg]
    """A stand-in for a dataset's builder whose clips are record numbers instead of frames.

    Args:
        builder: the dataset.
        read: True to read the records from the files as well.
        size: pretended number of training videos, which then cannot be read; 0 is the dataset's own.
    """

    def __init__(self, builder: VideoBuilder, read: bool = False, size: int = 0):
        self._builder, self._read, self._size = builder, read, size

    @property
    def info(self) -> Any:
        """The info of the training split alone."""
        size = self._size
        pretended = SimpleNamespace(num_examples=size, num_shards=1, shard_lengths=[size], filepaths=[""])
        return SimpleNamespace(splits={"train": pretended if size else self._builder.info.splits["train"]})

    @property
    def builder_config(self) -> Any:  # type: ignore[override]
        """The dataset's config."""
        return self._builder.builder_config

    def as_data_source(self, split: str) -> Any:
        """The numbers of the records."""
        return _Numbers(self._builder.as_data_source(split) if self._read else None)

    def decode(self, example: dict[str, Any], start: int, num_frames: int) -> dict[str, np.ndarray]:
        """Return the record's number."""
        del start, num_frames
        return example


class _Numbers:
    def __init__(self, records: Any):
        self._records = records

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if self._records is not None:
            self._records[index]
        return {"record": np.array(index)}


def simulate(folder: Path, num_shards: int, num_videos: int, hosts: Sequence[int], seconds: float) -> Figures:
    """Build the files in `folder`, read them, and return the measurements that `--json` prints.

    Args:
        folder: an empty folder.
        num_shards: files of each split.
        num_videos: training videos.
        hosts: numbers of hosts whose order is compared with that of one host.
        seconds: duration of each rate measurement.

    Raises:
        DataError: more files than videos.
    """
    began = time.monotonic()
    # Build in another process, so that its memory is not measured.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        options = pool.submit(build, folder, num_shards, num_videos).result()
    built, before, began = time.monotonic() - began, _held(), time.monotonic()
    source = open_dataset("bouncing_balls", "color4", options, str(folder))
    figures: Figures = {"shards": num_shards, "videos": num_videos, "build_seconds": built}
    figures |= {"open_seconds": time.monotonic() - began, **_more(before, "opened")}
    figures |= measure_reading(source, seconds) | check_hosts(source, hosts)
    return figures | many_records(source, seconds)


def build(folder: Path, num_shards: int, num_videos: int) -> dict[str, int]:
    """Build the dataset with each split in `num_shards` files. Return the options to open it with."""
    if not 1 <= num_shards <= num_videos:
        raise DataError(f"--shards={num_shards}: give 1 to the number of videos, {num_videos}")
    # TFDS cuts all splits into the same number of files.
    options = {"num_train": num_videos, "num_validation": num_shards, "num_test": num_shards}
    config = resolve_config("bouncing_balls", "color4", options)
    logging.set_verbosity(logging.ERROR)  # TFDS warns about any config with options
    builder = BouncingBalls(config=config, data_dir=str(folder), file_format="array_record")
    cut = tfds.DownloadConfig(num_shards=num_shards)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # TFDS's messages
        builder.download_and_prepare(download_dir=str(folder), download_config=cut, file_format="array_record")
    return options


def measure_reading(source: VideoDataset, seconds: float) -> Figures:
    """Measure the rates of clips of four frames in batches of 32.

    `read` is reading and deserializing; `clips` includes drawing the frames. `cold` is `read` of files that are not in
    the page cache. `handles` and `megabytes` are the increases after a pass and after deleting the iterator.
    """
    reading = Numbered(source.builder, read=True)
    before, batches = _held(), VideoDataset(reading).train_batches(4, 32, seed=0)
    for _ in range(-(-source.split_sizes["train"] // 32)):
        next(batches)
    figures = _more(before, "read")
    del batches
    _wind_down(before[0])
    figures |= _more(before, "closed")
    for threads in _THREADS:
        figures |= _rate(VideoDataset(reading, threads), f"read_{threads}_threads", seconds)
        figures |= _rate(VideoDataset(source.builder, threads), f"clips_{threads}_threads", seconds)
    _forget(source)
    return figures | _rate(VideoDataset(reading, 8), "cold_8_threads", seconds)


def check_hosts(source: VideoDataset, hosts: Sequence[int], batch_size: int = 256) -> Figures:
    """Compare the order of two passes over several hosts with that of one host, and with the stored order.

    If all orders are equally likely, the correlations are 0. The mean distance between a record's two places is a third
    of the records. Pairs within a batch of 32 lie in one file as often as expected, so `same_file` is 1.
    """
    size = source.split_sizes["train"]
    numbers, steps = VideoDataset(Numbered(source.builder), 1), -(-2 * size // batch_size)
    one = read_order(numbers, batch_size, steps, 1)
    first, second = one[:size], one[size : 2 * size]
    stored = np.arange(size)
    lengths = np.array(source.builder.info.splits["train"].shard_lengths)
    expected = (lengths * (lengths - 1)).sum() / (size * (size - 1))
    return {
        "every_record_once_a_pass": all(np.array_equal(np.sort(order), stored) for order in (first, second)),
        **{f"{n}_hosts_as_one": np.array_equal(read_order(numbers, batch_size, steps, n), one) for n in hosts},
        "correlation_with_stored": float(np.corrcoef(stored, first)[0, 1]),
        "correlation_of_passes": float(np.corrcoef(np.argsort(first), np.argsort(second))[0, 1]),
        "correlation_of_neighbours": float(np.corrcoef(first[1:], first[:-1])[0, 1]),
        "mean_distance": float(np.abs(first - stored).mean() / size),
        "same_file": _same_file(np.repeat(np.arange(len(lengths)), lengths)[first], 32) / expected,
    }


def _same_file(files: np.ndarray, batch_size: int) -> float:
    """The fraction of pairs within a batch that lie in one file, given the records' files in reading order."""
    batches = files[: len(files) // batch_size * batch_size].reshape(-1, batch_size)
    same = (batches[:, :, None] == batches[:, None]).sum() - batches.size
    return float(same / (batches.size * (batch_size - 1)))


def read_order(numbers: VideoDataset, batch_size: int, num_steps: int, num_hosts: int) -> np.ndarray:
    """The records in the order in which training sees them. The hosts' parts of each batch are concatenated."""
    parts = []
    for host in range(num_hosts):
        batches = numbers.train_batches(1, batch_size, seed=0, process_index=host, process_count=num_hosts)
        parts.append([next(batches)["record"] for _ in range(num_steps)])
    return np.concatenate(parts, axis=1).reshape(-1)


def many_records(source: VideoDataset, seconds: float, size: int = 10**8, num_batches: int = 1000) -> Figures:
    """Measure the order of `size` videos without files: the cost per clip, and of resuming at step 10**7."""
    numbers = VideoDataset(Numbered(source.builder, size=size), 1)
    figures: Figures = {}
    for step in (0, 10**7):
        before, began = _held(), time.monotonic()
        next(numbers.train_batches(4, 32, seed=0, start_step=step))
        figures[f"first_batch_ms_at_step_{step}"] = 1e3 * (time.monotonic() - began)
        figures |= _more(before, f"at_step_{step}")
    first = read_order(numbers, 32, num_batches, 1)
    figures["same_file_of_many"] = 1000 * _same_file(first // (size // 1000), 32)  # for 1,000 equal files
    return figures | _rate(numbers, "order_of_many", seconds)


def _rate(source: VideoDataset, name: str, seconds: float) -> Figures:
    """The clips per second, and the processor time per clip, which excludes other programs."""
    batches = source.train_batches(4, 32, seed=0)
    next(batches)
    count, began, used = 0, time.monotonic(), time.process_time()
    while (elapsed := time.monotonic() - began) < seconds:
        next(batches)
        count += 32
    cpu = time.process_time() - used
    return {f"{name}_a_second": count / elapsed, f"{name}_cpu_microseconds": 1e6 * cpu / count}


def _held() -> tuple[int, int]:
    """The numbers of open file handles and of resident bytes; on other systems than Linux, of peak bytes."""
    try:
        resident = int(_MEMORY.read_text().split()[1]) * resource.getpagesize()
    except FileNotFoundError:
        resident = peak_bytes()
    return len(os.listdir("/dev/fd")), resident


def _more(before: tuple[int, int], stage: str) -> Figures:
    handles, size = _held()
    return {f"handles_{stage}": handles - before[0], f"megabytes_{stage}": (size - before[1]) / 1e6}


def _wind_down(handles: int) -> None:
    """Wait for the threads of a deleted iterator to finish their current work, for at most five seconds."""
    end = time.monotonic() + 5.0
    while _held()[0] > handles and time.monotonic() < end:
        time.sleep(0.02)


def _forget(source: VideoDataset) -> None:
    """Ask the system to drop the files from the page cache, so that they are read from disk."""
    for path in source.builder.info.splits["train"].filepaths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):  # macOS lacks it, and reads from memory
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m stii_jax.data.pipeline.simulate", description=__doc__)
    parser.add_argument("--shards", type=int, default=1000, help="files of each split")
    parser.add_argument("--videos", type=int, default=50_000, help="training videos")
    parser.add_argument("--hosts", type=int, nargs="+", default=[4, 256], help="divisors of 256")
    parser.add_argument("--seconds", type=float, default=3.0, help="duration of each rate measurement")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            figures = simulate(Path(folder), options.shards, options.videos, options.hosts, options.seconds)
    except (DataError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value:.6g}" if isinstance(value, float) else f"{name:32} {value}")


if __name__ == "__main__":
    main()
