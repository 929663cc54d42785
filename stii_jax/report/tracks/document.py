"""Fill in `main.html` with a decomposition. Text is escaped here, or set as text by the scripts."""

from html import escape
from pathlib import Path
from typing import Any

from stii_jax.report.markup import facts_list, fill_page
from stii_jax.report.tracks.folder import DecomposedRecording
from stii_jax.report.tracks.futures import Point, read_futures
from stii_jax.report.tracks.outlines import UNITS, pack_outlines
from stii_jax.report.tracks.pictures import Pictures, read_pictures
from stii_jax.visualization.visualize import slot_colors

FOLDER = Path(__file__).parent
STYLES = (FOLDER.parent / "html" / "page.css", FOLDER / "page.css")
SCRIPTS = tuple(FOLDER / name for name in ("tracks.js", "player.js", "charts.js", "editor.js"))
_TOGGLE = '<label><input id="show-futures" type="checkbox" checked> futures</label>'
_LEGEND = (
    "<div><dt>futures</dt><dd>in the last observed frame and in predicted ones: the paths of each object in {} sampled "
    "futures. A dot is the place of the object in one of them, in the current frame</dd></div>"
)
_MORE_COLORS = 32
"""Colours beyond those of the slots, for objects that come from splitting a track."""


def render(found: DecomposedRecording) -> str:
    """Return the HTML of a page; raises as `read_pictures`."""
    pictures, futures = read_pictures(found), read_futures(found)
    return fill_page(
        FOLDER / "main.html",
        {
            "pictures": escape(_about(found, pictures)),
            "facts": facts_list(_facts(found)),
            "futures": _TOGGLE if futures else "",
            "about_futures": _LEGEND.format(len(futures[0])) if futures else "",
        },
        title=found.recording.name,
        tab=f"{found.recording.name} \N{EN DASH} tracks",
        lead=_lead(found),
        styles=STYLES,
        scripts=SCRIPTS,
        data=page_data(found, pictures, futures),
    )


def page_data(
    found: DecomposedRecording, pictures: Pictures, futures: list[list[list[Point]]] | None = None
) -> dict[str, Any]:
    """Return the data that the page's scripts read."""
    summary, (width, height) = found.summary, found.size
    num_slots, background = found.num_slots, summary["background_slot"]
    return {
        "name": found.recording.name,
        "width": width,
        "height": height,
        "box": summary["view_box"],
        "fps": _rate(found),
        "observed": found.num_frames,
        "slots": num_slots,
        "background": background,
        "cuts": _cuts(found),
        "colors": slot_colors(num_slots + _MORE_COLORS, background).tolist(),
        "table": found.table,
        "pictures": pictures._asdict(),
        "outlines": pack_outlines(found, pictures.every),
        "unit": max(width, height) / UNITS,
        **({"futures": futures} if futures else {}),
    }


def _cuts(found: DecomposedRecording) -> list[int]:
    """Return the frames at which a new scene begins; none in older decompositions, which did not detect cuts."""
    cuts = found.summary.get("cuts")
    if not isinstance(cuts, list):
        return []
    return sorted({cut for cut in cuts if isinstance(cut, int) and 0 < cut < found.num_frames})


def _rate(found: DecomposedRecording) -> float:
    """Return the mean frame rate by the times in the table, because the rate stated in a file may be wrong."""
    seconds = float(found.rows[found.num_frames - 1][0]["time"])
    return (found.num_frames - 1) / seconds if seconds > 0 else found.summary["fps"]


def _lead(found: DecomposedRecording) -> str:
    summary = found.summary
    ahead = f" and {summary['num_predicted']:,} predicted ones" if summary["num_predicted"] else ""
    parts = f"{found.num_slots} slots, one of them the background"
    if "num_objects" in summary:
        parts = f"{found.num_slots - 1} objects and the background"
    return (
        f"{found.num_frames:,} frames of {found.size[0]}x{found.size[1]} pixels{ahead}, decomposed into {parts}. Check "
        "the tracks, correct them, and save a table."
    )


def _about(found: DecomposedRecording, pictures: Pictures) -> str:
    """Describe the frames and the resolution that the images leave out."""
    texts = []
    if pictures.every > 1:
        texts.append(
            f"This page shows one image for every {pictures.every} frames. In between, it repeats the previous "
            "image and outlines; tables and curves include every frame."
        )
    if (pictures.width, pictures.height) != found.size:
        texts.append(
            f"Images are reduced to {pictures.width}x{pictures.height} pixels; overlay.mp4 has the full resolution."
        )
    return " ".join(texts)


def _facts(found: DecomposedRecording) -> dict[str, Any]:
    summary = found.summary
    left, top, right, bottom = summary["view_box"]
    views = f"in {len(summary['tiles'])} tiles of" if "tiles" in summary else "at"
    remarks = [str(text) for text in (summary.get("damage"), *(summary.get("notes") or ())) if text]
    return {
        "recording": found.recording.name,
        "frames per second": f"{_rate(found):.4g}",
        "frame stride": summary["frame_stride"] if summary["frame_stride"] != 1 else None,
        "region seen by the model": f"x {left} to {right}, y {top} to {bottom}, {views} {summary.get('size')} pixels",
        "model": summary.get("model") or Path(str(summary.get("workdir", "unknown"))).name,
        "trained on": summary.get("dataset"),
        "step": summary.get("step"),
        "remarks": "; ".join(remarks).replace(str(summary["input"]), found.recording.name) or None,
    }
