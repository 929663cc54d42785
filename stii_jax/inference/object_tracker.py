"""Number the objects of one view, and keep those that touch apart. Needs no jax."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage
from scipy.spatial import ConvexHull

from stii_jax.inference.identities import MEMORY, MIN_AREA, REACH, Numbers, follow_background
from stii_jax.visualization.regions import Box, Canvas, Labels

BACKGROUND = 1 / 2
"""A slot that covers more than this fraction of the view becomes background until it vanishes."""
EXPECTED = 3
"""Number of frames for which the outline of an object that is not seen keeps its claim to pixels."""
MIN_OVERLAP = 0.3
"""Minimum fraction of an object's expected outline that a region must cover to show the object."""
SPREAD = 3
"""Maximum gap between the fragments of an object, in pixels of the model."""
MIN_SHARE = 0.2
"""Minimum fraction of a new region that a slot must cover to be an object of its own."""
MIN_WASTE = 0.05
"""Slots divide a new region only if its convex hull is larger than those of the pieces by this fraction. A slot often
takes a part of a large object, and then the pieces fill the same hull."""

Mask = Bool[np.ndarray, "h w"]

_NEIGHBORS = np.ones((3, 3))


@dataclasses.dataclass(eq=False)
class _Object:
    """An object and its last known outline."""

    number: int
    mask: Mask
    last: int
    """Last frame that shows it."""
    x: float
    y: float
    velocity: tuple[float, float] = (0.0, 0.0)
    """Velocity in pixels per frame."""

    @property
    def at_edge(self) -> bool:
        """True if it touches an edge of the view."""
        return any(edge.any() for edge in (self.mask[0], self.mask[-1], self.mask[:, 0], self.mask[:, -1]))

    def expected(self, frame: int) -> Mask:
        """Its outline in a later frame, at constant velocity."""
        dx, dy = (round((frame - self.last) * speed) for speed in self.velocity)
        rows, columns = np.nonzero(self.mask)
        rows, columns = rows + dy, columns + dx
        height, width = self.mask.shape
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        moved = np.zeros_like(self.mask)
        moved[rows[inside], columns[inside]] = True
        return moved

    def distance(self, mask: Mask, frame: int) -> float:
        """The distance of a mask from the expected position, in lengths of the larger one."""
        steps = frame - self.last
        x, y = self.x + steps * self.velocity[0], self.y + steps * self.velocity[1]
        return math.dist(_centroid(mask), (x, y)) / max(_length(self.mask), _length(mask))

    def see(self, mask: Mask, frame: int) -> None:
        """Update the outline."""
        x, y = _centroid(mask)
        if steps := frame - self.last:
            moved = (x - self.x) / steps, (y - self.y) / steps
            self.velocity = tuple((old + new) / 2 for old, new in zip(self.velocity, moved))  # type: ignore[assignment]
        self.mask, self.last, self.x, self.y = mask, frame, x, y


