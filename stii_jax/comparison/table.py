"""The comparison as Markdown tables."""

import math
from collections.abc import Mapping
from typing import Any

from stii_jax.report.markdown import markdown_table

_TITLES = {"": "All frames", "touching": "Frames in which objects touch", "apart": "Frames in which no objects touch"}
_COLUMNS = (
    "method",
    "found",
    "objects found",
    "identity switches",
    "HOTA",
    "IDF1",
    "MOTA",
    "centroid error, % of the side",
)


def tables(results: Mapping[str, Any]) -> str:
    """Return one table per group of frames. The first also has the minutes of compute."""
    rows, parts = results["rows"], []
    for group, title in _TITLES.items():
        scores = [row[group] if group else row for row in rows if not group or group in row]
        if not scores:
            continue
        count = scores[0]["num_frames"]
        parts.append(f"**{title}** ({count})" + ("" if count else ": none"))
        if not count:
            continue
        cells = [[row["method"], *_cells(score)] for row, score in zip(rows, scores, strict=True)]
        if not group:
            cells = [[*line, f"{row['seconds'] / 60:.1f}"] for line, row in zip(cells, rows, strict=True)]
        parts.append(markdown_table([*_COLUMNS, *["minutes of compute"] * (not group)], cells))
    return "\n\n".join(parts)


def _cells(scores: Mapping[str, Any]) -> list[str]:
    shares = [f"{scores[key]:.3f}" for key in ("hota", "idf1", "mota")]
    error = scores["centroid_error"]
    return [
        f"{scores['found']:.1%}",
        f"{scores['objects_found']:.1%}",
        str(scores["identity_switches"]),
        *shares,
        f"{error:.2f}" if math.isfinite(error) else "none found",
    ]
