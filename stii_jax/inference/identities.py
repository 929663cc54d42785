"""Object numbers: one per object, kept from frame to frame and across tiles. Needs no jax."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

MAX_OBJECTS = 254
"""Highest number of an object: masks are 8-bit, 0 is the background, and 255 means outside."""
MIN_AREA = 6
"""Minimum area of a new object, in pixels of the model. Smaller ones are background."""
MEMORY = 10
"""Number of frames after which an object that no tile shows is gone and cannot return."""
TRIAL = 3
"""Two objects that have been visible for this many frames merge only if they agree for as many."""
SAME_REGION = 0.5
"""Two instances are one object if the common part covers this fraction of the smaller one, where the tiles overlap."""
MIN_IOU = 0.2
"""Minimum intersection over union of two linked instances: a limb that touches another object is not a link."""
JUMP = 0.5
"""Maximum displacement of an object per frame, in lengths of the larger one. A slot that moves further shows another
object, unless it deviates less than this from constant velocity."""
REACH = 1.25
"""Maximum distance of a returning object from its expected position, in lengths of the larger one."""
SAME_OBJECT = 0.1
"""The value of `SAME_REGION` for two instances that were one object in the previous frame."""


class Instance(NamedTuple):
    """A piece of a slot in one tile, in pixels of the labels."""

    tile: int
    slot: int
    piece: int
    """Number of the piece within its tile."""
    area: int
    x: float
    y: float
    margin: float
    """Distance from its centroid to the tile's nearest inner edge, beyond which the scene continues; 0 if such an edge
    may cut it."""
    leaves: bool
    """True if it reaches the edge of the area covered by all tiles."""

    @property
    def length(self) -> float:
        """The diameter of a disc of this area."""
        return math.sqrt(4 * self.area / math.pi)


class Link(NamedTuple):
    """Two instances of different tiles that share pixels."""

    first: int
    """Index in the list of instances."""
    second: int
    common: int
    """Number of pixels that both cover."""
    areas: tuple[int, int]
    """Their pixels where the two tiles overlap."""

    @property
    def share(self) -> float:
        """The common part as a fraction of the smaller instance."""
        return self.common / min(self.areas)

    @property
    def iou(self) -> float:
        """The intersection over union, where the two tiles overlap."""
        return self.common / (sum(self.areas) - self.common)


@dataclasses.dataclass(eq=False)
class _Object:
    """An object and its last known position."""

    number: int
    born: int
    """Order of appearance, over all numbers."""
    first: int
    """Frame of its appearance."""
    last: int
    """Last frame that shows it."""
    x: float
    y: float
    length: float
    left: bool = False
    """True if it reached the edge of the area covered by all tiles."""
    velocity: tuple[float, float] = (0.0, 0.0)
    """Velocity in pixels per frame."""

    def distance(self, instance: Instance, frame: int) -> float:
        """The distance of an instance from this object's expected position, in lengths of the larger one."""
        steps = frame - self.last
        x, y = self.x + steps * self.velocity[0], self.y + steps * self.velocity[1]
        return math.hypot(instance.x - x, instance.y - y) / max(self.length, instance.length)

    def see(self, instance: Instance, frame: int) -> None:
        """Update the position from an instance."""
        if steps := frame - self.last:
            moved = ((instance.x - self.x) / steps, (instance.y - self.y) / steps)
            self.velocity = tuple((old + new) / 2 for old, new in zip(self.velocity, moved))  # type: ignore[assignment]
        self.last, self.x, self.y, self.length = frame, instance.x, instance.y, instance.length
        self.left = instance.leaves


def follow_background(backgrounds: set[int], areas: Int[np.ndarray, " K"], min_area: float | int, share: float) -> None:
    """Update the set of the background's slots, given the area of every slot in the next frame.

    A model may abandon the background's slot and represent the background with another one. A slot that covers more
    than the fraction `share` of the view becomes background, and stays background while it covers `min_area`.
    """
    shown = {int(slot) for slot in np.flatnonzero(areas >= min_area)}
    large = {int(slot) for slot in np.flatnonzero(areas > share * areas.sum())}
    if (backgrounds | large) & shown:
        backgrounds |= large
        backgrounds &= shown


