"""The tables of a report, each as Markdown and as a CSV file with every metric in full precision."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from stii_jax.report.markdown import markdown_table
from stii_jax.report.published import PUBLISHED_METRICS, Published, published_score
from stii_jax.report.seeds import Experiment, Series, Summary, differences

MAIN_METRICS = {
    "ari": "ARI",
    "f_ari": "F-ARI",
    "video_ari": "video ARI",
    "video_f_ari": "video F-ARI",
    "fg_miou": "FG-mIoU",
    "video_fg_miou": "video FG-mIoU",
    "identity_switches": "identity switches",
    "missed_frames": "frames with a missed object",
    "split_frames": "frames with a split object",
    "merged_frames": "frames with merged objects",
    "mask_ari": "ARI of masks",
    "mask_f_ari": "F-ARI of masks",
    "mask_video_f_ari": "video F-ARI of masks",
    "mse": "MSE",
}
LENGTH_METRICS = {
    key: MAIN_METRICS[key]
    for key in ("ari", "f_ari", "video_ari", "video_f_ari", "mask_ari", "mask_f_ari", "mask_video_f_ari", "mse")
}
PREDICTION_METRICS = LENGTH_METRICS | {
    "velocity_cosine": "velocity cosine",
    "speed_error": "speed error",
    "velocity_cosine_box": "velocity cosine, boxes",
    "speed_error_box": "speed error, boxes",
    "position_error": "position error",
    "position_error_turned": "position error after a turn",
}
DIGITS = {"mse": 5, "identity_switches": 2, "position_error": 2, "position_error_turned": 2}
"""Digits after the decimal point; other metrics have four."""
NOT_PUBLISHED = "not published here"
STATISTICS = ("mean", "standard_error", "sd", "median", "worst")


class Table(NamedTuple):
    """One table of the page, and the CSV file beside it."""

    name: str
    """Name of the CSV file, without its extension."""
    title: str
    note: str
    markdown: str
    csv: str


def main_table(found: Sequence[Experiment], published: Published | None) -> Table:
    """Return the final scores of every experiment at its longest clips, with published ones if these are given."""
    series = [experiment.main() for experiment in found]
    return Table(
        "main",
        "Scores",
        "For the longest clips. ARI, F-ARI and FG-mIoU are computed per frame, their video versions over the clip.",
        _longest(series, {}, published),
        _csv([one.at_longest() for one in series], published),
    )


def difference_table(found: Sequence[Experiment]) -> Table | None:
    """Return the table of `differences`; None if there are none."""
    series = differences(found)
    if not series:
        return None
    metrics = {m: t for m, t in MAIN_METRICS.items() if any(m in one.metrics() for one in series)}
    rows = []
    for one in series:
        (top,) = one.lengths()
        cells = [show(one.summary(top, metric), metric, sign="+") for metric in metrics]
        rows.append([one.label, str(top), str(len(one.seeds)), *cells])
    return Table(
        "differences",
        "Differences",
        "For the longest clips, paired by seed. Lower is better for MSE, identity switches and frames with faults, "
        "higher for the rest.",
        markdown_table(["runs", "frames", "seeds", *metrics.values()], rows),
        _csv(series, None),
    )


def length_table(found: Sequence[Experiment], published: Published | None) -> Table:
    """Return the final scores at every length."""
    series = [experiment.main() for experiment in found]
    return Table(
        "lengths",
        "Scores by length",
        "Each longer clip begins with the shorter ones.",
        _by_length(series, LENGTH_METRICS, "frames"),
        _csv(series, published),
    )


def prediction_table(found: Sequence[Experiment]) -> Table | None:
    """Return the scores of predicted frames; None if nothing was predicted."""
    series = [one for experiment in found if (one := experiment.prediction())]
    if not series:
        return None
    return Table(
        "prediction",
        "Prediction",
        "Scores over the first predicted frames, which the model has not seen. The paper publishes no such numbers.",
        _by_length(series, PREDICTION_METRICS, "predicted frames"),
        _csv(series, None),
    )


def evaluation_table(found: Sequence[Experiment], published: Published | None) -> Table | None:
    """Return evaluations on other videos, with other slots or another system; None if there are none."""
    series = [one for experiment in found for one in experiment.evaluations()]
    if not series:
        return None
    facts = {"evaluation": "evaluation", "split": "split", "system": "system", "num_slots": "slots"}
    return Table(
        "evaluations",
        "Further evaluations",
        "The same trained parameters under other evaluation settings, for the longest clips.",
        _longest(series, facts, published),
        _csv(series, published),
    )


def probe_table(found: Sequence[Experiment]) -> Table | None:
    """Return the R² of probes on the latents, one row per factor; None if nothing was probed."""
    probed = [(e, {run["seed"]: _leaves(run["probes"]) for run in e.runs if "probes" in run}) for e in found]
    series = [
        Series(e.label, e.model, e.dataset, {seed: [{"num_frames": 0, **leaves}] for seed, leaves in seeds.items()})
        for e, seeds in probed
        if seeds
    ]
    if not series:
        return None
    names = sorted({name for one in series for name in one.metrics()})
    rows = [[name, *(show(one.summary(0, name), name) for one in series)] for name in names]
    return Table(
        "probes",
        "Probes",
        "R² of each factor as predicted from the slots' latents; 1 is perfect. Names are those of `probes.json`.",
        markdown_table(["factor", *(one.label for one in series)], rows),
        _csv(series, None),
    )


def show(summary: Summary | None, metric: str, sign: str = "-") -> str:
    """Format mean ± standard error over seeds, and the number of seeds without a value.

    With "+" for `sign`, positive means have a sign, too.
    """
    if summary is None:
        return ""
    digits = DIGITS.get(metric, 4)
    cell = f"{summary.mean:{sign}.{digits}f}"
    if summary.standard_error is not None:
        cell += f" ± {summary.standard_error:.{digits}f}"
    missing = summary.total - len(summary.seeds)
    return f"{cell}, {missing} undefined" if missing else cell


def _longest(series: Sequence[Series], facts: Mapping[str, str], published: Published | None) -> str:
    """Return one row per series at its longest length, without columns that are empty in all rows."""
    data = data_names(one.dataset for one in series)
    tops = [(one, one.lengths()[-1]) for one in series]
    metrics = {m: t for m, t in MAIN_METRICS.items() if any(one.summary(top, m) for one, top in tops)}
    rows = []
    for one, top in tops:
        row = [one.label, *(one.facts[key] for key in facts), data[one.dataset], str(top), str(len(one.seeds))]
        rows.append(row + [show(one.summary(top, metric), metric) for metric in metrics])
    header = ["run", *facts.values(), "data", "frames", "seeds", *metrics.values()]
    if published is not None:
        header.append(f"published {' / '.join(PUBLISHED_METRICS.values())}")
        rows = [[*row, _theirs(published, *top)] for row, top in zip(rows, tops)]
    return markdown_table(header, rows)


def _theirs(published: Published, series: Series, num_frames: int) -> str:
    """Return the paper's numbers for the same data, model and length, in one cell."""
    of = series.dataset, series.model, num_frames
    numbers = [published_score(published, *of, metric) for metric in PUBLISHED_METRICS]
    if not any(number is not None for number in numbers):
        return NOT_PUBLISHED
    return " / ".join("-" if n is None else f"{n:.4f}" for n in numbers) + f" ({series.model})"


