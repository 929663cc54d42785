"""The settings and cost of every experiment, and how its size differs from the paper's."""

import statistics
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from stii_jax.report.entries import Run
from stii_jax.report.markdown import markdown_table
from stii_jax.report.published import Published
from stii_jax.report.seeds import Experiment
from stii_jax.report.tables import Table, data_names, to_csv

PAPER_SIZE = {
    "model": {"latent_dim": 64, "hidden_dim": 128, "decoder_channels": 64, "refiner_channels": 64},
    "rnem": {"hidden_dim": 250, "feature_dim": 512, "attention_dim": 100},
}
"""Sizes in the paper, by the config section of each system."""
COLUMNS = {
    "model.num_slots": "slots",
    "model.num_refinements": "refinements",
    "model.latent_dim": "latent dimensions",
    "model.decoder_channels": "decoder channels",
    "loss.log_likelihood": "likelihood weight",
    "optim.learning_rate": "learning rate",
}
"""Settings that get a column if any run has them."""


def settings_table(found: Sequence[Experiment]) -> Table:
    """Return the settings that each experiment was trained with."""
    data = data_names(experiment.dataset for experiment in found)
    columns = {key: title for key, title in COLUMNS.items() if any(_setting(e.runs[0], key) != "" for e in found)}
    rows = [_settings(experiment, columns) for experiment in found]
    header = list(rows[0])
    if not any(row["changed"] for row in rows):
        header.remove("changed")
    full = to_csv(header, [[row[name] for name in header] for row in rows])
    shown = [row | {"data": data[row["data"]]} for row in rows]
    lines = [f"{short} is {dataset}." for dataset, short in data.items() if dataset != short]
    markdown = markdown_table(header, [[row[name] for name in header] for row in shown])
    return Table("runs", "Runs", " ".join(lines), markdown, full)


def _settings(experiment: Experiment, columns: Mapping[str, str]) -> dict[str, str]:
    """Return one row, by column title."""
    runs = experiment.runs
    row = {"run": experiment.label, "model": experiment.model, "data": experiment.dataset}
    row |= {"seeds": _each(run["seed"] for run in runs), "training steps": _steps(runs[0])}
    row |= {title: _setting(runs[0], key) for key, title in columns.items()}
    hours = statistics.fmean(run["wall_seconds"] for run in runs) / 3600
    row |= {"hours per seed": f"{hours:.2g}", "hardware": _each(run["hardware"] for run in runs)}
    row["commit"] = _each(str(run["commit"] or "unknown")[:9] for run in runs)
    return row | {"changed": ", ".join(f"`{change}`" for change in runs[0].get("sweep", {}).get("overrides", ()))}


def size_note(found: Sequence[Experiment], published: Published | None) -> str:
    """Return a note on runs that differ from the paper in size or data; "" if there are none."""
    datasets = None if published is None else {row["dataset"] for row in published["rows"]}
    small = {e.label: _differences(e, datasets) for e in found}
    small = {label: reasons for label, reasons in small.items() if reasons}
    if not small:
        return ""
    reasons = list(dict.fromkeys(reason for found_reasons in small.values() for reason in found_reasons))
    which = "These" if len(small) == len(found) else ", ".join(small)
    return (
        f"{which} are small runs, not at the paper's scale ({'; '.join(reasons)}). They compare settings with each "
        "other and do not reproduce the published numbers."
    )


def _differences(experiment: Experiment, datasets: Container[str] | None) -> list[str]:
    """List differences from the paper's size, and from its datasets if these are known."""
    config = experiment.runs[0]["config"]
    section = section_of(config, "model")
    model, paper = config.get(section, {}), PAPER_SIZE.get(section, {})
    sizes = [f"{key} {model[key]} instead of {size}" for key, size in paper.items() if model.get(key, size) != size]
    other = datasets is not None and experiment.dataset not in datasets
    return sizes + (["data not used in the paper"] if other else [])


def _setting(run: Run, key: str) -> str:
    section, _, name = key.partition(".")
    return str(run["config"].get(section_of(run["config"], section), {}).get(name, ""))


def section_of(config: Mapping[str, Any], section: str) -> str:
    """Return the section used by the system. R-NEM and DDPAE have their own instead of `model` and `loss`."""
    system = config.get("system", "")
    return str(system) if system in config and section in ("model", "loss") else section


def _steps(run: Run) -> str:
    """Return the steps of all stages together; a stage may have ended early."""
    config: Mapping[str, Any] = run["config"]
    stages = config.get("curriculum", {}).get("stages", ())
    first = config.get("train", {}).get("num_steps")
    return "" if first is None else str(first + sum(steps for _, _, steps, *_ in stages))


def _each(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))  # each once, in order