class Numbers:
    """The numbers of objects: new ones as long as there are some, then those of objects absent for longest."""

    def __init__(self) -> None:
        self._taken: dict[int, int] = {}
        """The last frame of every assigned number."""
        self.full_from: int | None = None
        """The first frame in which no new number was left for a new object."""

    @property
    def highest(self) -> int:
        """The highest number so far."""
        return len(self._taken)

    def new(self, frame: int) -> int | None:
        """Return the number of an object that appears in this frame, or None if none is left."""
        number = len(self._taken) + 1
        if number > MAX_OBJECTS:
            self.full_from = frame if self.full_from is None else self.full_from
            number = min(self._taken, key=lambda number: self._taken[number])
            if frame - self._taken[number] < MEMORY:
                return None
        self._taken[number] = frame
        return number

    def see(self, number: int, frame: int) -> None:
        """Note that an object is visible in this frame."""
        self._taken[number] = frame


class Numbering:
    """The assignment of a number to every object, frame by frame.

    A slot of a tile keeps its object while it is visible and does not jump. Slots of different tiles are one object if
    they cover the same pixels. Each tile shows an object at most once. A new object continues one that vanished in the
    same place at most `MEMORY` frames ago, unless that one left the scene. If other tiles show a new object as a part
    of another one, it gets no number for `TRIAL` frames. Slots often split off a part for a moment.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], list[tuple[_Object, Instance]]] = {}
        self._objects: list[_Object] = []
        """The objects that are visible or may return."""
        self._agreed: dict[frozenset[_Object], int] = {}
        """Number of frames in which two objects have covered the same pixels."""
        self._doubted: dict[tuple[int, int], int] = {}
        """Number of frames in which a slot showed a new object that other tiles show as a part of another one."""
        self._frame, self._count = -1, 0
        self.numbers = Numbers()
        """The numbers that are in use."""

    def forget(self) -> None:
        """Begin another scene: all objects of the following frames are new."""
        self._held, self._objects, self._agreed, self._doubted = {}, [], {}, {}

    def assign(self, instances: Sequence[Instance], links: Iterable[Link]) -> list[tuple[int, list[Instance]]]:
        """Return the objects of the next frame, each with its number and its instances, the most central one first.

        A tile may have a second instance of an object, which comes last. It is a part that still has no number.
        """
        self._frame += 1
        links = list(links)
        carried = self._carried(instances)
        groups, claims = [], []
        for places in self._groups(instances, carried, links):
            order = sorted(places, key=lambda place: -instances[place].margin)
            groups.append([instances[place] for place in order])
            claims.append({owner for place in places if (owner := carried[place]) is not None})
        owners = self._continued(groups, claims)
        self._recover(groups, owners, {owner for claim in claims for owner in claim})
        wholes = self._doubt(groups, owners, [(instances[link.first], instances[link.second], link) for link in links])
        self._held, found = {}, list[tuple[_Object, list[Instance]]]()
        for place, group in enumerate(groups):
            if place not in wholes and (owner := owners.get(place) or self._appear(group[0])) is not None:
                owner.see(group[0], self._frame)
                self.numbers.see(owner.number, self._frame)
                for each in group:
                    self._held.setdefault((each.tile, each.slot), []).append((owner, each))
                parts = [part for part, whole in wholes.items() if whole == place]
                found.append((owner, group + [each for part in parts for each in groups[part]]))
        visible = {owner: None for owner, _ in found}
        self._objects = [*visible, *(each for each in self._objects if each not in visible and self._may_return(each))]
        return [(owner.number, group) for owner, group in found]

    def _carried(self, instances: Sequence[Instance]) -> list[_Object | None]:
        """The objects that the pieces' slots showed in the previous frame, unless they jumped."""
        pairs = []
        for place, instance in enumerate(instances):
            for owner, before in self._held.get((instance.tile, instance.slot), ()):
                moved = instance.x - before.x, instance.y - before.y
                way = min(math.hypot(*moved), math.dist(moved, owner.velocity))
                if way <= JUMP * max(before.length, instance.length):
                    pairs.append((way, place, owner, before))
        carried: list[_Object | None] = [None] * len(instances)
        used = set()
        for _, place, owner, before in sorted(pairs, key=lambda pair: pair[:2]):
            if carried[place] is None and before not in used:
                used.add(before)
                carried[place] = owner
        return carried

    def _groups(
        self, instances: Sequence[Instance], carried: Sequence[_Object | None], links: Iterable[Link]
    ) -> list[list[int]]:
        """Group the instances that are one object, by index."""
        groups = [[place] for place in range(len(instances))]
        agreed: dict[frozenset[_Object], int] = {}

        def same(link: Link) -> bool:
            return carried[link.first] is not None and carried[link.first] is carried[link.second]

        for link in sorted(links, key=lambda link: (same(link), link.iou), reverse=True):
            first, second = groups[link.first], groups[link.second]
            enough = link.share >= SAME_OBJECT if same(link) else link.share >= SAME_REGION and link.iou >= MIN_IOU
            tiles = [instances[place].tile for place in (*first, *second)]
            if first is second or not enough or len(set(tiles)) < len(tiles):
                continue
            owners = frozenset(owner for place in (*first, *second) if (owner := carried[place]) is not None)
            if len(owners) > 1 and all(self._frame - owner.first >= TRIAL for owner in owners):
                agreed[owners] = self._agreed.get(owners, 0) + 1
                if agreed[owners] < TRIAL:
                    continue
            first += second
            for place in second:
                groups[place] = first
        self._agreed = agreed
        return list({id(group): group for group in groups}.values())

    def _continued(self, groups: Sequence[list[Instance]], claims: Sequence[set[_Object]]) -> dict[int, _Object]:
        """The continuing objects, by index of their group: the oldest of each group, and each object only once."""
        owners: dict[int, _Object] = {}
        for owner in sorted({owner for claim in claims for owner in claim}, key=lambda owner: owner.born):
            free = [place for place, claim in enumerate(claims) if owner in claim and place not in owners]
            if free:
                owners[min(free, key=lambda place: owner.distance(groups[place][0], self._frame))] = owner
        return owners

    def _recover(self, groups: Sequence[list[Instance]], owners: dict[int, _Object], claimed: set[_Object]) -> None:
        """Assign objects that vanished a moment ago to new instances near their expected positions, nearest first."""
        pairs = [
            (distance, place, owner)
            for place, group in enumerate(groups)
            if place not in owners
            for owner in self._objects
            if owner not in claimed and (distance := owner.distance(group[0], self._frame)) <= REACH
        ]
        for _, place, owner in sorted(pairs, key=lambda pair: (pair[0], pair[1], pair[2].born)):
            if place not in owners and owner not in owners.values():
                owners[place] = owner

    def _doubt(
        self,
        groups: Sequence[list[Instance]],
        owners: Mapping[int, _Object],
        links: Iterable[tuple[Instance, Instance, Link]],
    ) -> dict[int, int]:
        """The new groups that still get no number, by index, each with the group that contains it."""
        place_of = {each: place for place, group in enumerate(groups) for each in group}
        covered = dict[int, int]()
        for first, second, link in links:
            for part, whole in ((first, second), (second, first)):
                place = place_of[part]
                if place not in owners and place_of[whole] in owners and link.share >= SAME_REGION:
                    covered[place] = place_of[whole]
        doubted, self._doubted = self._doubted, {}
        for place in covered:
            key = groups[place][0].tile, groups[place][0].slot
            self._doubted[key] = doubted.get(key, 0) + 1
        return {
            part: whole
            for part, whole in covered.items()
            if self._doubted[groups[part][0].tile, groups[part][0].slot] < TRIAL
        }

    def _may_return(self, owner: _Object) -> bool:
        return not owner.left and self._frame - owner.last < MEMORY

    def _appear(self, instance: Instance) -> _Object | None:
        """Return a new object, or None if no number is left."""
        if (number := self.numbers.new(self._frame)) is None:
            return None
        self._count += 1
        return _Object(number, self._count, self._frame, self._frame, instance.x, instance.y, instance.length)
