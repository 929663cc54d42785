"""The table of results, from the files of `results/`, beside the published numbers.

    python -m stii_jax.report                                    # print it
    python -m stii_jax.report --readme README.md                 # put it into the README
    python -m stii_jax.report --readme README.md --check         # exit 1 if that would change the README
    python -m stii_jax.report --add runs/color4 --name color4    # take up a finished run

Runs of one name are seeds of one experiment: the table has their mean, standard deviation and worst.
"""

import argparse
import itertools
import json
import math
import os
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stii_jax.writers import PathLike, write_atomic, write_results

Run = dict[str, Any]
Score = Mapping[str, Any]

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
RUN_KEYS = ("name", "config", "commit", "seed", "hardware", "wall_seconds", "dataset", "scores")
SCORE_KEYS = ("num_frames", "ari", "f_ari", "video_ari", "video_f_ari", "mse", "num_videos")
PUBLISHED_METRICS = {"ari": "ARI", "f_ari": "F-ARI", "mse": "MSE"}
OWN_METRICS = {"video_ari": "video ARI", "video_f_ari": "video F-ARI"}
DEFAULT_MODEL = "STII"
"""Whose published numbers a run is compared with, if it has no `model`."""
MODELS = {"stii": DEFAULT_MODEL, "iodine": "IODINE", "seq_iodine": "SEQ-IODINE"}
"""What the paper calls the systems of `config.system` and `config.eval.system`."""


class ReportError(ValueError):
    """A results file, run folder or README that cannot be used; the message names it and what to change."""


def read_runs(results: PathLike) -> list[Run]:
    """The runs in a folder, sorted by name and seed. JSON files without `scores` hold something else.

    Raises:
      ReportError: a file that is no JSON, a run without one of its keys, two runs of one name that have the
        same seed or different datasets.
    """
    runs = []
    for path in sorted(Path(results).glob("*.json")):
        content = _read_json(path)
        if isinstance(content, dict) and "scores" in content:
            _check_run(path, content)
            runs.append(content | {"path": path})
    runs.sort(key=lambda run: (run["name"], run["seed"]))
    for one, other in itertools.pairwise(runs):
        if one["name"] == other["name"]:
            for key, same in (("seed", False), ("dataset", True)):
                if (one[key] == other[key]) != same:
                    raise ReportError(
                        f"{one['path']} and {other['path']} are both named {one['name']!r}, with {key} "
                        f"{one[key]!r} and {other[key]!r}: give one another `name`"
                    )
    return runs


