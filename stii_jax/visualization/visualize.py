"""Draw decompositions and learning curves. Everything here is numpy on the host.

`strip` shows one video as a still, `animation` as frames for a GIF; `plot_learning_curve` shows the logs of a run. A
slot keeps its colour in the whole picture. The slot with the most pixels is grey. A true object has the colour of the
slot that overlaps it most over the clip. Where an object changes its slot, the two colours therefore differ.
"""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from stii_jax.storage.files import write_atomic
from stii_jax.storage.images import Picture, encode_gif, encode_png
from stii_jax.storage.metric_log import read_metrics
from stii_jax.types import Decomposition

Color = tuple[int, int, int]

PAGE: Color = (255, 255, 255)
INK: Color = (45, 45, 45)
PREDICTED: Color = (235, 120, 0)
BACKGROUND: Color = (70, 74, 84)
OUTSIDE = 215
"""Grey of pixels that a slot does not explain. Black and white would look like objects."""
GAP = 3
"""Pixels between cells; the border of predicted cells is drawn there."""
CELL = 96
"""Target height of smaller frames, in pixels; they are enlarged by an integer factor."""
_DISTINCT = 24
"""Number of consecutive colours that differ clearly."""
FONT = ImageFont.load_default(13)
LINE = 20
"""Height in pixels of a line of text."""


class Panel(NamedTuple):
    """One aspect of a video, such as its reconstruction or the mask of a slot."""

    title: str
    images: UInt8[np.ndarray, "T H W 3"]
    color: Color | None = None
    """Colour of the slot shown, if any."""
    from_model: bool = True
    """True if the panel is the model's output; only then can it be a prediction."""


def segmentation_colors(num_labels: int) -> UInt8[np.ndarray, "{num_labels} 3"]:
    """Return distinct colours. A larger `num_labels` only appends colours."""
    import matplotlib  # takes a second or two, so a run imports it only once it draws

    strong = (0, 2, 4, 6, 8, 18, 12, 16, 10)  # without grey, which is kept for the background
    colors = [*matplotlib.colormaps["tab20"]([*strong, *(i + 1 for i in strong)])[:, :3]]
    grid = np.stack(np.meshgrid(np.arange(48) / 48, (0.5, 1.0), (0.55, 0.8, 1.0)), axis=-1).reshape(-1, 3)
    others = matplotlib.colors.hsv_to_rgb(grid)
    while len(colors) < num_labels:  # append the colour that differs most from the previous ones
        distances = np.linalg.norm(others[:, None] - np.stack(colors[-_DISTINCT:]), axis=-1)
        colors.append(others[distances.min(axis=1).argmax()])
    return _to_uint8(np.stack(colors[:num_labels]))


def slot_colors(num_slots: int, background: int) -> UInt8[np.ndarray, "{num_slots} 3"]:
    """Return distinct colours, with grey for the background's slot."""
    colors = segmentation_colors(num_slots)
    colors[background] = BACKGROUND
    return colors


def overlay(
    frames: UInt8[np.ndarray, "*batch H W C"],
    labels: Integer[np.ndarray, "*batch H W"],
    alpha: float = 0.6,
    colors: UInt8[np.ndarray, "L 3"] | None = None,
) -> UInt8[np.ndarray, "*batch H W 3"]:
    """Overlay each label's colour on the frames; `alpha` 1 hides the frame."""
    colors = segmentation_colors(int(labels.max()) + 1) if colors is None else colors
    return (alpha * colors[labels] + (1 - alpha) * rgb(frames)).round().astype(np.uint8)


def one_video(decomposition: Decomposition, index: int) -> Decomposition:
    """Return video `index` of a batch, as a batch of one."""
    arrays = {name: array for name, array in decomposition._asdict().items() if array is not None}
    return Decomposition(**{name: array[index : index + 1] for name, array in arrays.items()})