class ObjectTracker:
    """A tracker that finds the objects in a model's masks, frame by frame.

    Pixels that are not background form connected regions. A region that overlaps the expected outline of one object
    shows that object. If it overlaps several, each of its pixels belongs to the nearest outline, so objects stay apart
    while they touch. A region without an object is a new one. If several slots share it, each may be an object, unless
    they divide a convex one (`MIN_WASTE`). An object that vanishes inside the view and returns within `MEMORY` frames,
    near the expected place, keeps its number.

    Args:
        size: height and width of the model's masks.
        box: the part of the frame that the model sees.
        width: width of the frame, in pixels.
        height: height of the frame, in pixels.
        background: the background's slot in the first frames.
    """

    def __init__(self, size: int, box: Box, width: int, height: int, background: int):
        self._canvas = Canvas((size, size), box, width, height)
        self._backgrounds = {background}
        self._objects: list[_Object] = []
        """The objects that are visible or may return."""
        self._frame = -1
        self.numbers = Numbers()
        """The numbers that are in use."""

    @property
    def visible(self) -> dict[int, Mask]:
        """The objects in the last frame, by number, in pixels of the model."""
        return {each.number: each.mask for each in self._objects if each.last == self._frame}

    def forget(self) -> None:
        """Begin another scene: all objects of the following frames are new."""
        self._objects = []

    def join(self, masks: Float[np.ndarray, "K h w"], changed: Mask | None = None) -> Labels:
        """Return the object numbers in the next frame: 0 for the background, 255 outside the view.

        Args:
            masks: the probability that a pixel belongs to each slot.
            changed: True for pixels that cannot be background, because they differ from a known one.
        """
        self._frame += 1
        if changed is not None:
            masks = _claimed(masks, changed, self._backgrounds)
        slots = masks.argmax(axis=0)
        follow_background(self._backgrounds, np.bincount(slots.ravel()), MIN_AREA, BACKGROUND)
        regions = list(_pieces(~np.isin(slots, list(self._backgrounds)), MIN_AREA))
        shown, free = self._continued(regions)
        for region in free:
            for piece in _divide(slots, region):
                if (owner := self._returned(piece, shown) or self._appear(piece)) is not None:
                    shown[owner] = piece
        _fill_holes(shown)
        for owner, mask in shown.items():
            owner.see(mask, self._frame)
            self.numbers.see(owner.number, self._frame)
        gone = [each for each in self._objects if each not in shown and self._may_return(each)]
        self._objects = [*shown, *gone]
        foreground = masks[[slot for slot in range(len(masks)) if slot not in self._backgrounds]].sum(axis=0)
        return self._paint(shown, foreground)

    def _continued(self, regions: Sequence[Mask]) -> tuple[dict[_Object, Mask], list[Mask]]:
        """Return the objects that these regions continue, and the regions without any."""
        owners = [each for each in self._objects if self._frame - each.last <= EXPECTED]
        outlines = [each.expected(self._frame) for each in owners]
        claims = _claims(outlines, regions)
        shown = dict[_Object, Mask]()
        for region, claimed in zip(regions, claims.T):
            places = np.flatnonzero(claimed).tolist()
            for place, part in zip(places, _share(region, [outlines[place] for place in places])):
                if part.any():
                    shown[owners[place]] = part | shown.get(owners[place], False)
        return shown, [region for region, claimed in zip(regions, claims.T) if not claimed.any()]

    def _returned(self, mask: Mask, shown: dict[_Object, Mask]) -> _Object | None:
        """The object that a new mask shows again, if any."""
        absent = [each for each in self._objects if each not in shown and self._may_return(each)]
        distances = {each: each.distance(mask, self._frame) for each in absent}
        nearest = min(distances, key=lambda each: distances[each], default=None)
        return nearest if nearest is not None and distances[nearest] <= REACH else None

    def _may_return(self, each: _Object) -> bool:
        return self._frame - each.last <= (EXPECTED if each.at_edge else MEMORY)

    def _appear(self, mask: Mask) -> _Object | None:
        """Return a new object, or None if no number is left."""
        number = self.numbers.new(self._frame)
        return None if number is None else _Object(number, mask, self._frame, *_centroid(mask))

    def _paint(self, shown: dict[_Object, Mask], foreground: Float[np.ndarray, "h w"]) -> Labels:
        """Return the numbers at the recording's size."""
        sure = np.maximum(foreground, np.float32(0.5))
        inside = np.any(list(shown.values()), axis=0) if shown else np.zeros(foreground.shape, bool)
        outside = np.where(inside, np.minimum(1 - sure, 0.49), np.maximum(1 - foreground, 0.5))
        labels = self._canvas.segment(np.stack([outside, *(np.where(mask, sure, 0) for mask in shown.values())]))
        numbers = np.full(256, 255, np.uint8)
        numbers[: 1 + len(shown)] = [0, *(owner.number for owner in shown)]
        return Labels(numbers[labels.slots], labels.certainty)


def _length(mask: Mask) -> float:
    """The diameter of a disc of this area."""
    return math.sqrt(4 * np.count_nonzero(mask) / math.pi)


def _centroid(mask: Mask) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


