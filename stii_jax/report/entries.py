"""Entries: one JSON file per finished run, with its scores and provenance. Made from a workdir, read and checked."""

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
"""The published model that a run without a `model` is compared with."""
MODELS = {"stii": DEFAULT_MODEL, "iodine": "IODINE", "seq_iodine": "SEQ-IODINE", "rnem": "R-NEM", "ddpae": "DDPAE"}
"""The paper's names for the systems in `config.system` and `config.eval.system`."""
CURVE_KEYS = ("step", "time", "num_frames", "loss", "ari", "f_ari", "eval_f_ari")
CURVE_POINTS = 200


def read_runs(results: PathLike) -> list[Run]:
    """Read the runs in a folder, sorted by name and seed. JSON files without `scores` are skipped.

    Raises:
      ReportError: a file is not JSON, a run lacks a key, or two runs of one name have the same seed or different
        datasets.
    """
    entries = (read_entry(path) for path in sorted(Path(results).glob("*.json")))
    return sort_runs(entry for entry in entries if entry is not None)


def read_entry(path: Path) -> Run | None:
    """Read the entry in a file and add the file as `path`; None if the JSON has no `scores`.

    Raises:
      ReportError: the file is not JSON, or its entry lacks a key.
    """
    content = read_json(path)
    if not isinstance(content, dict) or "scores" not in content:
        return None
    check_entry(path, content)
    return content | {"path": path}


def sort_runs(runs: Iterable[Run]) -> list[Run]:
    """Sort runs by name and seed.

    Raises:
      ReportError: two runs of one name have the same seed or different datasets.
    """
    ordered = sorted(runs, key=lambda run: (run["name"], run["seed"]))
    for one, other in itertools.pairwise(ordered):
        if one["name"] != other["name"]:
            continue
        both = f"{one['path']} and {other['path']} are both named {one['name']!r}"
        if one["seed"] == other["seed"]:
            raise ReportError(f"{both} and have seed {one['seed']}: remove one, or change its `name`")
        if one["dataset"] != other["dataset"]:
            raise ReportError(
                f"{both}, but have the datasets {one['dataset']!r} and {other['dataset']!r}: change the `name` of one"
            )
    return ordered


def result_entry(
    workdir: PathLike, name: str, *, model: str = "", command: str = "", sweep: Mapping[str, Any] | None = None
) -> Run:
    """Return the entry of a finished run for `results/`, from its `results.json` and `config.json`.

    Optional parts are included if the workdir has them: `prediction` (scores of predicted frames), `evaluations` (by
    label: `dataset`, `split`, `system`, `num_slots`, `scores`), `probes`, and `curve` (at most 200 points).

    Args:
      workdir: the folder of the run.
      name: the name of the experiment, shared by its seeds.
      model: the published model to compare with; "" for that of the evaluated system.
      command: the command that reproduces the run.
      sweep: the run's place in a sweep: `name`, `variant`, `order`, `overrides`.

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
    """Return the paper's name for a system; systems that are not in the paper keep their own."""
    return MODELS.get(system, system) or DEFAULT_MODEL


def check_entry(path: Path, run: Mapping[str, Any]) -> None:
    """Raise `ReportError` if an entry lacks a key or has a score that is not a number; null means undefined."""
    for key in RUN_KEYS:
        need(path, run, key)
    # Seed and name become parts of paths.
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
        raise ReportError(f"{path}: `{name}` is {scores!r}, expected one dict per length")
    for score in scores:
        for key in keys:
            value = need(path, score, key)
            may_be_undefined = key not in ("num_frames", "num_videos")
            if not (is_number(value) or (value is None and may_be_undefined)):
                raise ReportError(f"{path}: `{key}` of a score is {value!r}, expected a number")


def _dataset(path: Path, results: Any, config: Mapping[str, Any]) -> str:
    """Name a dataset with its variant and options. Published numbers do not apply to data with other options."""
    dataset, data = need(path, results, "dataset"), config.get("data", {})
    if "/" not in dataset and (variant := config.get("eval", {}).get("variant") or data.get("variant")):
        dataset = f"{dataset}/{variant}"
    if options := data.get("options"):
        dataset += " (" + ", ".join(f"{key}={value}" for key, value in sorted(options.items())) + ")"
    return dataset


def _scores(path: Path, results: Any, required: Iterable[str]) -> list[Run]:
    """Return, per length, the required keys and then all other scores, undefined ones included, except timings."""
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
    """Read the workdir's `results_LABEL.json` files, by label."""
    found = {}
    for path in sorted(folder.glob("results_*.json")):
        results = read_json(path)
        facts = {key: need(path, results, key) for key in ("split", "system", "num_slots")}
        facts["dataset"] = _dataset(path, results, config)
        found[path.stem.removeprefix("results_")] = {**facts, "scores": _scores(path, results, ("num_frames",))}
    return found


def _probes(path: Path) -> Run:
    """Read R² by representation, probe and factor."""
    if not path.exists():
        return {}
    found = need(path, read_json(path), "probes")
    return {code: {name: need(path, scores, "r2") for name, scores in probes.items()} for code, probes in found.items()}


def _curve(path: Path) -> list[dict[str, Any]]:
    """Thin out the lines of `metrics.jsonl`. Lines with held-out scores are rarer and take precedence."""
    try:
        lines = read_metrics(path)
    except ValueError as error:
        raise ReportError(str(error)) from error
    held_out = _thin([line for line in lines if "eval_f_ari" in line], CURVE_POINTS // 2)
    others = _thin([line for line in lines if "eval_f_ari" not in line], CURVE_POINTS - len(held_out))
    kept = sorted(held_out + others, key=lambda line: line["step"])
    return [{key: line[key] for key in CURVE_KEYS if key in line} for line in kept]


def _thin(lines: list[Run], most: int) -> list[Run]:
    """Keep at most `most` lines, evenly spaced, the first and last included."""
    if len(lines) <= most:
        return lines
    return [lines[round(i * (len(lines) - 1) / (most - 1))] for i in range(most)]
