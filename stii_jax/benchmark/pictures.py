"""The table of a sweep, and its curves of time and memory against every factor."""

import io
import itertools
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from stii_jax.benchmark.points import FACTORS
from stii_jax.report.markdown import markdown_table

SECONDS, MEMORY = "seconds per step", "temporary memory per device (MB)"
_WITH_CELLS = ("frames", "refinements")
"""Factors that change the number of cells; their panels have lines proportional to it."""
_COLUMNS = 4
_MARKERS = "osD^v"

Measured = Mapping[str, Any]


def table(measured: Sequence[Measured]) -> str:
    """Return a Markdown table with one row per point; a failed point shows its error."""
    header = ["config", "point", "cells per video", SECONDS, "ms per cell and video"]
    header += ["compile time (s)", MEMORY, "peak memory (MB)"]
    return markdown_table(header, [_row(point) for point in measured])


def _row(point: Measured) -> list[str]:
    changed = point["changed"]
    described = f"{FACTORS[changed].title} = {point['values'][changed]}" if changed else f"base: {_base(point)}"
    if "error" in point:
        return [point["config"], described, *[""] * 5, point["error"]]
    result = point["result"]
    numbers = [result["cells_per_step"] / result["batch_size"], result["step_seconds"]]
    numbers += [_scaled(result["seconds_per_cell"], 1e3), result["compile_seconds"]]
    numbers += [_scaled(result[key], 1e-6) for key in ("temporary_bytes_per_device", "peak_memory_bytes")]
    return [point["config"], described, *("" if number is None else _short(number) for number in numbers)]


def _base(point: Measured) -> str:
    return ", ".join(f"{name} {value}" for name, value in point["values"].items())


def figure(measured: Sequence[Measured]) -> bytes:
    """Return a PNG of the seconds per step (top) and the memory (bottom) against every varied factor.

    All axes are logarithmic. All panels of seconds share their axis, and so do those of memory, so that slopes can be
    compared. Dashed lines are the number of cells times the best-fitting constant.
    """
    good = [point for point in measured if "result" in point]
    configs = list(dict.fromkeys(point["config"] for point in good))
    factors = [name for name in FACTORS if any(len(curve(good, config, name)) > 1 for config in configs)]
    titles = [title for title in (SECONDS, MEMORY) if any(_value(point, title) for point in good)]
    columns = max(1, min(_COLUMNS, len(factors)))
    rows = max(1, len(titles) * -(-len(factors) // columns))
    drawing = Figure(figsize=(3.1 * columns + 0.3, 2.5 * rows + 0.5), layout="constrained")
    grid = drawing.subplots(rows, columns, squeeze=False)
    unused = set(grid.flat)
    for (number, name), (below, title) in itertools.product(enumerate(factors), enumerate(titles)):
        axes = grid[len(titles) * (number // columns) + below, number % columns]
        unused.remove(axes)
        for order, config in enumerate(configs):
            _draw(axes, curve(good, config, name), name, title, order)
        _finish(axes, {point["values"][name] for point in good if point["changed"] in ("", name)}, _limits(good, title))
        axes.set_xlabel(FACTORS[name].title)
        if number % columns == 0:
            axes.set_ylabel(title)
    for axes in unused:
        axes.remove()
    named = {label: handle for axes in drawing.axes for handle, label in zip(*axes.get_legend_handles_labels())}
    drawing.legend(named.values(), named.keys(), loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def curve(measured: Sequence[Measured], config: str, factor: str) -> list[Measured]:
    """Return a config's points in which only this factor changes, including the base, sorted by its value."""
    own = [point for point in measured if point["config"] == config and point["changed"] in ("", factor)]
    return sorted(own, key=lambda point: point["values"][factor])


def fit_time_per_cell(points: Sequence[Measured]) -> list[float]:
    """Return seconds proportional to the number of cells, with the constant that best fits the logarithms."""
    cells = [point["result"]["cells_per_step"] for point in points]
    ratios = [point["result"]["step_seconds"] / count for point, count in zip(points, cells)]
    constant = statistics.geometric_mean(ratios)
    return [constant * count for count in cells]


def _value(point: Measured, title: str) -> float | None:
    result = point["result"]
    return result["step_seconds"] if title == SECONDS else _scaled(result["temporary_bytes_per_device"], 1e-6)


def _draw(axes: Axes, points: Sequence[Measured], factor: str, title: str, order: int) -> None:
    known = [point for point in points if _value(point, title)]
    if not known:
        return
    values = [value for point in known if (value := _value(point, title))]
    x, config, color = [point["values"][factor] for point in known], known[0]["config"], f"C{order % 10}"
    with_cells = title == SECONDS and factor in _WITH_CELLS
    look: dict[str, Any] = {"color": color, "marker": _MARKERS[order % len(_MARKERS)], "markersize": 5}
    line = {"linestyle": "none"} if with_cells else {"linewidth": 1.3, "label": config}
    axes.plot(x, values, **look, **line)
    if with_cells:
        label = f"{config}, proportional to the number of cells"
        axes.plot(x, fit_time_per_cell(known), "--", color=color, linewidth=1.1, label=label)


def _limits(points: Sequence[Measured], title: str) -> tuple[float, float]:
    """Return axis limits with room for all values, and for a factor of at least four."""
    values = [value for point in points if (value := _value(point, title))]
    low, high = min(values), max(values)
    wider = max(1.3, 2 * (low / high) ** 0.5)
    return low / wider, high * wider


def _finish(axes: Axes, x: Collection[int], limits: tuple[float, float]) -> None:
    axes.set(xscale="log", yscale="log", ylim=limits)
    axes.xaxis.set_major_locator(FixedLocator(sorted(x)))
    decades = range(math.floor(math.log10(limits[0])), math.ceil(math.log10(limits[1])) + 1)
    axes.yaxis.set_major_locator(FixedLocator([10.0**decade * part for decade in decades for part in (1, 2, 5)]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