def _claimed(masks: Float[np.ndarray, "K h w"], changed: Mask, backgrounds: set[int]) -> Float[np.ndarray, "K h w"]:
    """Return the masks with the background's share of changed pixels given to the other slots, in proportion."""
    others = np.where(np.isin(np.arange(len(masks)), list(backgrounds))[:, None, None], 0, masks)
    total = others.sum(axis=0)
    return np.where(changed & (total > 0), others / np.where(total > 0, total, 1), masks)


def _pieces(mask: Mask, min_area: float | int) -> Iterator[Mask]:
    """Yield the connected parts of a mask that are at least this large."""
    labels, _ = ndimage.label(mask, _NEIGHBORS)
    for number in np.flatnonzero(np.bincount(labels.ravel())[1:] >= min_area) + 1:
        yield np.equal(labels, number)


def _divide(slots: Integer[np.ndarray, "h w"], region: Mask) -> list[Mask]:
    """Return the objects that a new region consists of, given the most likely slot of every pixel."""
    min_area = max(MIN_AREA, MIN_SHARE * np.count_nonzero(region))
    cores = [piece for slot in np.unique(slots[region]) for piece in _pieces((slots == slot) & region, min_area)]
    if len(cores) < 2:
        return [region]
    nearest = np.argmin([ndimage.distance_transform_edt(~core) for core in cores], axis=0)
    parts = [region & (nearest == place) for place in range(len(cores))]
    return parts if _hull(region) >= (1 + MIN_WASTE) * sum(map(_hull, parts)) else [region]


def _hull(mask: Mask) -> float:
    """The area of a mask's convex hull."""
    corners = np.argwhere(mask)[:, None] + [(0, 0), (0, 1), (1, 0), (1, 1)]
    return ConvexHull(corners.reshape(-1, 2)).volume


def _claims(outlines: Sequence[Mask], regions: Sequence[Mask]) -> Bool[np.ndarray, "objects regions"]:
    """Return which regions show each object, given its expected outline: the one that it overlaps most, and fragments.

    A fragment is near that region, at least half of it lies in the outline, and it overlaps no other outline.
    """
    common = np.zeros((len(outlines), len(regions)), int)
    for row, outline in enumerate(outlines):
        common[row] = [np.count_nonzero(region & outline) for region in regions]
        common[row, common[row] < MIN_OVERLAP * np.count_nonzero(outline)] = 0
    claims = np.zeros(common.shape, bool)
    alone = np.count_nonzero(common, axis=0) == 1
    for row in np.flatnonzero(common.any(axis=1)).tolist():
        main = int(common[row].argmax())
        claims[row, main] = True
        fragments = [
            place
            for place in np.flatnonzero((common[row] > 0) & alone).tolist()
            if place != main and 2 * common[row, place] >= np.count_nonzero(regions[place])
        ]
        if fragments:
            distance = ndimage.distance_transform_edt(~regions[main])
            claims[row, fragments] = [distance[regions[place]].min() <= SPREAD for place in fragments]
    return claims


def _share(region: Mask, outlines: Sequence[Mask]) -> list[Mask]:
    """Return each object's part of a region: the pixels nearest to its expected outline.

    An object with hardly any pixels is hidden behind the others, which share them.
    """
    depths = [
        ndimage.distance_transform_edt(~outline) - ndimage.distance_transform_edt(outline) for outline in outlines
    ]
    while depths:
        nearest = np.argmin(depths, axis=0)
        parts = [region & (nearest == place) for place in range(len(depths))]
        areas = [np.count_nonzero(part) for part in parts]
        hidden = [place for place, area in enumerate(areas) if 2 * area < MIN_AREA and np.isfinite(depths[place]).all()]
        if not hidden:
            return parts
        for place in hidden:
            depths[place] = np.full(region.shape, np.inf)
    return []


def _fill_holes(shown: dict[_Object, Mask]) -> None:
    """Fill the holes of every object, except where they show another one."""
    taken = np.any(list(shown.values()), axis=0)
    for owner, mask in shown.items():
        shown[owner] = mask | (ndimage.binary_fill_holes(mask) & ~taken)
