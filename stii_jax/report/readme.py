"""The tables of `results/README.md`: scores over seeds, published scores and sources."""

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stii_jax.report.entries import DEFAULT_MODEL, Run, Score
from stii_jax.report.files import ReportError
from stii_jax.report.markdown import markdown_table
from stii_jax.report.published import PUBLISHED_METRICS, Published, published_score
from stii_jax.report.seeds import lower_is_better
from stii_jax.report.tables import DIGITS, MAIN_METRICS
from stii_jax.storage.files import PathLike

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
_OWN = ("video_ari", "video_f_ari", "fg_miou", "video_fg_miou", "identity_switches", "mask_ari", "mask_f_ari")
OWN_METRICS = {metric: MAIN_METRICS[metric] for metric in _OWN}


def results_table(runs: Sequence[Run], published: Published, relative_to: PathLike = ".") -> str:
    """Return our scores beside the published ones, the sources of each run, and the paper's table, as Markdown.

    Args:
      runs: from `read_runs`.
      published: content of `published.json`.
      relative_to: folder of the file that will hold the table, for relative links.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run["name"], []).append(run)
    if not groups:
        return f"No results yet.\n\n{published_table(groups, published)}"
    header = ["run", "data", "frames", "seeds"]
    for title in PUBLISHED_METRICS.values():
        header += [title, f"{title} published"]
    scores = markdown_table([*header, *OWN_METRICS.values()], _score_rows(groups, published))
    sources = markdown_table(
        ["run", "videos", "hours per seed", "hardware", "commit", "seeds: files", "command"],
        [_source_row(name, group, relative_to) for name, group in groups.items()],
    )
    return (
        f"{scores}\n\nMean ± standard deviation over seeds, the worst seed in brackets. ARI and F-ARI are "
        "computed per frame, video ARI and video F-ARI over the whole clip. FG-mIoU and video FG-mIoU match slots "
        "to objects in the same two ways. Identity switches are summed over all objects in a clip. Scores of masks use "
        "the decoder's masks as the segmentation. All others follow `eval.segmentation`.\n\n"
        f"{sources}\n\n"
        f"{published_table(groups, published)}"
    )


def replace_between_markers(text: str, table: str, path: PathLike) -> str:
    """Return `text`, the content of the file `path`, with `table` between the markers.

    Raises:
      ReportError: the text does not have exactly one pair of markers.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ReportError(f"{path}: expected one line {BEGIN!r} and, after it, one line {END!r}")
    return f"{text[: text.index(BEGIN)]}{BEGIN}\n{table}\n{text[text.index(END) :]}"


def published_table(groups: Mapping[str, Sequence[Run]], published: Published) -> str:
    """Return the paper's scores, with the names of our runs on the same data and model."""
    ours: dict[tuple[str, str], list[str]] = {}
    for name, (first, *_) in groups.items():
        ours.setdefault((first["dataset"], first.get("model", DEFAULT_MODEL)), []).append(name)
    rows = []
    for row in published["rows"]:
        frames = "each frame" if row["num_frames"] == [1] else "/".join(map(str, row["num_frames"]))
        scores = ["/".join(f"{value:.4f}" for value in row[metric]) for metric in PUBLISHED_METRICS]
        here = ", ".join(ours.get((row["dataset"], row["model"]), [])) or "not run"
        rows.append([row["dataset"], row["model"], frames, *scores, here])
    header = ["data", "model", "frames", *PUBLISHED_METRICS.values(), "our runs"]
    return f"Published: {published['source']}.\n\n{markdown_table(header, rows)}"


def _score_rows(groups: Mapping[str, list[Run]], published: Published) -> list[list[str]]:
    rows = []
    for name, group in groups.items():
        by_length: dict[int, list[Score]] = {}
        for run in group:
            for score in run["scores"]:
                by_length.setdefault(score["num_frames"], []).append(score)
        of = group[0]["dataset"], group[0].get("model", DEFAULT_MODEL)
        for num_frames, scores in sorted(by_length.items()):
            row = [name, group[0]["dataset"], str(num_frames), str(len(scores))]
            for metric in PUBLISHED_METRICS:
                theirs = published_score(published, *of, num_frames, metric)
                row += [_over_seeds(scores, metric), "not published" if theirs is None else f"{theirs:.4f}"]
            rows.append(row + [_over_seeds(scores, metric) for metric in OWN_METRICS])
    return rows


def _over_seeds(scores: Iterable[Score], metric: str) -> str:
    """Format mean ± standard deviation (worst) over the seeds that have a number."""
    of_masks = metric.removeprefix("mask_")  # without responsibilities, the main scores are those of the masks
    values = [score.get(metric, score.get(of_masks)) for score in scores if metric in score or of_masks in score]
    if not values:
        return "not measured"  # the run is older than this score
    known = [value for value in values if value is not None]
    if not known:
        return "undefined"
    digits = DIGITS.get(metric, 4)
    cell = f"{statistics.fmean(known):.{digits}f}"
    if len(known) > 1:
        worst = max(known) if lower_is_better(metric) else min(known)
        cell += f" ± {statistics.stdev(known):.{digits}f} ({worst:.{digits}f})"
    missing = len(values) - len(known)
    return f"{cell}, {missing} undefined" if missing else cell


def _source_row(name: str, group: list[Run], relative_to: PathLike) -> list[str]:
    def joined(values: Iterable[Any]) -> str:
        return ", ".join(dict.fromkeys(map(str, values)))  # each once, in order

    files = ", ".join(f"[{run['seed']}]({_link(run['path'], relative_to)})" for run in group)
    hours = statistics.fmean(run["wall_seconds"] for run in group) / 3600
    return [
        name,
        joined(score["num_videos"] for run in group for score in run["scores"]),
        f"{hours:.2g}",
        joined(run["hardware"] for run in group),
        joined(str(run["commit"])[:9] for run in group),
        files,
        joined(f"`{run['command']}`" for run in group if run.get("command")) or "see the files' `config`",
    ]


def _link(path: Path, relative_to: PathLike) -> str:
    return Path(os.path.relpath(path, relative_to)).as_posix()