def find_slots(
    video: UInt8[np.ndarray, "T H W C"], decomposition: Decomposition
) -> tuple[Integer[np.ndarray, "T H W"], int]:
    """Return the slot of every pixel of one video, and the background's slot, which has the most pixels.

    Raises:
      ValueError: the decomposition has more than one video, or another number of frames.
    """
    if decomposition.masks.shape[:2] != (1, len(video)):
        raise ValueError(
            f"the decomposition has {decomposition.masks.shape[:2]} (videos, frames), expected "
            f"{(1, len(video))} as in `video`: choose one video with `one_video`, and the same frames of both"
        )
    slots = np.asarray(decomposition.segmentation[0])
    return slots, int(np.bincount(slots.ravel()).argmax())


def rgb(images: UInt8[np.ndarray, "*batch H W C"]) -> UInt8[np.ndarray, "*batch H W 3"]:
    """Return images with three channels; grey ones are repeated."""
    return np.broadcast_to(images, (*images.shape[:-1], 3))


def strip(
    video: UInt8[np.ndarray, "T H W C"],
    decomposition: Decomposition,
    segmentation: UInt8[np.ndarray, "T H W"] | None = None,
    *,
    num_columns: int = 10,
    num_observed: int | None = None,
) -> Picture:
    """Draw one video as a table: columns are frames, rows are the frame, the reconstruction, the truth and every slot.

    Args:
      video: the frames, 0..255. For a prediction, the true future.
      decomposition: the decomposition of this video (B = 1, see `one_video`).
      segmentation: true labels, 0 = background.
      num_columns: maximum number of frames, evenly spaced, the first and last included.
      num_observed: number of observed frames; later ones are marked as predicted.

    Raises:
      ValueError: the decomposition has more than one video, or another number of frames.
    """
    scene, masks, appearances = _panels(video, decomposition, segmentation)
    slots = [panel for pair in zip(masks, appearances) for panel in pair]
    frames = np.unique(np.linspace(0, len(video) - 1, num_columns).round().astype(int))
    return _draw_table(scene + slots, frames.tolist(), num_observed)


def animation(
    video: UInt8[np.ndarray, "T H W C"],
    decomposition: Decomposition,
    segmentation: UInt8[np.ndarray, "T H W"] | None = None,
    *,
    num_observed: int | None = None,
) -> list[Picture]:
    """Draw one video as an animation, the scene above and the slots below. Arguments as for `strip`."""
    scene, _, appearances = _panels(video, decomposition, segmentation)
    pictures = []
    for frame in range(len(video)):
        predicted = num_observed is not None and frame >= num_observed
        word = "" if num_observed is None else "  predicted" if predicted else "  observed"
        pictures.append(_draw_frame([scene, appearances], frame, f"t={frame}{word}", predicted))
    return pictures


def animation_frame(
    frame: UInt8[np.ndarray, "H W 3"] | None,
    decomposition: Decomposition,
    colors: UInt8[np.ndarray, "K 3"],
    caption: str,
) -> Picture:
    """Draw one frame as in `animation`, but with the segmentation overlaid and in given colours.

    Args:
      frame: the frame; None if the decomposition is predicted.
      decomposition: the decomposition of this frame (B = T = 1).
      colors: colours of the slots, see `slot_colors`.
      caption: text below the picture.
    """
    masks, means = np.asarray(decomposition.masks[0])[..., None], np.asarray(decomposition.means[0])
    reconstruction = rgb(_to_uint8((masks * means).sum(axis=1)))
    seen = reconstruction if frame is None else frame[None]
    scene = [
        Panel("frame", np.full_like(seen, OUTSIDE) if frame is None else seen, from_model=False),
        Panel("overlay", overlay(seen, np.asarray(decomposition.segmentation[0]), colors=colors)),
        Panel("reconstruction", reconstruction),
    ]
    return _draw_frame([scene, _appearances(masks, means, colors)], 0, caption, frame is None)


def save_png(path: str | os.PathLike[str], image: Picture) -> None:
    """Write a PNG file atomically."""
    write_atomic(path, encode_png(image))


def save_gif(path: str | os.PathLike[str], frames: Sequence[Picture], fps: int | float) -> None:
    """Write an endless GIF file atomically."""
    write_atomic(path, encode_gif(frames, fps))


