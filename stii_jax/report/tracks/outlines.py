"""Outlines of objects as polygons, which a page can draw at any size."""

import base64
from collections.abc import Iterator, Mapping

import contourpy
import numpy as np
from jaxtyping import Bool, Float, UInt8

from stii_jax.report.tracks.folder import DecomposedRecording
from stii_jax.visualization.regions import Box

MAX_POINTS = 64
"""Maximum number of corners of a polygon; longer contours are thinned out."""
MAX_PIECES = 6
"""Maximum number of outlined pieces per object; the largest are kept."""
MIN_SHARE = 0.02
"""Minimum area of a piece, as a share of the object's largest piece."""
UNITS = 32_000
"""Units of stored coordinates along the recording's longer side."""

Polygon = Float[np.ndarray, "N 2"]


def trace(mask: Bool[np.ndarray, "H W"]) -> list[Polygon]:
    """Return the outlines of the larger pieces and holes of a mask, x and y of each corner, in its pixels."""
    padded = np.pad(mask, 1).astype(float)
    generator = contourpy.contour_generator(z=padded, line_type=contourpy.LineType.Separate)
    # Pixel centres lie at 0.5; the padding shifts them by one.
    lines: list[np.ndarray] = [np.asarray(line, float) - 0.5 for line in generator.lines(0.5)]
    areas = [abs(_area(line)) for line in lines]
    largest = sorted(range(len(lines)), key=lambda i: -areas[i])[:MAX_PIECES]
    kept = [lines[i] for i in largest if areas[i] >= MIN_SHARE * max(areas)]
    return [line[: -1 : -(-(len(line) - 1) // MAX_POINTS)] for line in kept]


def frame_outlines(
    labels: UInt8[np.ndarray, "H W"], boxes: Mapping[int, Box], scale: int
) -> Iterator[tuple[int, Polygon]]:
    """Yield the slot and outline of every piece of a frame's objects.

    Args:
        labels: the slot of every pixel.
        boxes: the objects' boxes by slot, in pixels of the recording.
        scale: pixels of the recording per pixel of the labels.
    """
    for slot, (left, top, right, bottom) in boxes.items():
        x, y = left // scale, top // scale
        inside = labels[y : -(-bottom // scale), x : -(-right // scale)] == slot
        for polygon in trace(inside):
            yield slot, (polygon + np.array([x, y])) * scale


def pack_outlines(found: DecomposedRecording, every: int) -> str:
    """Pack the outlines of every `every`-th frame and of all predicted ones as base64 of unsigned 16-bit numbers.

    Each frame has the number of its polygons. Each polygon has its slot, its number of corners, and their x and y in
    `UNITS`.
    """
    parts: list[np.ndarray] = []
    numbers = [*range(0, found.num_frames, every), *range(found.num_frames, len(found.rows))]
    for number in numbers:
        pieces = list(frame_outlines(found.labels(number), found.boxes(number), found.summary["mask_scale"]))
        parts.append(np.array([len(pieces)]))
        for slot, polygon in pieces:
            points = np.rint(np.clip(polygon, 0, None) * (UNITS / max(found.size)))
            parts += [np.array([slot, len(polygon)]), points.ravel()]
    return base64.b64encode(np.concatenate(parts).astype("<u2").tobytes()).decode()


def _area(line: Polygon) -> float:
    """Return the signed area of a closed polygon, by the shoelace formula."""
    x, y = line.T
    return float(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2
