"""Datasets built from many files, any of which may be unreadable.

A bad file is named, skipped and counted. The clips of each file are kept until the dataset is complete, so that a
killed build resumes where it stopped.
"""

import abc
import contextlib
import hashlib
import io
import itertools
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from stii_jax.data.errors import DataError
from stii_jax.data.pipeline.stored import Clip, PackedBuilder

_SHOWN = 10  # number of skipped files that are named in the final message


class Reading(NamedTuple):
    """The clips of a file, and remarks on them."""

    clips: Iterable[Clip]
    """The clips; a generator for a long video, since each is compressed at once. May raise `DataError`, as `read`."""
    notes: Mapping[str, int] = {}
    """Counts of irregularities, for the report: "duplicate detections" -> 3."""


class FilesBuilder(PackedBuilder):
    """Base class of datasets with one entry per file or group of files. Subclasses define `entries` and `read`."""

    @abc.abstractmethod
    def entries(self, split: str) -> Sequence[str]:
        """The names of a split's entries, in order. They appear in messages and identify the intermediate results.

        Raises:
            DataError: there is no entry. The message says where it was looked for.
        """

    @abc.abstractmethod
    def read(self, split: str, entry: str) -> Reading:
        """Read an entry. This method is called from several threads.

        Raises:
            DataError: the entry is unusable, and is skipped.
        """

    def videos(self, split: str) -> Iterator[dict[str, Any]]:
        """Read the entries on all cores, and yield their encoded clips in order."""
        entries = self.entries(split)
        fingerprint = self.fingerprint()
        notes: Counter[str] = Counter()
        skipped: dict[str, str] = {}
        num_clips = 0
        readings = map_in_order(
            lambda entry: self._read_or_recall(split, entry, fingerprint), entries, os.cpu_count() or 1
        )
        bar = tqdm(readings, total=len(entries), desc=f"{self.name} {split}", unit="file", mininterval=0.5)
        for reading, entry in zip(bar, entries):  # the bar has to come first to reach its end
            if isinstance(reading, DataError):
                skipped[entry] = str(reading).encode(errors="backslashreplace").decode()  # names in other encodings
                if len(skipped) <= _SHOWN:
                    tqdm.write(f"warning: skipped {entry}: {skipped[entry]}")
                elif len(skipped) == _SHOWN + 1:
                    tqdm.write("warning: more files are skipped; further ones are counted but not named")
                continue
            clips, counts = reading
            notes.update(counts)
            num_clips += len(clips)
            yield from clips
        self.info.metadata[split] = {"files": len(entries), "clips": num_clips, "skipped": skipped, "notes": notes}
        print(_report(self.name, split, len(entries), num_clips, skipped, notes), flush=True)
        if not num_clips:
            cause = next(iter(skipped.values()), "they are all too short, or none meets the dataset's rules")
            raise DataError(f"none of the {len(entries)} files for split {split!r} of {self.name} is usable: {cause}")

    def _read_or_recall(
        self, split: str, entry: str, fingerprint: str
    ) -> tuple[list[dict[str, Any]], dict[str, int]] | DataError:
        """The encoded clips of an entry, taken from the previous build if it read that entry."""
        key = hashlib.sha256(f"{entry}\n{fingerprint}".encode()).hexdigest()[:24]
        path = self.partial_dir / split / f"{key}.clips"
        with contextlib.suppress(OSError, ValueError):  # not yet read, or damaged
            return _load(path)
        try:
            reading = self.read(split, entry)
            encoded = [self.encode(clip) for clip in reading.clips]
        except DataError as error:
            return error
        _save(path, encoded, reading.notes)
        return encoded, dict(reading.notes)


def map_in_order(function: Callable, items: Iterable, num_threads: int) -> Iterator:
    """Map over threads, in order, a few items ahead of the consumer."""
    waiting = iter(items)
    with ThreadPoolExecutor(num_threads) as pool:
        pending = deque(pool.submit(function, item) for item in itertools.islice(waiting, 2 * num_threads))
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(function, item) for item in itertools.islice(waiting, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)


def _save(path: Path, encoded: list[dict[str, Any]], notes: Mapping[str, int]) -> None:
    arrays = {"notes": np.array(json.dumps(notes)), "num_clips": np.array(len(encoded))}
    for number, example in enumerate(encoded):
        for key, value in example.items():
            parts = value.items() if isinstance(value, Mapping) else [("", value)]
            arrays |= {f"{number}/{key}/{part}": array for part, array in parts}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # the stub takes any array for allow_pickle
    data = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(hashlib.sha256(data).digest() + data)
    temporary.replace(path)


def _load(path: Path) -> tuple[list[dict[str, Any]], dict[str, int]]:
    kept = path.read_bytes()
    digest, data = kept[:32], kept[32:]
    # A zip file's own checksums do not suffice: damage to its directory may hide some of the arrays.
    if hashlib.sha256(data).digest() != digest:
        raise ValueError(f"{path} is damaged")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        encoded: list[dict[str, Any]] = [{} for _ in range(int(file["num_clips"]))]
        for name in file.files:
            if name.count("/") == 2:
                number, key, part = name.split("/")
                if part:
                    encoded[int(number)].setdefault(key, {})[part] = file[name]
                else:
                    encoded[int(number)][key] = file[name]
        return encoded, json.loads(str(file["notes"]))


def _report(
    name: str, split: str, num_files: int, num_clips: int, skipped: Mapping[str, str], notes: Mapping[str, int]
) -> str:
    num_read = num_files - len(skipped)
    found = f"{num_clips} clip{'s' * (num_clips != 1)} from {num_read} file{'s' * (num_read != 1)}"
    lines = [f"{name} {split}: {found}"]
    if skipped:
        more = "" if len(skipped) <= _SHOWN else f" and {len(skipped) - _SHOWN} more"
        lines.append(f"  skipped {len(skipped)} of {num_files}: {', '.join(list(skipped)[:_SHOWN])}{more}")
    return "\n".join(lines + [f"  {note}: {count}" for note, count in notes.items() if count])