def results_table(runs: Sequence[Run], published: Mapping[str, Any], relative_to: PathLike = ".") -> str:
    """Markdown: our scores beside the published ones, where each run came from, and what the paper reports.

    Args:
      runs: from `read_runs`.
      published: content of `published.json`.
      relative_to: folder of the file that the table goes into, for links.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run["name"], []).append(run)
    if not groups:
        return f"No results yet.\n\n{_published_table(groups, published)}"
    header = ["run", "data", "frames", "seeds"]
    for title in PUBLISHED_METRICS.values():
        header += [title, f"{title} published"]
    scores = _markdown([*header, *OWN_METRICS.values()], _score_rows(groups, published))
    sources = _markdown(
        ["run", "videos", "hours a seed", "hardware", "commit", "seeds: files", "command"],
        [_source_row(name, group, relative_to) for name, group in groups.items()],
    )
    return (
        f"{scores}\n\nMean ± standard deviation over seeds, the worst seed in brackets. ARI and F-ARI are "
        f"clustered in each frame, video ARI and video F-ARI over the whole clip.\n\n{sources}\n\n"
        f"{_published_table(groups, published)}"
    )


def result_entry(workdir: PathLike, name: str, *, model: str = "", command: str = "") -> Run:
    """The file of `results/` for a finished run, from its `results.json` and `config.json`.

    Args:
      workdir: folder of the run.
      name: of the experiment; its seeds share it.
      model: whose published numbers to compare it with; "" is that of the system which was evaluated.
      command: that reproduces the run.

    Raises:
      ReportError: one of the two files is missing or lacks a key.
    """
    path = Path(workdir) / "results.json"
    results, config = _read_json(path), _read_json(Path(workdir) / "config.json")
    dataset = _need(path, results, "dataset")
    data = config.get("data", {})
    if "/" not in dataset and (variant := config.get("eval", {}).get("variant") or data.get("variant")):
        dataset = f"{dataset}/{variant}"
    # Other options make another dataset, which the published numbers are not of.
    if options := data.get("options"):
        dataset += " (" + ", ".join(f"{key}={value}" for key, value in sorted(options.items())) + ")"
    entry = {
        "name": name,
        "model": model or MODELS.get(results.get("system", ""), DEFAULT_MODEL),
        "dataset": dataset,
        "seed": _need(path, results, "seed"),
        "commit": _need(path, results, "commit"),
        "hardware": _need(path, results, "hardware"),
        "wall_seconds": _need(path, results, "train_seconds"),
        "command": command,
        "scores": [_score(path, length) for length in results.get("lengths") or [results]],
        "config": config,
    }
    _check_run(path, entry)
    return entry


def replace_between_markers(text: str, table: str, path: PathLike) -> str:
    """`text` (of the file `path`) with `table` between the markers.

    Raises:
      ReportError: not exactly one pair of markers.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ReportError(f"{path}: expected one line {BEGIN!r} and, after it, one line {END!r}")
    return f"{text[: text.index(BEGIN)]}{BEGIN}\n{table}\n{text[text.index(END) :]}"


