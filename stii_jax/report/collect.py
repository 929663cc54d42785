"""Find runs in a folder: workdirs at any depth, entries as JSON files, and the pictures of both."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from stii_jax.report.entries import Run, read_entry, result_entry, sort_runs
from stii_jax.report.files import ReportError
from stii_jax.storage.files import PathLike

PICTURE = "test_0.png"


class Collection(NamedTuple):
    """The runs in a folder."""

    runs: list[Run]
    """Finished runs, sorted by name and seed; `path` is the file of scores."""
    unfinished: list[str]
    """Workdirs without final scores, as paths within the folder."""


def collect(folder: PathLike) -> Collection:
    """Collect the runs in a folder. Of a sweep, only the entries `VARIANT-seedS.json` are read, not the workdirs.

    A run is named after the path of its workdir within `folder`, without a last part `seedS`. An entry keeps its name,
    unless entries in several folders have it: each folder then holds its own experiment, named `FOLDER/NAME`.

    Raises:
      ReportError: the folder is missing or holds no run, a file is broken, two runs share a name and seed, or an entry
        is a copy of another.
    """
    top = Path(folder)
    if not top.is_dir():
        raise ReportError(f"{top}: no such folder: give --runs a folder that holds workdirs or entries")
    entries: list[Run] = []
    workdirs: list[Path] = []
    for path in _walk(top):
        if path.is_dir():
            workdirs.append(path)
        elif (entry := read_entry(path)) is not None:
            entries.append(entry)
    entries = _name_by_folder(top, entries)
    of_sweeps = {run["path"].parent / run["sweep"]["variant"] for run in entries if "sweep" in run}
    taken = {workdir_of(run) for run in entries}
    unfinished = []
    for workdir in workdirs:
        if workdir in taken:
            continue
        # A seed of a sweep's variant counts as finished once its entry exists.
        if workdir.parent in of_sweeps or not (workdir / "results.json").exists():
            unfinished.append(workdir.relative_to(top).as_posix())
        else:
            entries.append(result_entry(workdir, _name(top, workdir)) | {"path": workdir / "results.json"})
    if not entries:
        waiting = f", only unfinished ones: {', '.join(unfinished[:3])}" if unfinished else ""
        raise ReportError(f"{top}: no finished run in this folder{waiting}")
    return Collection(sort_runs(entries), sorted(unfinished))


def workdir_of(run: Run) -> Path:
    """Return a run's workdir, which may no longer exist. A sweep keeps it beside the run's entry."""
    path: Path = run["path"]
    if path.name == "results.json":
        return path.parent
    return path.parent / path.stem.rpartition("-seed")[0] / f"seed{run['seed']}"


def picture_of(run: Run) -> Path | None:
    """Return the strip of the first test video if it exists. Links that lead out of the workdir are not followed."""
    workdir = workdir_of(run)
    path = workdir / "media" / PICTURE
    return path if path.is_file() and path.resolve().is_relative_to(workdir.resolve()) else None


def _walk(top: Path) -> Iterator[Path]:
    """Yield workdirs (folders with a `config.json`) and the JSON files outside of them, in order."""
    for folder, inside, files in os.walk(top):
        if "config.json" in files:
            inside.clear()
            yield Path(folder)
            continue
        inside.sort()
        yield from (Path(folder) / name for name in sorted(files) if name.endswith(".json"))


def _name_by_folder(top: Path, entries: Sequence[Run]) -> list[Run]:
    """Add the folder to the names of experiments and sweeps that several folders contain."""
    known: dict[str, Path] = {}
    folders: dict[tuple[str, str], set[Path]] = {}
    for run in entries:
        content = json.dumps({key: value for key, value in run.items() if key != "path"}, sort_keys=True)
        if (other := known.setdefault(content, run["path"])) != run["path"]:
            raise ReportError(f"{run['path']} is a copy of {other}: remove one of them")
        for key in _names(run):
            folders.setdefault(key, set()).add(run["path"].parent)
    return [_with_folder(top, run) if any(len(folders[key]) > 1 for key in _names(run)) else run for run in entries]


def _names(run: Run) -> list[tuple[str, str]]:
    return [("run", run["name"]), *([("sweep", run["sweep"]["name"])] if "sweep" in run else [])]


def _with_folder(top: Path, run: Run) -> Run:
    """Name a run after its folder. A sweep's run gets the name that its workdir there would have."""
    folder = run["path"].parent.relative_to(top)
    if "sweep" not in run:
        return run | {"name": (folder / run["name"]).as_posix()}
    sweep = run["sweep"] | {"name": (folder / run["sweep"]["name"]).as_posix()}
    return run | {"name": (folder / sweep["variant"]).as_posix(), "sweep": sweep}


def _name(top: Path, workdir: Path) -> str:
    parts = workdir.relative_to(top).parts or (workdir.resolve().name,)
    if len(parts) > 1 and re.fullmatch(r"seed\d+", parts[-1]):
        parts = parts[:-1]
    return "/".join(parts)
