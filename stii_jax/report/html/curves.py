"""The logged training metrics, as SVG charts with tables of the same numbers."""

import itertools
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from stii_jax.report.figures import binned
from stii_jax.report.files import is_number

WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 26, 40
"""Margins of a chart, in SVG units."""
CHARTS = {
    "Loss": {"loss": "training loss per frame"},
    "Segmentation": {"f_ari": "F-ARI of training batches", "eval_f_ari": "F-ARI of held-out videos"},
}
TABLE_ROWS = 12

Points = Float[np.ndarray, "N 2"]


class Chart(NamedTuple):
    """One chart with its curves."""

    title: str
    curves: dict[str, Points]
    """Steps and values, by the curve's name."""
    low: float
    high: float
    last: float
    """The step at the right edge."""


def charts(log: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Return the charts for which `metrics.jsonl` has values."""
    found = []
    for title, keys in CHARTS.items():
        curves = {name: points for key, name in keys.items() if len(points := binned(log, key))}
        if not curves:
            continue
        values = np.concatenate([points[:, 1] for points in curves.values()])
        low, high = values.min(), values.max()
        if title == "Loss":
            high = np.quantile(values, 0.95)  # the first steps are far above the rest and would flatten the curve
        else:
            low, high = min(low, 0.0), max(high, 1.0)
        last = max(points[-1, 0] for points in curves.values())
        found.append(Chart(title, curves, float(low), float(high if high > low else low + 1), float(max(last, 1))))
    return found


def stages(log: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Return the first step and the clip length of every curriculum stage."""
    known = [(line["step"], line["num_frames"]) for line in log if is_number(line.get("num_frames"))]
    return [(step, length) for length, ((step, _), *_) in itertools.groupby(known, lambda pair: pair[1])]


def chart_html(chart: Chart, begun: Sequence[tuple[int, int]]) -> str:
    """Return a chart as a figure: legend, SVG, a readout that `page.js` fills, and a table of the values."""
    names = [escape(name) for name in chart.curves]
    legend = "".join(f'<li><span class="key line-{i}"></span>{name}</li>' for i, name in enumerate(names))
    said = "; ".join(f"{name} from {_short(p[0, 1])} to {_short(p[-1, 1])}" for name, p in zip(names, _points(chart)))
    return f"""<figure class="chart" data-chart="{escape(chart.title)}">
<figcaption><h3>{escape(chart.title)}</h3><ul class="legend">{legend}</ul></figcaption>
<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)} by training step: {said}.">
{_axes(chart)}{_stages(chart, begun)}{"".join(_curve(chart, i, p) for i, p in enumerate(_points(chart)))}
<line class="hair" y1="{TOP}" y2="{HEIGHT - BOTTOM}" visibility="hidden"/>
</svg>
<p class="readout" aria-hidden="true">Hover over the chart to read values.</p>
<details><summary>Values</summary><div class="wide" tabindex="0" role="region" aria-label="Values of the chart">
<table>{_table(chart)}</table></div></details>
</figure>"""


def chart_data(chart: Chart) -> dict[str, Any]:
    """Return the data from which `page.js` reads values off a chart."""
    curves = {name: [[float(f"{x:.6g}"), float(f"{y:.6g}")] for x, y in p] for name, p in chart.curves.items()}
    return {"left": LEFT, "right": WIDTH - RIGHT, "width": WIDTH, "last": chart.last, "curves": curves}


def _points(chart: Chart) -> list[Points]:
    return list(chart.curves.values())


def _x(chart: Chart, step: int | float) -> float:
    return LEFT + (WIDTH - RIGHT - LEFT) * min(step / chart.last, 1.0)


def _y(chart: Chart, value: float) -> float:
    part = (value - chart.low) / (chart.high - chart.low)
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * min(part, 1.0)


def _axes(chart: Chart) -> str:
    parts = []
    for value in _ticks(chart.low, chart.high):
        y = _y(chart, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>')
    for value in _ticks(0.0, chart.last):
        parts.append(
            f'<text x="{_x(chart, value):.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{_short(value)}</text>'
        )
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 5}" text-anchor="middle">training step</text>')
    return "".join(parts)


def _stages(chart: Chart, begun: Sequence[tuple[int, int]]) -> str:
    """Draw a line wherever clips become longer."""
    if len(begun) < 2:
        return ""
    parts, free = [], 0.0
    for number, (step, length) in enumerate(begun):
        x = _x(chart, step if number else 0)
        parts.append(f'<line class="stage" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        if x >= free:  # the labels of short stages would cover each other
            parts.append(f'<text class="stage" x="{x + 2:.1f}" y="{TOP - 8}">T={length}</text>')
            free = x + 36
    return "".join(parts)


def _curve(chart: Chart, number: int, points: Points) -> str:
    places = [(_x(chart, step), _y(chart, value)) for step, value in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in places) if len(places) < 20 else ""
    return f'<g class="line-{number}"><polyline points="{line}"/>{dots}</g>'


def _table(chart: Chart) -> str:
    """Return a few values of each curve by step, including the first and last."""
    rows: dict[float, dict[str, float]] = {}
    for name, points in chart.curves.items():
        kept = np.unique(np.linspace(0, len(points) - 1, TABLE_ROWS).round().astype(int))
        for step, value in points[kept].tolist():
            rows.setdefault(round(step), {})[name] = value
    head = "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in chart.curves)
    body = []
    for step, values in sorted(rows.items()):
        cells = "".join(f'<td class="number">{_short(values.get(name))}</td>' for name in chart.curves)
        body.append(f'<tr><th scope="row" class="number">{step}</th>{cells}</tr>')
    return f'<thead><tr><th scope="col" class="number">step</th>{head}</tr></thead><tbody>{"".join(body)}</tbody>'


def _ticks(low: float, high: float) -> list[float]:
    """Return four to eight round numbers from `low` to `high`."""
    rough = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * 0.75)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _short(value: int | float | None) -> str:
    """Format a number with about three digits, as HTML."""
    if value is None:
        return "&ndash;"
    if abs(value) >= 10_000:
        return _short(value / 1000) + "k"
    text = f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return text.replace("-", "&minus;")
