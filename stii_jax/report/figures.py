"""The figures of a report: effects of variants, learning curves, scores by length, and predictions."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stii_jax.report.files import is_number
from stii_jax.report.seeds import Experiment, Series, Summary, differences
from stii_jax.report.settings import section_of

CURVES = {
    "loss": "training loss per frame",
    "ari": "ARI, training",
    "f_ari": "F-ARI, training",
    "eval_f_ari": "F-ARI, held-out",
}
EFFECTS = {"f_ari": "F-ARI", "video_f_ari": "video F-ARI"}
LENGTHS = {"ari": "ARI", "f_ari": "F-ARI", "video_f_ari": "video F-ARI"}
PREDICTIONS = {"f_ari": "F-ARI", "ari": "ARI", "mse": "MSE", "velocity_cosine": "velocity cosine similarity"}
NUM_BINS = 60
"""Number of bins along training; the noisy scores of single batches are averaged within each."""
MARKERS = "osD^vP*Xh<"
STYLES = ("-", "--", ":", "-.")
PANEL = 3.4
"""Height of a panel in inches."""


def curves_figure(found: Sequence[Experiment]) -> bytes | None:
    """Draw the training metrics by step as a PNG: the mean over seeds, in a band that spans all seeds.

    The loss is only drawn if all experiments share one kind of loss. None if no run has a curve.
    """
    points = [point for experiment in found for run in experiment.runs for point in run.get("curve", ())]
    # The losses of R-NEM and DDPAE differ from the ELBO in kind and in scale.
    kinds = {section_of(experiment.runs[0].get("config", {}), "loss") for experiment in found}
    drawn = [key for key in CURVES if key != "loss" or len(kinds) == 1]
    keys = [key for key in drawn if any(is_number(point.get(key)) for point in points)]
    if not keys:
        return None
    figure, panels = _panels([CURVES[key] for key in keys], num_columns=2)
    for key, axes in zip(keys, panels):
        means = [draw_curve(axes, experiment, key, number) for number, experiment in enumerate(found)]
        axes.set_xlabel("training step")
        if key == "loss":
            # The first steps are far above the rest and would flatten the curve.
            losses = np.concatenate(means)
            low, high = losses.min(), np.quantile(losses, 0.95)
            axes.set_ylim(low - 0.05 * (high - low) - 1e-9, high + 0.1 * (high - low) + 1e-9)
    return _finish(figure, panels)


def length_figure(found: Sequence[Experiment]) -> bytes | None:
    """Draw the final scores by number of frames as a PNG, with standard errors over seeds.

    Evaluations of the same videos with another system, such as IODINE's parameters run as SEQ-IODINE, get their own
    line. None if there are no such scores.
    """
    lines = [(number, one) for number, e in enumerate(found) for one in (e.main(), *_other_systems(e))]
    return _score_figure(lines, LENGTHS, "frames per clip", num_columns=3)


def prediction_figure(found: Sequence[Experiment]) -> bytes | None:
    """Draw the scores of predicted frames by their number as a PNG; None if nothing was predicted."""
    lines = [(number, one) for number, experiment in enumerate(found) if (one := experiment.prediction())]
    return _score_figure(lines, PREDICTIONS, "number of predicted frames", num_columns=2)


def effect_figure(found: Sequence[Experiment]) -> bytes | None:
    """Draw `effects` as a PNG; None if there are none."""
    rows = effects(found)
    metrics = [metric for metric in EFFECTS if any(metric in summaries for _, summaries in rows)]
    if not metrics:
        return None
    figure = Figure(figsize=(3.6 * len(metrics) + 2, 0.28 * len(rows) + 1.1), layout="constrained")
    panels = list(figure.subplots(1, len(metrics), sharey=True, squeeze=False).flat)
    for metric, axes in zip(metrics, panels):
        axes.axvline(0, color="0.3", linewidth=1)
        for place, (_, summaries) in enumerate(reversed(rows)):
            if metric in summaries:
                _draw_effect(axes, summaries[metric], place)
        axes.set_title(f"{EFFECTS[metric]}, difference", fontsize=11)
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    firsts = {first for (_, first), _ in rows}
    names = [label if len(firsts) == 1 else f"{label} - {first}" for (label, first), _ in reversed(rows)]
    panels[0].set_yticks(range(len(rows)), names)
    panels[0].set_ylim(-0.6, len(rows) - 0.4)  # shared by all
    figure.supxlabel(f"worse{f' than {firsts.pop()}' if len(firsts) == 1 else ''}  ←    → better", fontsize=10)
    return _png(figure)


def effects(found: Sequence[Experiment]) -> list[tuple[tuple[str, str], dict[str, Summary]]]:
    """Return `differences`, best F-ARI first: the names of the variant and of the sweep's first one, and metrics."""
    rows = []
    for one in differences(found):
        (top,), (label, _, first) = one.lengths(), one.label.partition(" - ")
        rows.append(((label, first), {metric: s for metric in EFFECTS if (s := one.summary(top, metric))}))
    return sorted(rows, key=lambda row: -row[1]["f_ari"].mean if "f_ari" in row[1] else math.inf)


FIGURES = (
    (
        "effects",
        "Effects",
        "Each variant minus the sweep's first one, paired by seed: the mean over seeds with its standard error, and a "
        "small dot per seed. A variant of one seed is hollow.",
        effect_figure,
    ),
    ("curves", "Learning curves", "Mean over seeds; the band spans all seeds.", curves_figure),
    ("lengths", "Scores by length", "Error bars are standard errors over seeds.", length_figure),
    ("prediction", "Prediction", "Error bars are standard errors over seeds.", prediction_figure),
)
"""File name, title, note and function of each figure. A function returns None if the runs lack its data."""