def plot_learning_curve(path: str | os.PathLike[str], *metrics: str | os.PathLike[str]) -> None:
    """Write a PNG with the loss and ARI scores of runs, by training step and by training time.

    Args:
      path: the PNG file to write.
      *metrics: `metrics.jsonl` files, one colour each, named after their folders. Keys may have a prefix, as in
        `train/loss`.

    Raises:
      ValueError: there is no file, or a file has no lines.
    """
    from matplotlib.figure import Figure

    runs = [(Path(file).resolve().parent.name, read_metrics(file)) for file in metrics]
    if empty := [name for name, lines in runs if not lines] or ([] if runs else ["no file given"]):
        raise ValueError(f"a learning curve needs at least one line of metrics.jsonl: {empty[0]}")
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    for number, (run, lines) in enumerate(runs):
        label = run if len(runs) > 1 else ""
        for column, (x, unit) in enumerate((("step", 1), ("time", 3600))):
            _plot(axes[0, column], lines, ("loss",), (x, unit), label, f"C{number}")
            _plot(axes[1, column], lines, ("ari", "f_ari"), (x, unit), label, f"C{number}")
    losses = [line[name] for _, lines in runs for line in lines for name in _logged([line], ("loss",))]
    if np.isfinite(losses).any():
        # The first steps are far above the rest and would flatten the curve.
        low, high = np.nanmin(losses), np.nanquantile(losses, 0.97)
        axes[0, 0].set_ylim(low - 0.05 * (high - low) - 1e-9, high + 0.1 * (high - low) + 1e-9)
    axes[0, 0].set_ylabel("loss")
    axes[1, 0].set(ylabel="ARI (solid), F-ARI (dashed)", xlabel="training step", ylim=(-0.05, 1.05))
    axes[1, 1].set_xlabel("training time (hours)")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomic(path, buffer.getvalue())