def _score_rows(groups: Mapping[str, list[Run]], published: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name, group in groups.items():
        by_length: dict[int, list[Score]] = {}
        for run in group:
            for score in run["scores"]:
                by_length.setdefault(score["num_frames"], []).append(score)
        for num_frames, scores in sorted(by_length.items()):
            row = [name, group[0]["dataset"], str(num_frames), str(len(scores))]
            for metric in PUBLISHED_METRICS:
                theirs = _published_score(published, group[0], num_frames, metric)
                row += [_over_seeds(scores, metric), theirs]
            rows.append(row + [_over_seeds(scores, metric) for metric in OWN_METRICS])
    return rows


def _over_seeds(scores: Iterable[Score], metric: str) -> str:
    """Mean ± standard deviation (worst) of the seeds that have a number."""
    values = [score[metric] for score in scores]
    known = [value for value in values if value is not None]
    if not known:
        return "undefined"
    digits = 5 if metric == "mse" else 4
    cell = f"{statistics.fmean(known):.{digits}f}"
    if len(known) > 1:
        worst = max(known) if metric == "mse" else min(known)
        cell += f" ± {statistics.stdev(known):.{digits}f} ({worst:.{digits}f})"
    missing = len(values) - len(known)
    return f"{cell}, {missing} undefined" if missing else cell


def _published_score(published: Mapping[str, Any], run: Run, num_frames: int, metric: str) -> str:
    model = run.get("model", DEFAULT_MODEL)
    for row in published["rows"]:
        if (row["dataset"], row["model"]) == (run["dataset"], model) and num_frames in row["num_frames"]:
            return f"{row[metric][row['num_frames'].index(num_frames)]:.4f}"
    return "not published"


def _source_row(name: str, group: list[Run], relative_to: PathLike) -> list[str]:
    def joined(values: Iterable[Any]) -> str:
        return ", ".join(dict.fromkeys(map(str, values)))  # each once, in order

    files = ", ".join(f"[{run['seed']}]({_link(run['path'], relative_to)})" for run in group)
    hours = statistics.fmean(run["wall_seconds"] for run in group) / 3600
    return [
        name,
        joined(score["num_videos"] for run in group for score in run["scores"]),
        f"{hours:.2g}",
        joined(run["hardware"] for run in group),
        joined(str(run["commit"])[:9] for run in group),
        files,
        joined(f"`{run['command']}`" for run in group if run.get("command")) or "see the files' `config`",
    ]


def _link(path: Path, relative_to: PathLike) -> str:
    return Path(os.path.relpath(path, relative_to)).as_posix()


def _published_table(groups: Mapping[str, list[Run]], published: Mapping[str, Any]) -> str:
    ours: dict[tuple[str, str], list[str]] = {}
    for name, (first, *_) in groups.items():
        ours.setdefault((first["dataset"], first.get("model", DEFAULT_MODEL)), []).append(name)
    rows = []
    for row in published["rows"]:
        frames = "each frame" if row["num_frames"] == [1] else "/".join(map(str, row["num_frames"]))
        scores = ["/".join(f"{value:.4f}" for value in row[metric]) for metric in PUBLISHED_METRICS]
        here = ", ".join(ours.get((row["dataset"], row["model"]), [])) or "not run"
        rows.append([row["dataset"], row["model"], frames, *scores, here])
    header = ["data", "model", "frames", *PUBLISHED_METRICS.values(), "our runs"]
    return f"Published: {published['source']}.\n\n{_markdown(header, rows)}"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _score(path: Path, length: Score) -> Score:
    required = {key: _need(path, length, key) for key in SCORE_KEYS}
    others = {key: value for key, value in length.items() if _is_number(value) and key != "seconds"}
    return required | others


def _check_run(path: Path, run: Mapping[str, Any]) -> None:
    for key in RUN_KEYS:
        _need(path, run, key)
    if not _is_number(run["wall_seconds"]):
        raise ReportError(f"{path}: `wall_seconds` is {run['wall_seconds']!r}, expected a number")
    if not isinstance(run["scores"], list) or not run["scores"]:
        raise ReportError(f"{path}: `scores` is {run['scores']!r}, expected a dict for each length")
    for score in run["scores"]:
        for key in SCORE_KEYS:
            value = _need(path, score, key)
            may_be_undefined = key not in ("num_frames", "num_videos")
            if not (_is_number(value) or (value is None and may_be_undefined)):
                raise ReportError(f"{path}: `{key}` of a score is {value!r}, expected a number")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _need(path: Path, content: Any, key: str) -> Any:
    if not isinstance(content, Mapping) or key not in content:
        raise ReportError(f"{path}: `{key}` is missing")
    return content[key]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ReportError(f"{path}: no such file") from error
    except ValueError as error:
        raise ReportError(f"{path}: not JSON ({error})") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stii_jax.report", description="Table of results.")
    parser.add_argument("--results", default="results", help="folder of the results files")
    parser.add_argument("--readme", help="file whose text between the markers is replaced by the table")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if --readme is stale")
    parser.add_argument("--add", metavar="WORKDIR", help="first take up this finished run")
    parser.add_argument("--name", help="with --add: name of the experiment, which its seeds share")
    parser.add_argument("--model", default="", help="with --add: published model to compare with, if another")
    parser.add_argument("--command", default="", help="with --add: command that reproduces the run")
    options = parser.parse_args(arguments)
    if options.add and not re.fullmatch(r"[\w.-]+", options.name or ""):
        parser.error("--add needs a --name of letters, digits, '.', '_' and '-'")
    if options.check and not options.readme:
        parser.error("--check needs --readme")
    try:
        return _run(options)
    except (ReportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    results = Path(options.results)
    if options.add:
        entry = result_entry(options.add, options.name, model=options.model, command=options.command)
        results.mkdir(parents=True, exist_ok=True)
        write_results(results / f"{entry['name']}-seed{entry['seed']}.json", entry)
    readme = Path(options.readme) if options.readme else None
    folder = readme.parent if readme else Path()
    table = results_table(read_runs(results), _read_json(results / "published.json"), folder)
    if readme is None:
        print(table)
        return 0
    old = readme.read_text()
    new = replace_between_markers(old, table, readme)
    if options.check and new != old:
        print(f"{readme} is stale: run python -m stii_jax.report --readme {readme}", file=sys.stderr)
        return 1
    if new != old:
        write_atomic(readme, new.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
