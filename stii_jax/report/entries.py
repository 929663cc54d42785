"""Entries: one JSON file a finished run, with its scores and what made them. Made from a workdir, read, checked."""

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stii_jax.report.files import ReportError, is_number, need, read_json
from stii_jax.storage.files import PathLike
from stii_jax.storage.metric_log import read_metrics

Run = dict[str, Any]
Score = Mapping[str, Any]

RUN_KEYS = ("name", "config", "commit", "seed", "hardware", "wall_seconds", "dataset", "scores")
SCORE_KEYS = ("num_frames", "ari", "f_ari", "video_ari", "video_f_ari", "mse", "num_videos")
DEFAULT_MODEL = "STII"
"""Whose published numbers a run is compared with, if it has no `model`."""
MODELS = {"stii": DEFAULT_MODEL, "iodine": "IODINE", "seq_iodine": "SEQ-IODINE", "rnem": "R-NEM", "ddpae": "DDPAE"}
"""What the paper calls the systems of `config.system` and `config.eval.system`."""
CURVE_KEYS = ("step", "time", "num_frames", "loss", "ari", "f_ari", "eval_f_ari")
CURVE_POINTS = 200


def read_runs(results: PathLike) -> list[Run]:
    """The runs in a folder, sorted by name and seed. JSON files without `scores` hold something else.

    Raises:
      ReportError: a file that is no JSON, a run without one of its keys, two runs of one name that have the
        same seed or different datasets.
    """
    entries = (read_entry(path) for path in sorted(Path(results).glob("*.json")))
    return sort_runs(entry for entry in entries if entry is not None)


def read_entry(path: Path) -> Run | None:
    """The entry in a file, with the file under `path`; None where the JSON has no `scores`.

    Raises:
      ReportError: the file is no JSON, or an entry that lacks a key.
    """
    content = read_json(path)
    if not isinstance(content, dict) or "scores" not in content:
        return None
    check_entry(path, content)
    return content | {"path": path}


def sort_runs(runs: Iterable[Run]) -> list[Run]:
    """By name and seed.

    Raises:
      ReportError: two runs of one name have the same seed or different datasets.
    """
    ordered = sorted(runs, key=lambda run: (run["name"], run["seed"]))
    for one, other in itertools.pairwise(ordered):
        if one["name"] == other["name"]:
            for key, same in (("seed", False), ("dataset", True)):
                if (one[key] == other[key]) != same:
                    raise ReportError(
                        f"{one['path']} and {other['path']} are both named {one['name']!r}, with {key} "
                        f"{one[key]!r} and {other[key]!r}: give one another `name`"
                    )
    return ordered


def result_entry(
    workdir: PathLike, name: str, *, model: str = "", command: str = "", sweep: Mapping[str, Any] | None = None
) -> Run:
    """The file of `results/` for a finished run, from its `results.json` and `config.json`.

    What else the workdir has is taken along: `prediction` (scores of imagined frames), `evaluations` (by label:
    `dataset`, `split`, `system`, `num_slots`, `scores`), `probes`, `curve` (at most 200 points).

    Args:
      workdir: folder of the run.
      name: of the experiment; its seeds share it.
      model: whose published numbers to compare it with; "" is that of the system which was evaluated.
      command: that reproduces the run.
      sweep: what sweep the run is of: `name`, `variant`, `order`, `overrides`.

    Raises:
      ReportError: one of the two files is missing, or a file is broken or lacks a key.
    """
    folder = Path(workdir)
    path = folder / "results.json"
    results, config = read_json(path), read_json(folder / "config.json")
    entry = {
        "name": name,
        "model": model or model_name(results.get("system", "")),
        "dataset": _dataset(path, results, config),
        "seed": need(path, results, "seed"),
        "commit": need(path, results, "commit"),
        "hardware": need(path, results, "hardware"),
        "wall_seconds": need(path, results, "train_seconds"),
        "command": command,
        "scores": _scores(path, results, SCORE_KEYS),
        "prediction": _prediction(folder / "prediction.json"),
        "evaluations": _evaluations(folder, config),
        "probes": _probes(folder / "probes.json"),
        "curve": _curve(folder / "metrics.jsonl"),
        "sweep": dict(sweep or {}),
        "config": config,
    }
    optional = ("prediction", "evaluations", "probes", "curve", "sweep")
    entry = {key: value for key, value in entry.items() if value or key not in optional}
    check_entry(path, entry)
    return entry


