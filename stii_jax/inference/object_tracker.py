"""Number the objects of one view, and keep those that touch apart. Needs no jax."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage
from scipy.spatial import ConvexHull

from stii_jax.inference.contact import NEARNESS, Mask, Outline, Picture, arrange, box_of, outline_of, share
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
CONTACT = 2
"""Maximum deviation from constant velocity of an object that touches others, in pixels of the model per frame."""
MIN_SHARE = 0.2
"""Minimum fraction of a new region that a slot must cover to be an object of its own."""
MAX_UNIT = 2
"""Maximum number of pixels of an outline that count as one pixel of the model in the lengths here. More detail is for
smaller objects, with which these lengths shrink."""
MIN_WASTE = 0.05
"""Slots divide a new region only if its convex hull is larger than those of the pieces by this fraction. A slot often
takes a part of a large object, and then the pieces fill the same hull."""

_NEIGHBORS = np.ones((3, 3))


class _Contact(NamedTuple):
    """The place of an object among those that it touches."""

    outline: Outline
    region: Mask
    """The region that they share."""


@dataclasses.dataclass(eq=False)
class _Object:
    """An object and its last known outline."""

    number: int
    outline: Outline
    """Its outline when it was last seen alone, at its last known place."""
    mask: Mask
    """Its visible pixels."""
    placed: int
    """Frame of that place."""
    last: int
    """Last frame that shows it."""
    velocity: tuple[float, float] = (0.0, 0.0)
    """Velocity in rows and columns per frame."""
    contact: _Contact | None = None
    """Its contact with other objects in the frame of its last place, if any."""

    @property
    def patience(self) -> int:
        """Number of frames for which its outline keeps its claim to pixels. Objects that touched may be hidden."""
        return EXPECTED if self.contact is None else MEMORY

    @property
    def at_edge(self) -> bool:
        """True if it touches an edge of the view."""
        return any(edge.any() for edge in (self.mask[0], self.mask[-1], self.mask[:, 0], self.mask[:, -1]))

    def expected(self, frame: int) -> Outline:
        """Its outline in a later frame, at constant velocity."""
        return self.outline.moved(*(round((frame - self.placed) * speed) for speed in self.velocity))

    def distance(self, mask: Mask, frame: int) -> float:
        """The distance of a mask from the expected position, in lengths of the larger one."""
        steps = frame - self.placed
        place = [now + steps * speed for now, speed in zip(self.outline.center, self.velocity)]
        return math.dist(_centroid(mask), place) / max(_length(self.mask), _length(mask))

    def see(self, mask: Mask, picture: Picture, frame: int, contact: _Contact | None) -> None:
        """Update the object with its visible pixels. Its outline and colours change only while it touches no other."""
        self._move(outline_of(mask, picture) if contact is None else contact.outline, frame)
        self.mask, self.last, self.contact = mask, frame, contact

    def hide(self, frame: int, contact: _Contact) -> None:
        """Update the place of an object that is hidden behind others."""
        self._move(contact.outline, frame)
        self.contact = contact

    def _move(self, outline: Outline, frame: int) -> None:
        if steps := frame - self.placed:
            moved = [(now - before) / steps for now, before in zip(outline.center, self.outline.center)]
            self.velocity = tuple((old + new) / 2 for old, new in zip(self.velocity, moved))  # type: ignore[assignment]
        self.outline, self.placed = outline, frame


class ObjectTracker:
    """A tracker that finds the objects in a model's masks, frame by frame.

    Pixels that are not background form connected regions. A region that overlaps the expected outline of one object
    shows that object. If it overlaps several, they touch: each moves on with its outline and colours to where they
    explain the region best, and owns the pixels that match it (`contact`). So objects keep their numbers when they pass
    each other. A region without an object is a new one. If several slots share it, each may be an object, unless
    they divide a convex one (`MIN_WASTE`). An object that vanishes inside the view and returns within `MEMORY` frames,
    near the expected place, keeps its number.

    Args:
        size: height and width of the model's masks.
        box: the part of the frame that the model sees.
        width: width of the frame, in pixels.
        height: height of the frame, in pixels.
        background: the background's slot in the first frames.
        detail: pixels of an outline per pixel of the model, in each direction.
    """

    def __init__(self, size: int, box: Box, width: int, height: int, background: int, detail: int = 1):
        self._canvas = Canvas((detail * size, detail * size), box, width, height)
        self._detail, self._unit = detail, min(detail, MAX_UNIT)
        self._min_area = MIN_AREA * self._unit**2
        self._backgrounds = {background}
        self._objects: list[_Object] = []
        """The objects that are visible or may return."""
        self._frame = -1
        self.numbers = Numbers()
        """The numbers that are in use."""

    @property
    def visible(self) -> dict[int, Mask]:
        """The objects in the last frame, by number, in pixels of outlines."""
        return {each.number: each.mask for each in self._objects if each.last == self._frame}

    def forget(self) -> None:
        """Begin another scene: all objects of the following frames are new."""
        self._objects = []

    def join(self, masks: Float[np.ndarray, "K s s"], picture: Picture, changed: Mask | None = None) -> Labels:
        """Return the object numbers in the next frame: 0 for the background, 255 outside the view.

        Args:
            masks: the probability that a pixel belongs to each slot, in pixels of the model.
            picture: the frame, in pixels of outlines.
            changed: the pixels that differ from a known background, in pixels of outlines: exactly these are objects,
                and slots only divide them. None: pixels are objects where the model's slots say so.
        """
        self._frame += 1
        slots = masks.argmax(axis=0)
        follow_background(self._backgrounds, np.bincount(slots.ravel()), MIN_AREA, BACKGROUND)
        is_object = np.isin(np.arange(len(masks)), list(self._backgrounds), invert=True)
        if changed is None:
            foreground, differs = masks[is_object].sum(axis=0), is_object[slots]
        else:
            foreground, differs = changed.astype(np.float32), changed
            slots = np.where(is_object[:, None, None], masks, 0).argmax(axis=0)
            slots = slots.repeat(self._detail, axis=0).repeat(self._detail, axis=1)
        regions = list(_pieces(differs, self._min_area, self._unit))
        shown, free, contacts = self._continued(regions, picture)
        for region in free:
            for piece in _divide(slots, region, self._min_area, self._unit):
                if (owner := self._returned(piece, shown) or self._appear(piece, picture)) is not None:
                    shown[owner] = piece
        _fill_holes(shown)
        for owner, mask in shown.items():
            owner.see(mask, picture, self._frame, contacts.get(owner))
            self.numbers.see(owner.number, self._frame)
        for owner, contact in contacts.items():
            if owner not in shown:
                owner.hide(self._frame, contact)
        gone = [each for each in self._objects if each not in shown and self._may_return(each)]
        self._objects = [*shown, *gone]
        return self._paint(shown, foreground)

    def _continued(
        self, regions: Sequence[Mask], picture: Picture
    ) -> tuple[dict[_Object, Mask], list[Mask], dict[_Object, _Contact]]:
        """Return the objects that these regions continue, the regions without any, and the objects that touch."""
        owners = [each for each in self._objects if self._frame - each.last <= each.patience]
        outlines = [each.expected(self._frame) for each in owners]
        reaches = [CONTACT * self._unit * (self._frame - each.last) for each in owners]
        claims = _claims([outline.mask(picture.shape[:2]) for outline in outlines], regions, SPREAD * self._unit)
        for free in np.flatnonzero(~claims.any(axis=0)).tolist():
            self._part(free, claims, regions, owners, outlines, picture)
        shown, contacts = dict[_Object, Mask](), dict[_Object, _Contact]()
        for region, claimed in zip(regions, claims.T):
            places = np.flatnonzero(claimed).tolist()
            found = [outlines[place] for place in places]
            if len(places) > 1:
                found = arrange(region, found, picture, [reaches[place] for place in places]).outlines
                contacts |= {owners[place]: _Contact(outline, region) for place, outline in zip(places, found)}
            for place, part in zip(places, share(region, found, picture, self._min_area, NEARNESS / self._unit)):
                if part.any():
                    shown[owners[place]] = part | shown.get(owners[place], False)
        return shown, [region for region, claimed in zip(regions, claims.T) if not claimed.any()], contacts

    def _part(
        self,
        free: int,
        claims: Bool[np.ndarray, "objects regions"],
        regions: Sequence[Mask],
        owners: Sequence[_Object],
        outlines: list[Outline],
        picture: Picture,
    ) -> None:
        """Give a region without an object to one of several that touched there and now claim another region.

        It is the one with which both regions are explained best, or none if they are not explained better than with all
        objects in the other region. This changes `claims` and `outlines`.
        """

        def cost(place: int, found: Sequence[Outline]) -> float:
            return arrange(regions[place], found, picture, [CONTACT * self._unit] * len(found)).cost

        region = regions[free]
        choices = list[tuple[float, int, int, Outline]]()
        for other in np.flatnonzero(claims.sum(axis=0) > 1).tolist():
            members = np.flatnonzero(claims[:, other]).tolist()
            groups = [contact.region for member in members if (contact := owners[member].contact) is not None]
            if all(np.count_nonzero(group & region) < MIN_OVERLAP * np.count_nonzero(region) for group in groups):
                continue
            together = cost(other, [outlines[each] for each in members]) + np.count_nonzero(region)
            for member in members:
                there = outlines[member].moved(*_steps(outlines[member].center, _centroid(region)))
                rest = [outlines[each] for each in members if each != member]
                choices.append((cost(free, [there]) + cost(other, rest) - together, member, other, there))
        if choices and (best := min(choices, key=lambda choice: choice[0]))[0] < 0:
            _, member, other, there = best
            claims[member, other], claims[member, free], outlines[member] = False, True, there

    def _returned(self, mask: Mask, shown: dict[_Object, Mask]) -> _Object | None:
        """The object that a new mask shows again, if any."""
        absent = [each for each in self._objects if each not in shown and self._may_return(each)]
        distances = {each: each.distance(mask, self._frame) for each in absent}
        nearest = min(distances, key=lambda each: distances[each], default=None)
        return nearest if nearest is not None and distances[nearest] <= REACH else None

    def _may_return(self, each: _Object) -> bool:
        return self._frame - each.last <= (EXPECTED if each.at_edge else MEMORY)

    def _appear(self, mask: Mask, picture: Picture) -> _Object | None:
        """Return a new object, or None if no number is left."""
        number = self.numbers.new(self._frame)
        return None if number is None else _Object(number, outline_of(mask, picture), mask, self._frame, self._frame)

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


def _steps(start: tuple[float, float], stop: tuple[float, float]) -> tuple[int, int]:
    """The displacement from one place to another, in whole pixels."""
    return round(stop[0] - start[0]), round(stop[1] - start[1])


def _centroid(mask: Mask) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(rows.mean()), float(columns.mean())


def _pieces(mask: Mask, min_area: float | int, gap: int) -> Iterator[Mask]:
    """Yield the connected parts of a mask that are at least this large; gaps of `gap` pixels, if even, are bridged."""
    reach = gap // 2
    joined = ndimage.binary_dilation(mask, _NEIGHBORS, reach) if reach else mask
    labels = ndimage.label(joined, _NEIGHBORS)[0] * mask
    for number in np.flatnonzero(np.bincount(labels.ravel())[1:] >= min_area) + 1:
        yield np.equal(labels, number)


def _divide(slots: Integer[np.ndarray, "h w"], region: Mask, min_area: int, gap: int) -> list[Mask]:
    """Return the objects that a new region consists of, given the most likely slot of every pixel."""
    least = max(min_area, MIN_SHARE * np.count_nonzero(region))
    cores = [piece for slot in np.unique(slots[region]) for piece in _pieces((slots == slot) & region, least, gap)]
    if len(cores) < 2:
        return [region]
    nearest = np.argmin([ndimage.distance_transform_edt(~core) for core in cores], axis=0)
    parts = [region & (nearest == place) for place in range(len(cores))]
    return parts if _hull(region) >= (1 + MIN_WASTE) * sum(map(_hull, parts)) else [region]


def _hull(mask: Mask) -> float:
    """The area of a mask's convex hull."""
    corners = np.argwhere(mask)[:, None] + [(0, 0), (0, 1), (1, 0), (1, 1)]
    return ConvexHull(corners.reshape(-1, 2)).volume


def _claims(outlines: Sequence[Mask], regions: Sequence[Mask], spread: int) -> Bool[np.ndarray, "objects regions"]:
    """Return which regions show each object, given its expected outline: the one that it overlaps most, and fragments.

    A fragment is near that region, at least half of it lies in the outline, and it overlaps no other outline.
    """
    common = np.zeros((len(outlines), len(regions)), int)
    for row, outline in enumerate(outlines):
        place = box_of(outline)
        inside = outline[place]
        common[row] = [np.count_nonzero(region[place] & inside) for region in regions]
        common[row, common[row] < MIN_OVERLAP * np.count_nonzero(inside)] = 0
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
            claims[row, fragments] = [distance[regions[place]].min() <= spread for place in fragments]
    return claims


def _fill_holes(shown: dict[_Object, Mask]) -> None:
    """Fill the holes of every object, except where they show another one."""
    taken = np.any(list(shown.values()), axis=0)
    for owner, mask in shown.items():
        place = box_of(mask)
        filled = mask.copy()
        filled[place] |= ndimage.binary_fill_holes(mask[place]) & ~taken[place]
        shown[owner] = filled
