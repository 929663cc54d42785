"""The figure of the probes' scores."""

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stii_jax.storage.files import write_atomic

LOWEST = -0.25
"""Lower end of the R^2 axis. Bars below it are cut off; their labels show the value."""


def draw_scores(path: str | os.PathLike[str], results: Mapping[str, Any]) -> None:
    """Write a PNG of the results of `probes.probe`: R^2 and its standard error per factor, representation and probe.

    Linear probes have solid bars, trees hatched ones. The legend shows disentanglement D and completeness C.
    """
    scores = {
        (representation, name): score
        for representation, of_probes in results["probes"].items()
        for name, score in of_probes.items()
    }
    factors = list(next(iter(scores.values()))["r2"])
    colors = {representation: f"C{number}" for number, representation in enumerate(results["probes"])}
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    axes = figure.subplots()
    width = 0.84 / len(scores)
    for number, ((representation, name), score) in enumerate(scores.items()):
        places = np.arange(len(factors)) + (number - (len(scores) - 1) / 2) * width
        values, errors = (np.array([score[key][factor] for factor in factors], float) for key in ("r2", "r2_stderr"))
        is_linear = name == "linear"
        axes.bar(
            places,
            np.maximum(values, LOWEST),
            0.92 * width,
            yerr=np.where(values < LOWEST, np.nan, errors),
            color=colors[representation] if is_linear else "white",
            edgecolor=colors[representation],
            hatch=None if is_linear else "////",
            error_kw={"elinewidth": 0.8, "ecolor": "0.2"},
            label=f"{representation}, {name}: D {score['disentanglement']:.2f}, C {score['completeness']:.2f}",
        )
        for x, value in zip(places, values):
            text = "-" if np.isnan(value) else f"{value:.2f}"
            y = 0.02 if np.isnan(value) else max(value, 0)
            axes.annotate(text, (x, y), (0, 9), textcoords="offset points", ha="center", fontsize=7)
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.set_xticks(range(len(factors)), factors)
    axes.set(ylim=(LOWEST if any(min(s["r2"].values()) < 0 for s in scores.values()) else 0, 1.1))
    axes.set_ylabel("R\N{SUPERSCRIPT TWO} on held-out videos")
    axes.set_title(
        f"frame {results['frame']}: {results['num_found']} of {results['num_objects']} objects in "
        f"{results['num_videos']} videos are matched to a slot (IoU of {results['min_iou']} or more)",
        fontsize=10,
    )
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(results["probes"]), fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomic(path, buffer.getvalue())
