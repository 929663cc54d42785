"""Objects that touch: where each is within their common region, and which of its pixels they own. Needs no jax."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage

Mask = Bool[np.ndarray, "h w"]
Picture = UInt8[np.ndarray, "h w 3"]

CONTRAST = 48.0
"""Mean difference over the channels, in grey levels, from which two colours count as different."""
NEARNESS = 0.05
"""The difference of colour, in units of `CONTRAST`, that counts as much as one pixel of distance from an outline."""
SMOOTHING = 5
"""Side of the square, in pixels, over which differences of colour are averaged."""
NEAR = 10
"""Largest reach in which every displacement is tried. In a larger one they are spaced out, then refined."""
MAX_PIXELS = 500
"""Maximum number of pixels of an outline that are compared; larger ones are thinned out."""


@dataclasses.dataclass(frozen=True, eq=False)
class Outline:
    """An object's pixels and their colours, at any place. Pixels may be outside the view."""

    rows: Int[np.ndarray, " N"]
    columns: Int[np.ndarray, " N"]
    colors: Float[np.ndarray, "N 3"]

    @property
    def center(self) -> tuple[float, float]:
        """Row and column of the centroid."""
        return float(self.rows.mean()), float(self.columns.mean())

    def moved(self, rows: int, columns: int) -> "Outline":
        """Return the outline after a displacement."""
        return Outline(self.rows + rows, self.columns + columns, self.colors)

    def mask(self, shape: tuple[int, ...]) -> Mask:
        """Return the pixels that are inside a view of this shape."""
        mask = np.zeros(shape, bool)
        mask[self._inside(shape)[:2]] = True
        return mask

    def compare(self, costs: Float[np.ndarray, "h w"], picture: Picture) -> None:
        """Lower the costs of pixels that the outline covers to their differences of colour."""
        rows, columns, colors = self._inside(costs.shape)
        costs[rows, columns] = np.minimum(costs[rows, columns], _difference(colors, picture[rows, columns]))

    def _inside(self, shape):
        inside = _is_inside(self.rows, self.columns, shape)
        return self.rows[inside], self.columns[inside], self.colors[inside]


class Arrangement(NamedTuple):
    """Outlines that together explain a region, and the cost of what they do not explain."""

    outlines: list[Outline]
    cost: float


def outline_of(mask: Mask, picture: Picture) -> Outline:
    """Return the outline of an object that is seen."""
    rows, columns = np.nonzero(mask)
    return Outline(rows, columns, picture[rows, columns].astype(np.float32))


def arrange(region: Mask, outlines: Sequence[Outline], picture: Picture, reaches: Sequence[int]) -> Arrangement:
    """Move each outline by up to its reach, so that they explain a region and its colours best.

    A pixel of the region costs its difference of colour from the outline there that matches best, and 1 where there is
    none. A pixel of an outline beside the region also costs 1. One after the other, each outline takes the displacement
    of least cost while the others rest, the shortest among equals. This is done twice.

    Args:
        region: the connected pixels that the outlines share.
        outlines: the outlines at their expected places.
        picture: the frame.
        reaches: maximum displacement of each outline in rows and in columns, in pixels.
    """
    placed = list(outlines)
    for limit in (max(reaches, default=0), NEAR):
        for number, (outline, reach) in enumerate(zip(placed, reaches)):
            others = _unexplained(region.shape, placed[:number] + placed[number + 1 :], picture)
            placed[number] = outline.moved(*_best_step(region, outline, picture, others, _steps(min(reach, limit))))
    beside = sum(np.count_nonzero(outline.mask(region.shape) & ~region) for outline in placed)
    return Arrangement(placed, float(_unexplained(region.shape, placed, picture)[region].sum() + beside))


def share(
    region: Mask, outlines: Sequence[Outline], picture: Picture, min_area: int, nearness: float = NEARNESS
) -> list[Mask]:
    """Return the part of a region that each outline owns: the pixels whose colours match, and among equals the nearest.

    An object with less than half of `min_area` is hidden behind the others, which share its pixels.

    Args:
        region: the connected pixels that the outlines share.
        outlines: the outlines at their places, as `arrange` finds them.
        picture: the frame.
        min_area: minimum area of an object, in pixels.
        nearness: see `NEARNESS`; smaller for outlines in more detail.
    """
    if len(outlines) < 2:
        return [region for _ in outlines]
    masks = [outline.mask(region.shape) for outline in outlines]
    rows, columns = box_of(np.any([region, *masks], axis=0))
    inside = region[rows, columns]
    costs = [
        ndimage.uniform_filter(_unexplained(region.shape, [outline], picture)[rows, columns], SMOOTHING, mode="nearest")
        + nearness * _distance(mask[rows, columns])
        for outline, mask in zip(outlines, masks)
    ]
    while True:
        owned = inside & (np.argmin(costs, axis=0) == np.arange(len(costs))[:, None, None])
        shown = np.array([np.isfinite(cost).all() for cost in costs])
        hidden = shown & (2 * np.count_nonzero(owned, axis=(1, 2)) < min_area)
        if not hidden.any() or hidden.sum() == shown.sum():
            break
        for number in np.flatnonzero(hidden):
            costs[number] = np.full(inside.shape, np.inf)
    parts = np.zeros((len(costs), *region.shape), bool)
    parts[:, rows, columns] = owned
    return list(parts)


def box_of(mask: Mask) -> tuple[slice, slice]:
    """Return the rows and columns that a mask covers; none if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else (slice(0), slice(0))


def _unexplained(shape: tuple[int, ...], outlines: Sequence[Outline], picture: Picture) -> Float[np.ndarray, "h w"]:
    """The difference of every pixel from the outline that matches best; 1 without any."""
    costs = np.ones(shape, np.float32)
    for outline in outlines:
        outline.compare(costs, picture)
    return costs


@functools.cache
def _steps(reach: int) -> Int[np.ndarray, "N 2"]:
    """Displacements in rows and columns, the shortest first."""
    axis = max(1, -(-reach // NEAR)) * np.arange(-NEAR, NEAR + 1)
    axis = axis[np.abs(axis) <= reach]
    steps = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    return steps[np.argsort(np.abs(steps).sum(axis=1), kind="stable")]


def _best_step(region, outline, picture, others, steps) -> tuple[int, int]:
    """The displacement of an outline with the least cost, given the costs with the others alone."""
    thinned = slice(None, None, -(-len(outline.rows) // MAX_PIXELS))
    rows, columns = (places[thinned] + steps[:, [axis]] for axis, places in enumerate((outline.rows, outline.columns)))
    inside = _is_inside(rows, columns, region.shape)
    rows, columns = (np.clip(places, 0, size - 1) for places, size in zip((rows, columns), region.shape))
    before = others[rows, columns]
    after = np.minimum(before, _difference(outline.colors[thinned], picture[rows, columns]))
    costs = np.where(region[rows, columns], after - before, 1)
    row, column = steps[np.where(inside, costs, 0).sum(axis=1).argmin()].tolist()
    return row, column


def _difference(colors, seen):
    """The difference of colours, in units of `CONTRAST`; at most 1."""
    return np.minimum(np.abs(colors - seen).mean(axis=-1) * np.float32(1 / CONTRAST), 1)


def _is_inside(rows, columns, shape):
    return (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])


def _distance(mask: Mask) -> Float[np.ndarray, "h w"]:
    """The distance of every pixel from the edge of a mask, negative inside; without a mask, that of the farthest."""
    if not mask.any():
        return np.full(mask.shape, float(sum(mask.shape)))
    return ndimage.distance_transform_edt(~mask) - ndimage.distance_transform_edt(mask)
