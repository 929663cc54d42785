"""Merge the decompositions of overlapping tiles into numbered objects. Needs no jax."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from stii_jax.inference.identities import MAX_OBJECTS, MIN_AREA, Instance, Link, Numbering, Numbers, follow_background
from stii_jax.visualization.regions import OUTSIDE, Box, Canvas, Labels

GAP = 2
"""Pieces of a slot that are farther apart than this, in pixels of the model, are separate objects."""
EDGE = 3
"""An object this close to an inner edge of its tile, in pixels of the model, counts as cut, since models do badly at
edges."""
BACKGROUND = 1 / 3
"""A slot that covers more than this fraction of a tile becomes background until it vanishes."""
COVERED = 0.5
"""An object is hidden if others that are closer to the middle of their tiles cover this fraction of it."""

Place = tuple[slice, slice]
"""Rows and columns."""


class _Tile(NamedTuple):
    """The geometry of a tile, in pixels of the labels."""

    canvas: Canvas
    backgrounds: set[int]
    """The background's slots, updated when it moves to others."""
    place: Place
    """Rows and columns of the tile."""
    inner: tuple[bool, bool, bool, bool]
    """True for the left, top, right and bottom edge if the scene continues beyond it."""
    weights: Float[np.ndarray, "H W"]
    """Distance of every pixel to the nearest inner edge."""
    nearest: Bool[np.ndarray, "H W"]
    """True where no other tile has a higher weight."""
    pixel: float
    """Side of a model's pixel."""


class _Pair(NamedTuple):
    """Two overlapping tiles, and the common part within each."""

    first: int
    second: int
    of_first: Place
    of_second: Place


