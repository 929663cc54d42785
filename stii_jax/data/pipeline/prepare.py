"""Build a dataset's files if they are missing, and reject incomplete ones."""

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
    """Return a builder whose files are complete, after building them if there were none.

    Several processes may call this at once: one builds, and the others wait for it.

    Args:
        builder_class: the dataset.
        config: its variant, with the options applied.
        data_dir: the folder of all datasets.
        manual_dir: the folder of the files that the user has downloaded, for datasets that need some.
        overwrite: rebuild the dataset if it exists.

    Raises:
        DataError: the folder cannot be written to, its files are incomplete, or the source files are missing, have
            changed or are unusable.
        OSError: writing failed, e.g. because the disk is full.
    """
    folder = data_dir / builder_class.name / config.name / str(builder_class.VERSION)
    partial = partial_dir(folder)
    # A kill right after the dataset was renamed leaves the download folder beside a complete dataset.
    if overwrite or not folder.exists() or partial.exists() or any(folder.parent.glob("incomplete.*")):
        with _lock(folder):
            # This process holds the lock, so these folders are left over from killed processes.
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
    """Rename a dataset, then remove it, so that a killed process does not leave half a dataset behind."""
    if folder.exists():
        doomed = folder.rename(folder.with_name(f"incomplete.{folder.name}"))
        shutil.rmtree(doomed)


def _make_builder(builder_class: type[VideoBuilder], config: VideoConfig, data_dir: Path) -> VideoBuilder:
    """Return the builder, which reads the current state of the disk."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # TFDS warns about any config with options
    try:
        return builder_class(config=config, data_dir=str(data_dir), file_format="array_record")
    finally:
        logging.set_verbosity(verbosity)


def _open(builder_class: type[VideoBuilder], config: VideoConfig, data_dir: Path, folder: Path) -> VideoBuilder:
    """Return the builder after checking that its files are complete, short of reading every video."""
    _check_info(folder)
    try:
        builder = _make_builder(builder_class, config, data_dir)
        _check_shards(builder)
        _check_fingerprint(builder, folder)
    except DataError:
        raise
    except Exception as error:  # TFDS and protobuf have their own errors for every defect of the JSON file
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"{folder} is damaged: its dataset_info.json is corrupt ({cause}). {REBUILD}") from error
    return builder


def _check_manual(builder: VideoBuilder, manual_dir: Path) -> None:
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS and not (manual_dir.is_dir() and any(manual_dir.iterdir())):
        raise DataError(
            f"{builder.name} is built from files that you have to download, and {manual_dir} has none. "
            f"{' '.join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())} Put them there, or set config.data.manual_dir "
            "(--manual_dir of stii_jax.data.build) to their folder."
        )


def _build(builder: VideoBuilder, folder: Path, manual_dir: Path) -> None:
    print(f"Building {builder.name}/{builder.builder_config.name} in {folder}", flush=True)
    began = time.monotonic()
    tfds.disable_progress_bar()
    try:
        # TFDS writes to a temporary folder and renames it at the end. It also makes a folder for downloads, although
        # there are none. It is placed here, so that the next build finds it if this one is killed.
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
    except (OSError, RuntimeError) as error:  # array_record's writer raises the latter
        code = getattr(error, "errno", None) or errno.EIO
        raise OSError(
            code,
            f"could not write the dataset to {folder}: {error}. Free some space, or give another folder as data_dir "
            "or in $STII_DATA_DIR.",
        ) from error
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"Built {folder}: {size / 1e6:.1f} MB in {time.monotonic() - began:.1f} s", flush=True)


class _OwnLines(io.TextIOBase):
    """A stream that forwards all output except TFDS's messages, which speak of downloads."""

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
    """Hold the dataset's lock. The system releases it even if this process is killed."""
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
        raise DataError(f"{folder} is incomplete: {path.name} is missing or truncated. {REBUILD}") from error


def _check_shards(builder: VideoBuilder) -> None:
    """Check that every file has as many videos as were written; many at a time, for slow storage."""
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
    """Check that the source files have not changed. They may be gone: a dataset outlives them."""
    now = builder.fingerprint()
    if now and now != (builder.info.metadata or {}).get("fingerprint"):
        raise DataError(f"the source files of {folder} have changed since it was built. {REBUILD}")


def _num_records(path: Path) -> int:
    """The number of records in a shard; 0 for a file that is missing or truncated, which loses its index."""
    if not path.exists():
        return 0
    try:
        reader = tfds.ArrayRecordReader(str(path))
        found = reader.num_records() if reader.ok() else 0
        reader.close()
    except (RuntimeError, ValueError, IndexError):
        return 0
    return found
