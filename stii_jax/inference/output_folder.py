"""The folder of a decomposition, protected from overwriting and written atomically.

An earlier result is never lost by accident. A folder that is not empty is refused, unless the user agrees to replace
the files of an earlier decomposition. All other files stay in any case.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stii_jax.data.errors import DataError
from stii_jax.inference.formats import FORMATS
from stii_jax.inference.object_clips import CLIPS
from stii_jax.inference.outputs import ANIMATION, ARCHIVE, FUTURES, FUTURES_PICTURE, IMAGES, OVERLAY, STRIP, TABLE
from stii_jax.inference.track_request import SCORES
from stii_jax.storage.files import RUN_FOLDERS, write_results

SUMMARY = "decomposition.json"
"""The summary, which is moved last: if it exists, every file exists."""
NAMES = (OVERLAY, STRIP, ANIMATION, ARCHIVE, IMAGES, TABLE, SUMMARY)
"""The files that every decomposition writes."""
OF_ONE_VIEW = (STRIP, ANIMATION)
"""The files that are not written for tiles."""
OF_FUTURES = (FUTURES, FUTURES_PICTURE)
"""The files that are written for sampled futures."""
EVERY_NAME = {*NAMES, *OF_FUTURES, SCORES, CLIPS, *(known.name for known in FORMATS.values())}

_UNFINISHED = ".unfinished"
_JOB = "job.json"
_OURS = {IMAGES: re.compile(r"\d{6,}\.png"), CLIPS: re.compile(r"slot_\d+\.mp4")}
"""Patterns of the files in subfolders of results."""


def check_output(output: Path, names: Iterable[str], job: Mapping[str, Any], overwrite: bool) -> None:
    """Raise `DataError` if writing would lose a file.

    Args:
        output: the folder; it may be missing.
        names: names of the files and folders to write there.
        job: identification of this decomposition, so that the same command may replace a killed attempt.
        overwrite: replace the files of an earlier decomposition.

    Raises:
        DataError: the folder belongs to a run, or holds files that must not be replaced.
        OSError: the folder cannot be read.
    """
    path = output.resolve()
    for folder in (path, *path.parents):
        inside = path.relative_to(folder).parts[:1]
        if _is_run(folder) and (not inside or inside[0] in RUN_FOLDERS):
            raise DataError(
                f"{output} is {'' if not inside else 'in '}the folder of a run, which is protected: give another "
                f"--output, such as {folder / 'found'}"
            )
    present = {file.name for file in output.iterdir()} - {_UNFINISHED} if output.exists() else set()
    killed = _read(output / _UNFINISHED / _JOB)
    resumed = killed.get("job") == _plain(job) and not killed.get("replaces") and present <= _owned(output)
    if present and not overwrite and not resumed:
        holds = "the results of a decomposition" if SUMMARY in present else f"{len(present)} files"
        raise DataError(
            f"{output} holds {holds}: give another --output, or --overwrite to replace the files of an earlier "
            "decomposition"
        )
    if foreign := sorted(present & set(names) - _owned(output)):
        raise DataError(f"{output / foreign[0]} exists, but is not from a decomposition: give another --output")


@contextlib.contextmanager
def replace_output(output: Path, names: Iterable[str], job: Mapping[str, Any], overwrite: bool) -> Iterator[Path]:
    """Yield a folder to write to. Its files then replace those in `output`, or are deleted if there was an error.

    Arguments and errors are those of `check_output`. A killed process leaves the folder, which the next call deletes.

    Raises:
        DataError: another decomposition writes to `output`.
        OSError: `output` cannot be written to.
    """
    check_output(output, names, job, overwrite)
    with _locked(output):
        check_output(output, names, job, overwrite)  # another decomposition may have finished meanwhile
        owned, replaces = _owned(output), (output / SUMMARY).exists()
        folder = output / _UNFINISHED
        shutil.rmtree(folder, ignore_errors=True)  # left from a killed process
        folder.mkdir(parents=True)
        try:
            write_results(folder / _JOB, {"job": job, "replaces": replaces, "owns": sorted(owned | set(names))})
            yield folder
            os.sync()  # contents must reach the disk before names
            written = sorted(folder.iterdir(), key=lambda path: path.name == SUMMARY)
            (output / SUMMARY).unlink(missing_ok=True)
            for path in written:
                if path.name != _JOB:
                    _replace(path, output / path.name)
            for name in owned - {path.name for path in written}:  # left from another video
                _remove(output / name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Make the folder and lock it against other decompositions, if the file system can lock folders (NFS cannot)."""
    output.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(output, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"another decomposition is writing to {output}: wait for its end, or give another --output"
            ) from error
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOTSUP):
                raise
        yield
    finally:
        os.close(descriptor)


def _is_run(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any((folder / name).is_dir() for name in RUN_FOLDERS)


def _owned(output: Path) -> set[str]:
    """The names of files that decompositions wrote: the last one, and one that was killed while moving them."""
    owned: set[str] = set()
    if (output / SUMMARY).is_file():
        owned |= {SUMMARY, SCORES, *_read(output / SUMMARY).get("files", NAMES)}
    owned |= set(_read(output / _UNFINISHED / _JOB).get("owns", ()))
    return owned & EVERY_NAME


def _replace(path: Path, target: Path) -> None:
    """Move a result into place. Foreign files in a folder of results are kept."""
    if target.is_dir():
        old = path.with_name(f"old_{path.name}")
        target.rename(old)
        for foreign in _foreign(old):
            foreign.rename(path / foreign.name)
    path.replace(target)


def _remove(target: Path) -> None:
    """Delete an old result. A folder with foreign files keeps those."""
    if target.is_dir():
        for path in set(target.iterdir()) - set(_foreign(target)):
            path.unlink()
        if not any(target.iterdir()):
            target.rmdir()
    else:
        target.unlink(missing_ok=True)


def _foreign(folder: Path) -> list[Path]:
    ours = _OURS[folder.name.removeprefix("old_")]
    return [path for path in folder.iterdir() if not ours.fullmatch(path.name)]


def _read(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file; empty if there is none."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _plain(job: Mapping[str, Any]) -> Any:
    """Convert the job to the form in which JSON returns it."""
    return json.loads(json.dumps(job))