class Stitcher:
    """A stitcher that merges the masks of a video's tiles, frame by frame.

    An object's outline comes from the tile in which it is most central, so it has no seam. If every tile cuts it, each
    of its pixels follows the tile whose inner edges are farthest.

    Args:
        size: height and width of the model's masks.
        boxes: the part of the frame that each tile shows.
        box: the part that all tiles show together.
        width: width of the frame, in pixels.
        height: height of the frame, in pixels.
        backgrounds: the background's slot in the first frames, for every tile.
    """

    def __init__(self, size: int, boxes: Sequence[Box], box: Box, width: int, height: int, backgrounds: Sequence[int]):
        self._whole = Canvas((size, size), box, width, height)
        self._tiles = _make_tiles(size, boxes, self._whole, width, height, backgrounds)
        self._pairs = list(_make_pairs(self._tiles))
        self._numbering = Numbering()

    @property
    def numbers(self) -> Numbers:
        """The numbers that are in use."""
        return self._numbering.numbers

    def forget(self) -> None:
        """See `Numbering.forget`."""
        self._numbering.forget()

    def join(self, masks: Float[np.ndarray, "tiles K h w"]) -> Labels:
        """Return the object numbers in the next frame: 0 for the background, 255 outside all tiles.

        Args:
            masks: the probability that a pixel belongs to each slot.
        """
        labels = [tile.canvas.segment_inside(part) for tile, part in zip(self._tiles, masks)]
        parts, instances = [], list[Instance]()
        for number, (tile, (slots, certainty)) in enumerate(zip(self._tiles, labels)):
            pieces, found = _cut(slots, tile, number)
            parts.append(Labels(pieces, certainty))
            instances += found
        links = self._links(instances, [part.slots for part in parts])
        return self._paint(self._numbering.assign(instances, links), parts)

    def _links(self, instances: Sequence[Instance], parts: Sequence[UInt8[np.ndarray, "H W"]]) -> Iterator[Link]:
        """Yield the links between pieces of two tiles that have pixels in common."""
        places = {(each.tile, each.piece): place for place, each in enumerate(instances)}
        counts = [int(part.max()) + 1 for part in parts]
        for pair in self._pairs:
            shape = counts[pair.first], counts[pair.second]
            if min(shape) == 1:
                continue
            first, second = parts[pair.first][pair.of_first], parts[pair.second][pair.of_second]
            both = np.bincount((first * np.int32(shape[1]) + second).ravel(), minlength=shape[0] * shape[1])
            table = both.reshape(shape)
            of_first, of_second = table.sum(axis=1), table.sum(axis=0)
            for a, b in np.argwhere(table[1:, 1:]) + 1:
                here, there = places[pair.first, int(a)], places[pair.second, int(b)]
                yield Link(here, there, int(table[a, b]), (int(of_first[a]), int(of_second[b])))

    def _paint(self, found: Sequence[tuple[int, list[Instance]]], parts: Sequence[Labels]) -> Labels:
        numbers = np.full(self._whole.shape, OUTSIDE, np.uint8)
        certainty = np.zeros(self._whole.shape, np.float32)
        numbers[self._whole.place] = 0
        for tile, part in zip(self._tiles, parts):
            sure = np.where(part.slots == 0, part.certainty, np.float32(1 / OUTSIDE))
            np.copyto(certainty[tile.place], sure, where=tile.nearest)
        free = numbers == 0
        for number, group in sorted(found, key=lambda each: -each[1][0].margin):
            place, mask, sure = self._outline(group, parts)
            shown = mask & free[place]
            if np.count_nonzero(shown) > COVERED * np.count_nonzero(mask):
                numbers[place][shown], certainty[place][shown] = number, sure[shown]
                free[place] &= ~shown
        return Labels(numbers, certainty)

    def _outline(
        self, group: Sequence[Instance], parts: Sequence[Labels]
    ) -> tuple[Place, Bool[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
        """Return the rows and columns around an object, its mask within them, and the certainty of the pixels."""
        pieces = dict[int, list[int]]()
        for each in group:
            pieces.setdefault(each.tile, []).append(each.piece)
        if group[0].margin > 0 or len(pieces) == 1:
            slots, certainty = parts[group[0].tile]
            return self._tiles[group[0].tile].place, np.isin(slots, pieces[group[0].tile]), certainty
        places = [self._tiles[tile].place for tile in pieces]
        top, left = (min(place[axis].start for place in places) for axis in (0, 1))
        bottom, right = (max(place[axis].stop for place in places) for axis in (0, 1))
        best = np.zeros((bottom - top, right - left))
        mask, certainty = best > 0, np.zeros(best.shape, np.float32)
        for number, (rows, columns) in zip(pieces, places):
            inside = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
            tile, part = self._tiles[number], parts[number]
            better = tile.weights > best[inside]
            np.copyto(best[inside], tile.weights, where=better)
            np.copyto(mask[inside], np.isin(part.slots, pieces[number]), where=better)
            np.copyto(certainty[inside], part.certainty, where=better)
        return (slice(top, bottom), slice(left, right)), mask, certainty


def _make_tiles(
    size: int, boxes: Sequence[Box], whole: Canvas, width: int, height: int, backgrounds: Sequence[int]
) -> list[_Tile]:
    tiles = []
    best = np.zeros(whole.shape)
    nearest = np.zeros(whole.shape, np.int16)
    for number, (box, background) in enumerate(zip(boxes, backgrounds)):
        canvas = Canvas((size, size), box, width, height)
        rows, columns = canvas.place
        edges = [(place.start, place.stop) for place in (columns, rows)]
        ends = [(place.start, place.stop) for place in whole.place[::-1]]
        inner = tuple(edges[axis][side] != ends[axis][side] for side in (0, 1) for axis in (0, 1))
        weights = np.minimum.outer(
            _distances(rows.stop - rows.start, inner[1], inner[3]),
            _distances(columns.stop - columns.start, inner[0], inner[2]),
        )
        better = weights > best[canvas.place]
        best[canvas.place][better], nearest[canvas.place][better] = weights[better], number
        tiles.append(_Tile(canvas, {background}, canvas.place, inner, weights, better, len(weights) / size))  # type: ignore[arg-type]
    return [tile._replace(nearest=nearest[tile.place] == number) for number, tile in enumerate(tiles)]


def _cut(slots: UInt8[np.ndarray, "H W"], tile: _Tile, number: int) -> tuple[UInt8[np.ndarray, "H W"], list[Instance]]:
    """Return the piece at every pixel of a tile, 0 for the background, and the pieces."""
    pieces, found = np.zeros(slots.shape, np.uint8), list[Instance]()
    rows, columns = tile.place
    follow_background(tile.backgrounds, np.bincount(slots.ravel()), MIN_AREA * tile.pixel**2, BACKGROUND)
    for slot, place in enumerate(ndimage.find_objects(slots.astype(np.int32) + 1)):
        if place is None or slot in tile.backgrounds:
            continue
        inside = slots[place] == slot
        joined, _ = ndimage.label(
            ndimage.maximum_filter(inside, 1 + round(GAP * tile.pixel), mode="constant"), np.ones((3, 3))
        )
        areas = np.bincount((joined * inside).ravel())
        for part in np.flatnonzero(areas[1:] >= MIN_AREA * tile.pixel**2)[: MAX_OBJECTS - len(found)] + 1:
            mask = (joined == part) & inside
            y, x = (places + edge.start for places, edge in zip(np.nonzero(mask), place))
            height, width = slots.shape
            gaps = (x.min(), y.min(), width - 1 - x.max(), height - 1 - y.max())
            center = float(x.mean()) + 0.5, float(y.mean()) + 0.5
            ways = (*center, width - center[0], height - center[1])
            is_cut = any(gap < EDGE * tile.pixel and inner for gap, inner in zip(gaps, tile.inner))
            instance = Instance(
                tile=number,
                slot=slot,
                piece=len(found) + 1,
                area=len(x),
                x=center[0] + columns.start,
                y=center[1] + rows.start,
                margin=0.0 if is_cut else min((way for way, inner in zip(ways, tile.inner) if inner), default=math.inf),
                leaves=any(gap < tile.pixel and not inner for gap, inner in zip(gaps, tile.inner)),
            )
            found.append(instance)
            pieces[place][mask] = instance.piece
    return pieces, found


def _distances(length: int, before: bool, after: bool) -> Float[np.ndarray, " {length}"]:
    """The distance of every pixel of a line to the nearest inner end; the line's length if it has none."""
    steps = np.arange(length) + 0.5
    ends = [np.full(length, float(length)), *[steps] * before, *[steps[::-1]] * after]
    return np.min(ends, axis=0)


def _make_pairs(tiles: Sequence[_Tile]) -> Iterator[_Pair]:
    for b, second in enumerate(tiles):
        for a, first in enumerate(tiles[:b]):
            common = [(max(x.start, y.start), min(x.stop, y.stop)) for x, y in zip(first.place, second.place)]
            if all(start < stop for start, stop in common):
                inside = [
                    tuple(slice(start - axis.start, stop - axis.start) for (start, stop), axis in zip(common, place))
                    for place in (first.place, second.place)
                ]
                yield _Pair(a, b, *inside)  # type: ignore[arg-type]