def _by_length(series: Sequence[Series], titles: Mapping[str, str], frames: str) -> str:
    cells = [(one, length) for one in series for length in one.lengths()]
    metrics = [metric for metric in titles if any(one.summary(length, metric) for one, length in cells)]
    rows = [
        [one.label, str(length), str(len(one.seeds)), *(show(one.summary(length, m), m) for m in metrics)]
        for one, length in cells
    ]
    return markdown_table(["run", frames, "seeds", *(titles[metric] for metric in metrics)], rows)


def data_names(datasets: Iterable[str]) -> dict[str, str]:
    """Return a short name per dataset, without options; datasets that differ only in options are numbered."""
    ordered = list(dict.fromkeys(datasets))
    bases = {dataset: base_name(dataset) for dataset in ordered}
    alike = {base: [d for d in ordered if bases[d] == base] for base in bases.values()}
    return {d: b if len(alike[b]) == 1 else f"{b} #{alike[b].index(d) + 1}" for d, b in bases.items()}


def base_name(dataset: str) -> str:
    """Return a dataset and its variant, without changed options."""
    return dataset.partition(" (")[0]


def to_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a CSV file with all digits. Text that a spreadsheet would evaluate is prefixed with an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(map(_inert, row) for row in rows)
    return buffer.getvalue()


def _inert(cell: Any) -> Any:
    is_formula = isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{cell}" if is_formula else cell


def _csv(series: Sequence[Series], published: Published | None) -> str:
    """Return one row per series, length and metric, with statistics over seeds and the value of each seed."""
    facts = list(dict.fromkeys(key for one in series for key in one.facts))
    header = ["run", "model", "dataset", *facts, "num_frames", "metric", "seeds", *STATISTICS, "values", "published"]
    rows = []
    for one in series:
        for length in one.lengths():
            for metric in one.metrics():
                if (summary := one.summary(length, metric)) is None:
                    continue
                values = " ".join(f"{seed}:{value!r}" for seed, value in summary.seeds.items())
                of = one.dataset, one.model, length, metric
                theirs = published_score(published, *of) if published is not None else None
                statistics = [getattr(summary, name) for name in STATISTICS]
                start = [one.label, one.model, one.dataset, *(one.facts.get(key, "") for key in facts)]
                rows.append([*start, length, metric, len(summary.seeds), *statistics, values, theirs])
    return to_csv(header, rows)


def _leaves(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts into one, with dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in nested.items():
        leaves |= _leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return leaves