def binned(curve: Sequence[Mapping[str, Any]], key: str) -> Float[np.ndarray, "N 2"]:
    """Return the steps and values of a curve, averaged within bins. Bins without a finite value are left out.

    The loss is a sum over the frames of a clip. It is divided by their number, because clips grow during training.
    """
    known = [point for point in curve if is_number(point.get(key))]
    points = np.array([(point["step"], point[key]) for point in known], float).reshape(-1, 2)
    if key == "loss":
        points[:, 1] /= [point.get("num_frames") or 1 for point in known]
    if len(points) <= NUM_BINS:
        return points
    part = np.minimum(points[:, 0] / points[:, 0].max() * NUM_BINS, NUM_BINS - 1).astype(int)
    return np.array([points[part == number].mean(axis=0) for number in np.unique(part)])


def draw_curve(axes: Axes, experiment: Experiment, key: str, number: int) -> Float[np.ndarray, " N"]:
    """Draw a line and a band, or a dot and a span if there is one point; return the mean over seeds.

    The line ends where the shortest curve does.
    """
    curves = [curve for run in experiment.runs if len(curve := binned(run.get("curve", ()), key))]
    if not curves:
        return np.zeros(0)
    longest, last = max(curves, key=len), min(curve[-1, 0] for curve in curves)
    steps = longest[longest[:, 0] <= last, 0]
    values = np.stack([np.interp(steps, *curve.T) for curve in curves])
    look = _look(number)
    single = len(steps) == 1
    marker = "o" if single else None  # a line through one point is invisible
    axes.plot(steps, values.mean(axis=0), **look, marker=marker, linewidth=1.5, label=experiment.label)
    if len(curves) > 1 and single:
        axes.vlines(steps, values.min(axis=0), values.max(axis=0), colors=look["color"], alpha=0.5)
    elif len(curves) > 1:
        axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=look["color"], alpha=0.12, linewidth=0)
    return values.mean(axis=0)


def _other_systems(experiment: Experiment) -> list[Series]:
    main = experiment.main()
    return [
        one._replace(label=f"{one.label}, {one.facts['evaluation']}")
        for one in experiment.evaluations()
        if one.dataset == main.dataset and one.model != main.model
    ]


def _score_figure(
    lines: Sequence[tuple[int, Series]], titles: Mapping[str, str], xlabel: str, num_columns: int
) -> bytes | None:
    """Draw one panel per metric. An experiment's number gives each series the same colour in all figures."""
    lengths = sorted({length for _, one in lines for length in one.lengths()})
    present = [m for m in titles if any(one.summary(length, m) for _, one in lines for length in lengths)]
    if not present:
        return None
    figure, panels = _panels([titles[metric] for metric in present], num_columns)
    for metric, axes in zip(present, panels):
        for place, (number, one) in enumerate(lines):
            # Shifted a little, so that error bars do not hide each other.
            shift = 0.03 * lengths[-1] * (place - (len(lines) - 1) / 2) / len(lines)
            _draw_scores(axes, one, metric, number, shift)
        axes.set_xticks(lengths)
        axes.set_xlabel(xlabel)
    return _finish(figure, panels)


def _draw_scores(axes: Axes, series: Series, metric: str, number: int, shift: float) -> None:
    known = {length: s for length in series.lengths() if (s := series.summary(length, metric))}
    further = {"linestyle": "--", "markerfacecolor": "white"} if series.facts else {}
    axes.errorbar(
        [length + shift for length in known],
        [summary.mean for summary in known.values()],
        [summary.standard_error or 0 for summary in known.values()],
        **_look(number) | further,
        marker=MARKERS[number % len(MARKERS)],
        markersize=4.5,
        linewidth=1.3,
        elinewidth=1,
        capsize=2,
        label=series.label,
    )


def _draw_effect(axes: Axes, summary: Summary, place: int) -> None:
    several = summary.standard_error is not None
    color = "C3" if summary.mean < 0 else "C0"
    axes.plot(list(summary.seeds.values()), [place] * len(summary.seeds), ".", color=color, alpha=0.35, markersize=4)
    axes.errorbar(
        summary.mean,
        place,
        xerr=summary.standard_error or 0,
        color=color,
        marker="o",
        markersize=5.5,
        markerfacecolor=color if several else "white",
        elinewidth=1.6,
        capsize=3 if several else 0,
    )


def _panels(titles: Sequence[str], num_columns: int) -> tuple[Figure, list[Axes]]:
    """Make a figure with one panel per title."""
    num_columns = min(num_columns, len(titles))
    num_rows = -(-len(titles) // num_columns)
    figure = Figure(figsize=(4.2 * num_columns + 2, PANEL * num_rows), layout="constrained")
    grid = list(figure.subplots(num_rows, num_columns, squeeze=False).flat)
    for axes in grid[len(titles) :]:
        axes.remove()
    for axes, title in zip(grid, titles):
        axes.set_title(title, fontsize=11)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, grid[: len(titles)]


def _look(number: int) -> dict[str, Any]:
    """Return a line's look: ten colours, then the same colours with other line styles."""
    return {"color": f"C{number % 10}", "linestyle": STYLES[number // 10 % len(STYLES)]}


def _finish(figure: Figure, panels: Sequence[Axes]) -> bytes:
    """Return the PNG, with one legend beside the panels."""
    named = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels())}
    figure.set_figheight(max(figure.get_figheight(), 0.22 * len(named) + 0.3))
    figure.legend(named.values(), named.keys(), loc="outside right upper", fontsize=9, frameon=False)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
