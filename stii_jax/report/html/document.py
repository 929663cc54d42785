"""Fill in `main.html` with a run or model and its videos. All text is escaped here."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from stii_jax.config import to_json
from stii_jax.evaluation import novelty
from stii_jax.pretrained.trained import without_paths
from stii_jax.report.files import is_number
from stii_jax.report.html.clips import Clip, clip_data, data_uri
from stii_jax.report.html.curves import Chart, chart_data, chart_html, charts, stages
from stii_jax.report.html.scores import scores_table
from stii_jax.report.html.subject import Subject
from stii_jax.report.markup import facts_list, fill_page

FOLDER = Path(__file__).parent


def render(subject: Subject, clips: Sequence[Clip]) -> str:
    """Return the HTML of a page."""
    config, facts = subject.trained.config, subject.trained.facts
    dataset = f"{config.data.dataset}/{config.data.variant}".rstrip("/")
    drawn = charts(subject.log)
    table = scores_table(subject.evaluations, subject.trained.step)
    parts = {
        "summary": facts_list(_summary(subject, dataset)),
        "stills": "\n".join(_still(number, clip) for number, clip in enumerate(clips)),
        "scores": _scores(table),
        "curves": _curves(drawn, stages(subject.log)),
        "facts": facts_list(_details(facts)),
        "settings": escape(to_json(without_paths(config))),
    }
    return fill_page(
        FOLDER / "main.html",
        parts,
        title=subject.name,
        tab=subject.name,
        lead=_lead(clips[0], dataset),
        styles=(FOLDER / "page.css",),
        scripts=(FOLDER / "page.js",),
        data={"clips": [clip_data(clip) for clip in clips], "charts": [chart_data(chart) for chart in drawn]},
    )


def _lead(clip: Clip, dataset: str) -> str:
    num_frames, num_slots = clip.masks.shape[:2]
    text = (
        f"Held-out videos of {dataset}, decomposed by a model that was trained on raw frames without labels. Each of "
        f"its {num_slots} slots reconstructs one part of the scene and predicts a mask for it."
    )
    if clip.num_observed == num_frames:
        return text
    return f"{text} After frame {clip.num_observed} the model no longer sees the video and predicts what follows."


def _summary(subject: Subject, dataset: str) -> dict[str, Any]:
    config, facts = subject.trained.config, subject.trained.facts
    options = ", ".join(f"{key}: {value}" for key, value in sorted(without_paths(config).data.options.items()))
    commit = str(facts.get("commit") or "unknown")[:9]
    return {
        "system": config.system,
        "dataset": dataset,
        "step": subject.trained.step,
        "seed": facts.get("seed"),
        "training time": _duration(facts.get("train_seconds")),
        "hardware": facts.get("hardware"),
        "commit": f"{commit}, with changes" if facts.get("dirty") else commit,
        "dataset options": options or None,
        "reconstruction of held-out videos": _reconstruction(subject.held_out),
    }


def _reconstruction(held_out: Any) -> str | None:
    """Describe the reference that `--mode decompose` compares a video with."""
    if (reference := novelty.find_reference(held_out)) is None:
        return None
    return (
        f"relative error {reference.typical['relative_error']:.2g} (median of {reference.num_videos} videos), "
        f"log-likelihood {reference.typical['log_likelihood']:.2f} nats per pixel; --mode decompose warns of a video "
        f"with a relative error above {reference.limit:.2g}"
    )


def _details(facts: dict[str, Any]) -> dict[str, Any]:
    versions = facts.get("versions")
    listed = versions if isinstance(versions, dict) else {}
    return {"python": facts.get("python"), "devices": facts.get("device_count")} | listed


def _duration(seconds: Any) -> str | None:
    if not is_number(seconds):
        return None
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min" if minutes else "< 1 min"


def _still(number: int, clip: Clip) -> str:
    said = f"Video {number}: columns are frames; rows are the frame, reconstruction, segmentation, and every slot"
    return f'<img src="{data_uri(clip.strip)}" alt="{said}">'


def _scores(table: str) -> str:
    if not table:
        return "<p>Not evaluated yet. Run --mode evaluate to add scores.</p>"
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Scores">\n'
        f'<table id="scores"><caption class="unseen">Scores of held-out videos</caption>{table}</table></div>'
    )


def _curves(drawn: Sequence[Chart], begun: Sequence[tuple[int, int]]) -> str:
    if not drawn:
        return ""
    figures = "\n".join(chart_html(chart, begun) for chart in drawn)
    note = "<p>T is the number of frames of a training clip.</p>" if len(begun) > 1 else ""
    head = '<section aria-labelledby="training"><h2 id="training">Training</h2>'
    return f'{head}\n<div class="charts">{figures}</div>\n{note}</section>'
