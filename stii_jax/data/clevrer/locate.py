"""Locate CLEVRER's files in the user's folder: unpacked, under either naming scheme, or still in their archives."""

import contextlib
import dataclasses
import functools
import re
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stii_jax.data.errors import DataError

PARTS = {"train": range(10_000), "validation": range(10_000, 15_000), "test": range(15_000, 20_000)}
"""The video numbers of each part of CLEVRER, by its name in folders and archives."""


class _Kind(NamedTuple):
    """A kind of file. `{}` stands for a part of CLEVRER."""

    file: str
    """Pattern of the file names; the group is the number."""
    folders: tuple[str, ...]
    """Folders of the files, at any depth: the archives have one subfolder per 1000 files."""
    archives: tuple[str, ...]


_KINDS = {
    "video": _Kind(r"video_(\d{5})\.mp4", ("video_{}", "videos/{}"), ("video_{}.zip",)),
    "annotation": _Kind(r"annotation_(\d{5})\.json", ("annotation_{}", "annotations/{}"), ("annotation_{}.zip",)),
    "proposal": _Kind(
        r"(?:proposal|sim)_(\d{5})\.json",
        ("derender_proposals", "processed_proposals"),
        ("derender_proposals.zip", "processed_proposals.zip"),
    ),
    "mask": _Kind(r"mask_(\d{5})\.mp4", ("mask_{}", "masks/{}"), ("mask_{}.zip",)),
}


@dataclasses.dataclass(frozen=True)
class Found:
    """A file in a folder or in an archive."""

    path: Path
    """Path of the file, or of its archive."""
    member: str = ""
    archive: zipfile.ZipFile | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def read(self) -> bytes:
        """Read the whole file. Raises `DataError` if it cannot be read."""
        try:
            return self.archive.read(self.member) if self.archive else self.path.read_bytes()
        # The errors of zipfile for damage, for encryption and for an unknown compression.
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, ValueError) as error:
            raise DataError(f"{self} cannot be read: {error}") from error

    @contextlib.contextmanager
    def on_disk(self) -> Iterator[Path]:
        """Provide the path of the file or of a temporary copy. A `DataError` about the copy then names the file."""
        if self.archive is None:
            yield self.path
            return
        with tempfile.NamedTemporaryFile(suffix=PurePosixPath(self.member).suffix) as copy:
            copy.write(self.read())
            copy.flush()
            try:
                yield Path(copy.name)
            except DataError as error:
                raise DataError(str(error).replace(copy.name, str(self))) from error


class Locator:
    """The files of a folder, by kind and number."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = threading.Lock()
        self._indices: dict[str, dict[int, Found]] = {}

    def index(self, kind: str) -> dict[int, Found]:
        """Return all files of a kind, by number: "video", "annotation", "proposal" or "mask".

        Raises:
            DataError: an archive is damaged, or is not one of CLEVRER's.
        """
        with self._lock:  # several threads would read the same archive
            if kind not in self._indices:
                self._indices[kind] = self._search(_KINDS[kind])
            return self._indices[kind]

    def find(self, kind: str, number: int) -> Found:
        """Return one file. If it is missing, raise a `DataError` that names the archive it comes from."""
        found = self.index(kind).get(number)
        if found is None:
            raise DataError(f"there is no {kind} {number:05d} in {self.folder}: it should be in {source(kind, number)}")
        return found

    def _search(self, kind: _Kind) -> dict[int, Found]:
        """Search for files of a kind. Unpacked files take precedence over those in archives."""
        files: list[Found] = []
        for folder in _spell(kind.folders):
            files += [Found(path) for path in sorted((self.folder / folder).rglob("*"))]
        for name in _spell(kind.archives):
            if (self.folder / name).is_file():
                files += _members(self.folder / name)
        numbered: dict[int, Found] = {}
        for found in files:
            match = re.fullmatch(kind.file, PurePosixPath(found.member or found.path).name)
            if match:
                numbered.setdefault(int(match[1]), found)
        return numbered


def source(kind: str, number: int) -> str:
    """Describe the archive of a file, and the folder it belongs in once unpacked."""
    part = next((part for part, numbers in PARTS.items() if number in numbers), "test")
    archive, folder = (names[0].format(part) for names in (_KINDS[kind].archives, _KINDS[kind].folders))
    return f"{archive}, or unpacked in {folder}/"


@functools.cache
def _spell(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names for every spelling of every part, without duplicates."""
    return tuple(dict.fromkeys(name.format(part) for name in names for part in (*PARTS, "val")))


def _members(path: Path) -> list[Found]:
    try:
        archive = zipfile.ZipFile(path)
    except NotImplementedError as error:  # raised by zipfile for a newer version of the format
        raise DataError(f"{path} cannot be read by Python ({error}): unpack it in the same folder") from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a complete zip archive ({error}): download it again, or remove it") from error
    names = archive.namelist()
    for name in names:
        # Members are never unpacked under their own names, so this is only a sign of a wrong archive.
        if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
            raise DataError(f"{path} holds {name!r}, which leaves its folder: this is not CLEVRER's archive")
    return [Found(path, name, archive) for name in names]