def model_name(system: str) -> str:
    """What the paper calls a system; a system that it has not keeps its name."""
    return MODELS.get(system, system) or DEFAULT_MODEL


def check_entry(path: Path, run: Mapping[str, Any]) -> None:
    """Raises `ReportError` where an entry lacks a key, or has a score that is no number. null is undefined."""
    for key in RUN_KEYS:
        need(path, run, key)
    # Both become parts of paths.
    if type(run["seed"]) is not int:
        raise ReportError(f"{path}: `seed` is {run['seed']!r}, expected a whole number")
    if type(run["name"]) is not str:
        raise ReportError(f"{path}: `name` is {run['name']!r}, expected text")
    if not is_number(run["wall_seconds"]):
        raise ReportError(f"{path}: `wall_seconds` is {run['wall_seconds']!r}, expected a number")
    _check_scores(path, run["scores"], "scores", SCORE_KEYS)
    if "prediction" in run:
        _check_scores(path, run["prediction"], "prediction", ("num_frames",))
    evaluations = run.get("evaluations", {})
    for label in evaluations:
        for key in ("dataset", "split", "system", "num_slots"):
            need(path, evaluations[label], key)
        _check_scores(path, need(path, evaluations[label], "scores"), f"evaluations.{label}", ("num_frames",))


def _check_scores(path: Path, scores: Any, name: str, keys: Iterable[str]) -> None:
    if not isinstance(scores, list) or not scores:
        raise ReportError(f"{path}: `{name}` is {scores!r}, expected a dict for each length")
    for score in scores:
        for key in keys:
            value = need(path, score, key)
            may_be_undefined = key not in ("num_frames", "num_videos")
            if not (is_number(value) or (value is None and may_be_undefined)):
                raise ReportError(f"{path}: `{key}` of a score is {value!r}, expected a number")


def _dataset(path: Path, results: Any, config: Mapping[str, Any]) -> str:
    """Dataset, variant and options: other options make another dataset, which the published numbers are not of."""
    dataset, data = need(path, results, "dataset"), config.get("data", {})
    if "/" not in dataset and (variant := config.get("eval", {}).get("variant") or data.get("variant")):
        dataset = f"{dataset}/{variant}"
    if options := data.get("options"):
        dataset += " (" + ", ".join(f"{key}={value}" for key, value in sorted(options.items())) + ")"
    return dataset


def _scores(path: Path, results: Any, required: Iterable[str]) -> list[Run]:
    """The required keys of every length, then its other numbers, undefined ones too, without the clock's."""
    lengths = results.get("lengths") or [results]
    return [
        {key: need(path, length, key) for key in required}
        | {key: value for key, value in length.items() if (is_number(value) or value is None) and key != "seconds"}
        for length in lengths
    ]


def _prediction(path: Path) -> list[Run]:
    if not path.exists():
        return []
    content = read_json(path)
    need(path, content, "lengths")
    return _scores(path, content, ("num_frames",))


def _evaluations(folder: Path, config: Mapping[str, Any]) -> dict[str, Run]:
    """What the workdir's `results_LABEL.json` say, by label."""
    found = {}
    for path in sorted(folder.glob("results_*.json")):
        results = read_json(path)
        facts = {key: need(path, results, key) for key in ("split", "system", "num_slots")}
        facts["dataset"] = _dataset(path, results, config)
        found[path.stem.removeprefix("results_")] = {**facts, "scores": _scores(path, results, ("num_frames",))}
    return found


def _probes(path: Path) -> Run:
    """R² by representation, probe and factor."""
    if not path.exists():
        return {}
    found = need(path, read_json(path), "probes")
    return {code: {name: need(path, scores, "r2") for name, scores in probes.items()} for code, probes in found.items()}


def _curve(path: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, thinned; those with held-out scores are rarer and go first."""
    try:
        lines = read_metrics(path)
    except ValueError as error:
        raise ReportError(str(error)) from error
    held_out = _thin([line for line in lines if "eval_f_ari" in line], CURVE_POINTS // 2)
    others = _thin([line for line in lines if "eval_f_ari" not in line], CURVE_POINTS - len(held_out))
    kept = sorted(held_out + others, key=lambda line: line["step"])
    return [{key: line[key] for key in CURVE_KEYS if key in line} for line in kept]


def _thin(lines: list[Run], most: int) -> list[Run]:
    """At most so many of them, evenly spaced, first and last included."""
    if len(lines) <= most:
        return lines
    return [lines[round(i * (len(lines) - 1) / (most - 1))] for i in range(most)]
