"""Pictures of a latent traversal (see `traversal.py`): a still, and the frames of a GIF. Numpy on the host."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from stii_jax.analysis.traversal import Traversal
from stii_jax.storage.images import Picture
from stii_jax.visualization.visualize import CELL, FONT, GAP, INK, LINE, PAGE, Color

PER_LINE = 4
"""Number of panels per line in the animation."""


def draw_traversal(traversal: Traversal, *, num_columns: int = 7, alone: bool = False) -> Picture:
    """Draw one row per dimension and one column per value, below the input frame and its unchanged reconstruction.

    Args:
        traversal: a traversal from `traverse`.
        num_columns: maximum number of values to show, evenly spaced, including the first and the last.
        alone: True to show only the slot's part instead of the whole frame.
    """
    columns = np.unique(np.linspace(0, len(traversal.offsets) - 1, num_columns).round().astype(int))
    names = _names(traversal)
    left = 3 * GAP + max(int(FONT.getlength(name)) for name in names)
    caption = "offset in standard deviations over objects (KL in nats)"
    context = Image.fromarray(draw_panels([_context(traversal)], traversal.color))
    table = _table((traversal.alone if alone else traversal.frames)[:, columns])
    width = left + max(context.width, table.width, int(FONT.getlength(caption)) + GAP)
    head = context.height + 2 * LINE
    page = Image.new("RGB", (width, head + table.height), PAGE)
    page.paste(context, (left - GAP, 0))
    page.paste(table, (left, head))
    draw = ImageDraw.Draw(page)
    draw.text((left, head - 1.5 * LINE), caption, INK, FONT, "lm")
    across, down = table.width / len(columns), table.height / len(names)
    for number, column in enumerate(columns):
        x = left + number * across + (across - GAP) / 2
        draw.text((x, head - LINE / 2), _signed(traversal.offsets[column]), INK, FONT, "mm")
    for row, name in enumerate(names):
        draw.text((GAP, head + row * down + (down - GAP) / 2), name, INK, FONT, "lm")
    return np.asarray(page)


def traversal_animation(traversal: Traversal) -> list[Picture]:
    """Draw all dimensions at once, one panel each, moving from the middle to both ends and back."""
    last, middle = len(traversal.offsets) - 1, traversal.middle
    pictures = []
    for value in (*range(middle, last), *range(last, 0, -1), *range(middle)):
        moved = list(zip(_names(traversal), traversal.frames[:, value]))
        lines = [dict(moved[start : start + PER_LINE]) for start in range(0, len(moved), PER_LINE)]
        panels = Image.fromarray(draw_panels([_context(traversal), *lines], traversal.color))
        caption = f"offset: {_signed(traversal.offsets[value])} standard deviations"
        width = max(panels.width, int(FONT.getlength(caption.replace("+", "-"))) + 5 * GAP)
        page = Image.new("RGB", (width, panels.height + LINE), PAGE)
        page.paste(panels, (0, 0))
        ImageDraw.Draw(page).text((GAP, panels.height + LINE / 2), caption, INK, FONT, "lm")
        pictures.append(np.asarray(page))
    return pictures


def _names(traversal: Traversal) -> list[str]:
    return [f"z{dimension}: KL {kl:.1f}" for dimension, kl in zip(traversal.dimensions, traversal.kl)]


def _signed(offset: float) -> str:
    return f"{offset:+.1f}" if round(offset, 1) else "0"


def _context(traversal: Traversal) -> dict[str, UInt8[np.ndarray, "H W 3"]]:
    """Return the traversal's starting pictures, keyed by title."""
    return {
        f"frame t={traversal.time}": traversal.seen,
        "reconstruction": traversal.frames[0, traversal.middle],
        f"slot {traversal.slot}": traversal.alone[0, traversal.middle],
    }


def draw_panels(lines: Sequence[Mapping[str, UInt8[np.ndarray, "H W 3"]]], color: Color = INK) -> Picture:
    """Draw titled pictures line by line; a title that starts with "slot" follows a square in `color`."""
    titles = [title for line in lines for title in line]
    height, width, _ = _enlarge(next(iter(lines[0].values()))).shape
    across, down = max(width, *(int(FONT.getlength(title)) + LINE for title in titles)) + GAP, LINE + height + GAP
    page = Image.new("RGB", (GAP + max(map(len, lines)) * across, len(lines) * down), PAGE)
    draw = ImageDraw.Draw(page)
    for row, line in enumerate(lines):
        for column, (title, image) in enumerate(line.items()):
            x, y = GAP + column * across, row * down
            page.paste(Image.fromarray(_enlarge(image)), (x, y + LINE))
            if title.startswith("slot"):
                draw.rectangle((x, y + LINE // 2 - 5, x + 10, y + LINE // 2 + 5), fill=color)
                x += LINE
            draw.text((x, y + LINE // 2), title, INK, FONT, "lm")
    return np.asarray(page)


def _table(images: UInt8[np.ndarray, "N V H W 3"]) -> Image.Image:
    """Arrange pictures in rows and columns, each with a gap to its right and below."""
    rows, columns = images.shape[:2]
    height, width, _ = _enlarge(images[0, 0]).shape
    page = Image.new("RGB", (columns * (width + GAP), rows * (height + GAP)), PAGE)
    for row, column in np.ndindex(rows, columns):
        page.paste(Image.fromarray(_enlarge(images[row, column])), (column * (width + GAP), row * (height + GAP)))
    return page


def _enlarge(image: UInt8[np.ndarray, "H W 3"]) -> Picture:
    scale = max(1, round(CELL / image.shape[0]))
    return image.repeat(scale, axis=0).repeat(scale, axis=1)