def _logged(lines: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """Return the names in `lines` that match one of `keys` after removing a prefix."""
    return sorted({name for line in lines for name in line if name.rpartition("/")[2] in keys})


def _plot(
    axes: Any,
    lines: Sequence[Mapping[str, Any]],
    keys: Sequence[str],
    x: tuple[str, int],
    run: str,
    color: str,
) -> None:
    x_key, unit = x
    for name in _logged(lines, keys):
        points = np.array([(line[x_key] / unit, line[name]) for line in lines if name in line], float)
        style = "--" if name.rpartition("/")[2].startswith("f_") else "-"
        marker = "." if len(points) < 50 else ""
        axes.plot(*points.T, style, marker=marker, color=color, linewidth=1.2, label=f"{run} {name}".strip())
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(fontsize=8, frameon=False)


def _panels(
    video: UInt8[np.ndarray, "T H W C"],
    decomposition: Decomposition,
    segmentation: UInt8[np.ndarray, "T H W"] | None,
) -> tuple[list[Panel], list[Panel], list[Panel]]:
    """Make panels of the scene, of each slot's mask and of each slot's masked appearance."""
    slots, background = find_slots(video, decomposition)
    masks, means = np.asarray(decomposition.masks[0])[..., None], np.asarray(decomposition.means[0])
    # Colours of slots, then of labels that match no slot.
    colors = slot_colors(masks.shape[1] + 256, background)
    scene = [
        Panel("frame", rgb(video), from_model=False),
        Panel("reconstruction", rgb(_to_uint8((masks * means).sum(axis=1)))),
        Panel("segmentation", colors[slots]),
    ]
    if segmentation is not None:
        truth = colors[match_labels(segmentation, slots, masks.shape[1])[segmentation]]
        scene.append(Panel("truth", truth, from_model=False))
    grey = rgb(_to_uint8(masks))
    appearances = _appearances(masks, means, colors)
    return scene, [Panel(f"{a.title} mask", grey[:, k], a.color) for k, a in enumerate(appearances)], appearances


def _appearances(
    masks: Float[np.ndarray, "T K H W 1"], means: Float[np.ndarray, "T K H W C"], colors: UInt8[np.ndarray, "L 3"]
) -> list[Panel]:
    """Make a panel of each slot's masked appearance, titled in its colour."""
    alone = rgb(_to_uint8(masks * means + (1 - masks) * OUTSIDE / 255))
    of_slots = [tuple(color) for color in colors[: masks.shape[1]].tolist()]
    return [Panel(f"slot {k}", alone[:, k], color) for k, color in enumerate(of_slots)]


def match_labels(
    segmentation: UInt8[np.ndarray, "T H W"], slots: Integer[np.ndarray, "T H W"], num_slots: int
) -> Integer[np.ndarray, " L"]:
    """Match true labels to slots by greedy IoU over the clip; unmatched labels get `num_slots` and up."""
    num_labels = int(segmentation.max()) + 1
    overlap = np.zeros((num_labels, num_slots))
    np.add.at(overlap, (segmentation, slots), 1)
    union = overlap.sum(1, keepdims=True) + overlap.sum(0) - overlap
    iou = overlap / np.maximum(union, 1)
    match = num_slots + np.arange(num_labels)
    for _ in range(min(num_labels, num_slots)):
        label, slot = np.unravel_index(iou.argmax(), iou.shape)
        if iou[label, slot] > 0:
            match[label] = slot
        iou[label], iou[:, slot] = 0, 0
    return match


def _draw_table(panels: Sequence[Panel], frames: Sequence[int], num_observed: int | None) -> Picture:
    """Draw a table with one row per panel and one column per frame, with titles on the left and above."""
    height, width, _ = _enlarge(panels[0].images[0]).shape
    left = max(int(FONT.getlength(panel.title)) for panel in panels) + LINE + 2 * GAP
    size = (left + len(frames) * (width + GAP) + GAP, LINE + len(panels) * (height + GAP) + GAP)
    page = Image.new("RGB", size, PAGE)
    draw = ImageDraw.Draw(page)
    for column, frame in enumerate(frames):
        x = left + GAP + column * (width + GAP)
        predicted = num_observed is not None and frame >= num_observed
        draw.text((x + width / 2, LINE / 2), f"t={frame}", PREDICTED if predicted else INK, FONT, "mm")
        for row, panel in enumerate(panels):
            _draw_cell(page, x, LINE + GAP + row * (height + GAP), panel, frame, predicted)
    for row, panel in enumerate(panels):
        _draw_title(draw, GAP, LINE + GAP + row * (height + GAP) + height // 2, panel)
    return np.asarray(page)


def _draw_frame(rows: Sequence[Sequence[Panel]], frame: int, caption: str, predicted: bool) -> Picture:
    """Draw rows of panels at one frame, each with its title above, and the caption below."""
    height, width, _ = _enlarge(rows[0][0].images[0]).shape
    step = max(width, *(int(FONT.getlength(panel.title)) for panel in rows[0]), LINE + 40) + 2 * GAP
    size = (max(map(len, rows)) * step + GAP, len(rows) * (height + GAP + LINE) + LINE)
    page = Image.new("RGB", size, PAGE)
    draw = ImageDraw.Draw(page)
    for row, panels in enumerate(rows):
        y = row * (height + GAP + LINE)
        for column, panel in enumerate(panels):
            _draw_title(draw, GAP + column * step, y + LINE // 2, panel)
            _draw_cell(page, GAP + column * step, y + LINE, panel, frame, predicted)
    draw.text((GAP, size[1] - LINE / 2), caption, PREDICTED if predicted else INK, FONT, "lm")
    return np.asarray(page)


def _draw_cell(page: Image.Image, x: int, y: int, panel: Panel, frame: int, predicted: bool) -> None:
    cell = _enlarge(panel.images[frame])
    height, width, _ = cell.shape
    if predicted and panel.from_model:
        box = (x - GAP + 1, y - GAP + 1, x + width + GAP - 2, y + height + GAP - 2)
        ImageDraw.Draw(page).rectangle(box, fill=PREDICTED)
    page.paste(Image.fromarray(cell), (x, y))


def _draw_title(draw: ImageDraw.ImageDraw, x: int, y: int, panel: Panel) -> None:
    """Draw a title centred at height y, after a square in the slot's colour."""
    if panel.color is not None:
        draw.rectangle((x, y - 5, x + 10, y + 5), fill=panel.color)
        x += LINE
    draw.text((x, y), panel.title, INK, FONT, "lm")


def _enlarge(image: Picture) -> Picture:
    scale = max(1, round(CELL / image.shape[0]))
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def _to_uint8(values: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    return (np.clip(values, 0, 1) * 255).round().astype(np.uint8)
