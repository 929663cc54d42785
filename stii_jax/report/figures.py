"""The figures of a report: learning curves, scores against length, predictions. A line is one experiment's seeds."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stii_jax.report.files import is_number
from stii_jax.report.seeds import Experiment, Series
from stii_jax.report.settings import section_of

CURVES = {
    "loss": "training loss, a frame",
    "ari": "ARI, training",
    "f_ari": "F-ARI, training",
    "eval_f_ari": "F-ARI, held out",
}
LENGTHS = {"ari": "ARI", "f_ari": "F-ARI", "video_f_ari": "video F-ARI"}
PREDICTIONS = {"f_ari": "F-ARI", "ari": "ARI", "mse": "MSE", "velocity_cosine": "velocity cosine"}
NUM_BINS = 60
"""Parts of a training run; noisy scores of single batches are averaged within each."""
MARKERS = "osD^vP*Xh<"
STYLES = ("-", "--", ":", "-.")
PANEL = 3.4
"""Inches of a panel's height."""


def curves_figure(found: Sequence[Experiment]) -> bytes | None:
    """PNG of what was logged in training, by step: the mean over seeds, and all seeds between the edges of the band.

    Losses only where they can be compared. None where no run has its curve.
    """
    points = [point for experiment in found for run in experiment.runs for point in run.get("curve", ())]
    # R-NEM's loss and DDPAE's are of other kinds than the ELBO's, and of other sizes.
    kinds = {section_of(experiment.runs[0].get("config", {}), "loss") for experiment in found}
    drawn = [key for key in CURVES if key != "loss" or len(kinds) == 1]
    keys = [key for key in drawn if any(is_number(point.get(key)) for point in points)]
    if not keys:
        return None
    figure, panels = _panels([CURVES[key] for key in keys], num_columns=2)
    for key, axes in zip(keys, panels):
        means = [_draw_curve(axes, experiment, key, number) for number, experiment in enumerate(found)]
        axes.set_xlabel("step")
        if key == "loss":
            # The first steps are far above the rest and would flatten it.
            losses = np.concatenate(means)
            low, high = losses.min(), np.quantile(losses, 0.95)
            axes.set_ylim(low - 0.05 * (high - low) - 1e-9, high + 0.1 * (high - low) + 1e-9)
    return _finish(figure, panels)


def length_figure(found: Sequence[Experiment]) -> bytes | None:
    """PNG of the final scores against the number of frames, with standard errors over seeds.

    A further evaluation of the same videos by another system (as SEQ-IODINE is of IODINE's parameters) has a line of
    its own. None where there are no such scores.
    """
    lines = [(number, one) for number, e in enumerate(found) for one in (e.main(), *_other_systems(e))]
    return _score_figure(lines, LENGTHS, "frames", num_columns=3)


def prediction_figure(found: Sequence[Experiment]) -> bytes | None:
    """PNG of the scores of imagined frames against their number; None where nothing was predicted."""
    lines = [(number, one) for number, experiment in enumerate(found) if (one := experiment.prediction())]
    return _score_figure(lines, PREDICTIONS, "predicted frames", num_columns=2)


FIGURES = (
    ("curves", "Learning curves", "Mean over seeds; the band holds all seeds.", curves_figure),
    ("lengths", "Scores by length", "Bars are standard errors over seeds.", length_figure),
    ("prediction", "Prediction", "Bars are standard errors over seeds.", prediction_figure),
)
"""File name, title, note and function of every figure. A function returns None if the runs lack its data."""


def binned(curve: Sequence[Mapping[str, Any]], key: str) -> Float[np.ndarray, "N 2"]:
    """Steps and values of a curve, each the mean of a part of training; parts without a finite value are left out.

    The loss, which is a sum over the frames of a clip, is divided by their number, as clips grow in training.
    """
    known = [point for point in curve if is_number(point.get(key))]
    points = np.array([(point["step"], point[key]) for point in known], float).reshape(-1, 2)
    if key == "loss":
        points[:, 1] /= [point.get("num_frames") or 1 for point in known]
    if len(points) <= NUM_BINS:
        return points
    part = np.minimum(points[:, 0] / points[:, 0].max() * NUM_BINS, NUM_BINS - 1).astype(int)
    return np.array([points[part == number].mean(axis=0) for number in np.unique(part)])


def _draw_curve(axes: Axes, experiment: Experiment, key: str, number: int) -> Float[np.ndarray, " N"]:
    """Draws a line and a band; returns the seeds' mean, as far as the shortest of them goes."""
    curves = [curve for run in experiment.runs if len(curve := binned(run.get("curve", ()), key))]
    if not curves:
        return np.zeros(0)
    longest, last = max(curves, key=len), min(curve[-1, 0] for curve in curves)
    steps = longest[longest[:, 0] <= last, 0]
    values = np.stack([np.interp(steps, *curve.T) for curve in curves])
    look = _look(number)
    axes.plot(steps, values.mean(axis=0), **look, linewidth=1.5, label=experiment.label)
    if len(curves) > 1:
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
    """A panel a metric; each series comes with the number of its experiment, which has one colour in all figures."""
    lengths = sorted({length for _, one in lines for length in one.lengths()})
    present = [m for m in titles if any(one.summary(length, m) for _, one in lines for length in lengths)]
    if not present:
        return None
    figure, panels = _panels([titles[metric] for metric in present], num_columns)
    for metric, axes in zip(present, panels):
        for place, (number, one) in enumerate(lines):
            # A little apart, so that error bars do not hide each other.
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


def _panels(titles: Sequence[str], num_columns: int) -> tuple[Figure, list[Axes]]:
    """A figure with a panel a title."""
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
    """Ten colours, then the same with other strokes."""
    return {"color": f"C{number % 10}", "linestyle": STYLES[number // 10 % len(STYLES)]}


def _finish(figure: Figure, panels: Sequence[Axes]) -> bytes:
    """The PNG, with one legend beside the panels."""
    named = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels())}
    figure.set_figheight(max(figure.get_figheight(), 0.22 * len(named) + 0.3))
    figure.legend(named.values(), named.keys(), loc="outside right upper", fontsize=9, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
