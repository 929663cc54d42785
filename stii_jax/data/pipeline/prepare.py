"""Builds a dataset's files where they are missing, and refuses files that are not whole."""

import contextlib
import errno
import fcntl
import io
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from absl import logging

from stii_jax.data.builder import VideoBuilder, partial_dir
from stii_jax.data.errors import REBUILD, DataError
from stii_jax.data.options import VideoConfig
from stii_jax.data.pipeline import tfds
from stii_jax.data.pipeline.spool import Spool

_FILES_AT_A_TIME = 32


def build_if_missing(
    builder_class: type[VideoBuilder],
    config: VideoConfig,
    data_dir: Path,
    manual_dir: Path,
    *,
    overwrite: bool = False,
) -> VideoBuilder:
    """A builder whose files are there and whole, after building them if there were none.

    Several processes may ask at once: one builds, the others wait for it.

    Args:
        builder_class: the dataset.
        config: its variant, with the options applied.
        data_dir: the folder of all datasets.
        manual_dir: the files that the user has fetched, for datasets that need some.
        overwrite: build anew, even if there are files.

    Raises:
        DataError: the folder cannot be written to, its files are incomplete, or what it is made from is missing, has
            changed or is of no use.
        OSError: writing failed, e.g. because the disk is full.
    """
    folder = data_dir / builder_class.name / config.name / str(builder_class.VERSION)
    partial = partial_dir(folder)
    # A kill right after the dataset was renamed leaves the download folder beside a complete dataset.
    if overwrite or not folder.exists() or partial.exists() or any(folder.parent.glob("incomplete.*")):
        with _lock(folder):
            # Whoever holds the lock is alone here: these are left from processes that were killed.
            for stale in folder.parent.glob("incomplete.*"):
                shutil.rmtree(stale)
            if overwrite:
                _remove(folder)
                shutil.rmtree(partial, ignore_errors=True)
            if not folder.exists():
                builder = _make_builder(builder_class, config, data_dir)
                _check_manual(builder, manual_dir)
                _build(builder, folder, manual_dir)
            shutil.rmtree(partial, ignore_errors=True)
    return _open(builder_class, config, data_dir, folder)


def _remove(folder: Path) -> None:
    """Removes a dataset under a name that is not its own: a kill does not leave half of one."""
    if folder.exists():
        doomed = folder.rename(folder.with_name(f"incomplete.{folder.name}"))
        shutil.rmtree(doomed)


def _make_builder(builder_class: type[VideoBuilder], config: VideoConfig, data_dir: Path) -> VideoBuilder:
    """The builder, which reads what is on disk now."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # tfds warns of any config with options
    try:
        return builder_class(config=config, data_dir=str(data_dir), file_format="array_record")
    finally:
        logging.set_verbosity(verbosity)


def _open(builder_class: type[VideoBuilder], config: VideoConfig, data_dir: Path, folder: Path) -> VideoBuilder:
    """The builder of files that are whole, as far as that can be seen without reading every video."""
    _check_info(folder)
    try:
        builder = _make_builder(builder_class, config, data_dir)
        _check_shards(builder)
        _check_fingerprint(builder, folder)
    except DataError:
        raise
    except Exception as error:  # tfds and protobuf raise one of their own for everything that may be wrong with JSON
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(
            f"{folder} is damaged: its dataset_info.json is not what was written ({cause}). {REBUILD}"
        ) from error
    return builder


def _check_manual(builder: VideoBuilder, manual_dir: Path) -> None:
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS and not (manual_dir.is_dir() and any(manual_dir.iterdir())):
        raise DataError(
            f"{builder.name} is made from files that you have to fetch, and there are none in {manual_dir}. "
            f"{' '.join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())} Put them there, or name their folder in "
            "config.data.manual_dir (--manual_dir of stii_jax.data.build)."
        )


def _build(builder: VideoBuilder, folder: Path, manual_dir: Path) -> None:
    print(f"Building {builder.name}/{builder.builder_config.name} in {folder}", flush=True)
    began = time.monotonic()
    tfds.disable_progress_bar()
    try:
        # tfds writes to a folder of another name, renaming it at the end. For downloads, of which there are none, it
        # makes a folder, too: here, where the next build finds it if this one is killed.
        with (
            contextlib.redirect_stdout(_OwnLines(sys.stdout)),
            tempfile.TemporaryDirectory(prefix="incomplete.", dir=folder.parent) as downloads,
            tfds.shuffled_by(Spool),
        ):
            builder.download_and_prepare(
                download_dir=downloads,
                download_config=tfds.DownloadConfig(manual_dir=str(manual_dir)),
                file_format="array_record",
            )
    except (OSError, RuntimeError) as error:  # the writer of array_record raises the latter
        code = getattr(error, "errno", None) or errno.EIO
        raise OSError(
            code,
            f"could not write the dataset to {folder}: {error}. Free space there, or give another folder as data_dir "
            "or in $STII_DATA_DIR.",
        ) from error
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"Built {folder}: {size / 1e6:.1f} MB in {time.monotonic() - began:.1f} s", flush=True)


class _OwnLines(io.TextIOBase):
    """Passes on what is printed but for the messages of tfds, which are about downloads."""

    def __init__(self, out: Any):
        self.out = out
        self.hidden = False

    def write(self, text: str) -> int:
        if "Downloading and preparing dataset" in text or "downloaded and prepared to" in text:
            self.hidden = True
        if not self.hidden:
            self.out.write(text)
        if text.endswith("\n"):
            self.hidden = False
        return len(text)

    def flush(self) -> None:
        self.out.flush()


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Holds the dataset's lock; the system frees it even if this process is killed."""
    path = folder.parent / "build.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise DataError(
            f"cannot write to the data folder {path.parent}: {error}. "
            "Give a folder you may write to as data_dir, or in $STII_DATA_DIR."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another process that builds in {path.parent}", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_info(folder: Path) -> None:
    path = folder / "dataset_info.json"
    try:
        json.loads(path.read_text())
    except (FileNotFoundError, ValueError) as error:
        raise DataError(f"{folder} is incomplete: {path.name} is missing or cut short. {REBUILD}") from error


def _check_shards(builder: VideoBuilder) -> None:
    """Checks that every file is there with as many videos as were written; many at a time, for slow storage."""
    lengths = {
        Path(path): length
        for info in builder.info.splits.values()
        for path, length in zip(info.filepaths, info.shard_lengths)
    }
    with ThreadPoolExecutor(_FILES_AT_A_TIME) as pool:
        for (path, length), found in zip(lengths.items(), pool.map(_num_records, lengths)):
            if found != length:
                raise DataError(f"{path} is incomplete: {found} of {length} videos can be read. {REBUILD}")


def _check_fingerprint(builder: VideoBuilder, folder: Path) -> None:
    """Files that are gone cannot have changed: a dataset outlives what it was made from."""
    now = builder.fingerprint()
    if now and now != (builder.info.metadata or {}).get("fingerprint"):
        raise DataError(f"the files that {folder} was made from have changed since. {REBUILD}")


def _num_records(path: Path) -> int:
    """How many records a shard holds; 0 for a file that is missing or cut short, which loses its index."""
    if not path.exists():
        return 0
    try:
        reader = tfds.ArrayRecordReader(str(path))
        found = reader.num_records() if reader.ok() else 0
        reader.close()
    except (RuntimeError, ValueError, IndexError):
        return 0
    return found
