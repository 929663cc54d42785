"""The table of scores, made sortable by `page.js`."""

from collections.abc import Mapping, Sequence
from html import escape

from stii_jax.report.entries import Score
from stii_jax.report.html.subject import Evaluation
from stii_jax.report.tables import DIGITS, MAIN_METRICS, PREDICTION_METRICS

METRICS: Mapping[str, str] = MAIN_METRICS | PREDICTION_METRICS


def scores_table(evaluations: Sequence[Evaluation], step: int) -> str:
    """Return one row per evaluation and length; "" without evaluations. Rows from another step than `step` name it."""
    rows = [(one, scores) for one in evaluations for scores in one.lengths]
    if not rows:
        return ""
    metrics = [metric for metric in METRICS if any(metric in scores for _, scores in rows)]
    numeric = ["frames", *(METRICS[metric] for metric in metrics), "videos"]
    # Non-breaking hyphens keep names such as "F-ARI" on one line.
    names = (name.replace("-", "&#8209;") for name in numeric)
    head = '<th scope="col">evaluation</th>' + "".join(f'<th scope="col" class="number">{name}</th>' for name in names)
    body = []
    for one, scores in rows:
        label = one.label if one.step == step else f"{one.label}, step {one.step}"
        cells = "".join(_score(scores, metric) for metric in metrics)
        frames, videos = (_cell(scores.get(key), 0) for key in ("num_frames", "num_videos"))
        body.append(f'<tr><th scope="row">{escape(label)}</th>{frames}{cells}{videos}</tr>')
    return f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(body) + "\n</tbody>"


def _score(scores: Score, metric: str) -> str:
    digits = DIGITS.get(metric, 4)
    error = scores.get(f"{metric}_stderr")
    return _cell(scores.get(metric), digits, "" if error is None else f" <small>&plusmn; {error:.{digits}f}</small>")


def _cell(value: int | float | None, digits: int, more: str = "") -> str:
    """Return a cell with a number and a suffix; `page.js` sorts by the value in the attribute."""
    if value is None:
        return '<td class="number">&ndash;</td>'
    return f'<td class="number" data-value="{value!r}">{value:.{digits}f}{more}</td>'
