"""From detections, frame by frame, to objects that keep their label over the clip.

An object's detections are those with its attributes. Where there are several of them in a frame, or one is suddenly
elsewhere, or none, the detections and objects that are left over are matched by place and by what their attributes
have in common: the detector misjudges an attribute far more often than a place.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from stii_jax.data.clevrer.annotations import Attributes
from stii_jax.data.clevrer.proposals import Detection
from stii_jax.data.errors import DataError

DUPLICATE = "duplicate detections"
RELABELLED = "relabelled detections"
DROPPED = "dropped detections"
MISSING = "objects without a detection (frames)"

# How far the middle of a mask may get away from where the object is known to be, in pixels: a jump, as an object that
# is cut by the edge or by another one has its middle elsewhere, and its way, at more than the speed of any.
_JUMP, _WAY = 30.0, 15.0
_OVERLAP = 0.5  # intersection over union above which two masks are of one thing


def link(detections: Sequence[Sequence[Detection]], objects: Sequence[Attributes]) -> "Linked":
    """Gives every object of the scene at most one detection a frame.

    A second detection of an object is not joined to the first, even if it could be its other half: it is as often
    something else, and a wrong label does more harm than a missing one.

    Raises:
        DataError: two objects have the same attributes, or none was seen at all.
    """
    (often, count), *_ = Counter(objects).most_common(1)
    if count > 1:
        raise DataError(f"two objects of the scene are the same: {tuple(often)}")
    linked = Linked(objects, [[seen for seen in frame if seen.mask.any()] for frame in detections])
    linked.notes[DROPPED] += sum(map(len, detections)) - sum(map(len, linked.left))
    linked.take_the_certain()
    linked.release_the_sudden()
    for time in range(len(detections)):
        linked.match_the_rest(time)
    if not any(linked.tracks):
        raise DataError("no detection is of an object of the scene")
    return linked


class Linked:
    """Objects and their detections; `labels` is what comes of it, once `link` is through."""

    def __init__(self, objects: Sequence[Attributes], detections: Sequence[Sequence[Detection]]):
        self.objects = objects
        self.left = [list(frame) for frame in detections]
        """Detections of each frame that belong to no object yet."""
        self.tracks: list[dict[int, Detection]] = [{} for _ in objects]
        """Of each object, its detection by frame."""
        self.notes = Counter[str]()

    def labels(self) -> UInt8[np.ndarray, "T H W"]:
        """Label images: object k of the scene is k + 1, from 0. Where masks overlap, the nearer object is seen.

        All objects stand on one table, so that the nearer one is that whose mask reaches further down.
        """
        height, width = next(seen for track in self.tracks for seen in track.values()).mask.shape
        labels = np.zeros((len(self.left), height, width), np.uint8)
        for time, image in enumerate(labels):
            masks = [(track[time].mask, number) for number, track in enumerate(self.tracks, 1) if time in track]
            for mask, number in sorted(masks, key=lambda pair: np.flatnonzero(pair[0].any(axis=1))[-1]):
                image[mask] = number
        return labels

    def take_the_certain(self) -> None:
        """Gives objects the detections that alone in their frame have the object's attributes."""
        for time, frame in enumerate(self.left):
            counts = Counter(seen.attributes for seen in frame)
            for attributes, track in zip(self.objects, self.tracks):
                if counts[attributes] == 1:
                    track[time] = next(seen for seen in frame if seen.attributes == attributes)
            self.left[time] = [
                seen for seen in frame if counts[seen.attributes] > 1 or seen.attributes not in self.objects
            ]

    def release_the_sudden(self) -> None:
        """Takes back detections that are elsewhere than the object is just before and just after."""
        for track in self.tracks:
            times = sorted(track)
            middles = [_middle(track[time].mask) for time in times]
            sudden = []
            for i, time in enumerate(times):
                near = [j for j in (i - 1, i + 1) if 0 <= j < len(times)]
                ways = [np.linalg.norm(middles[i] - middles[j]) > _reach(time - times[j]) for j in near]
                if ways and all(ways):
                    sudden.append(time)
            for time in sudden:
                self.left[time].append(track.pop(time))

    def match_the_rest(self, time: int) -> None:
        """Matches what is left over in a frame, the best pair first."""
        known = [track[time].mask for track in self.tracks if time in track]
        for mask in known:
            self._drop_copies(time, mask)
        while pairs := list(self._pairs(time)):
            _, number, index = max(pairs)
            seen = self.left[time].pop(index)
            self.tracks[number][time] = seen
            self.notes[RELABELLED] += seen.attributes != self.objects[number]
            self._drop_copies(time, seen.mask)
        for seen in self.left[time]:
            copy = seen.attributes in self.objects and time in self.tracks[self.objects.index(seen.attributes)]
            self.notes[DUPLICATE if copy else DROPPED] += 1
        self.left[time] = []
        self.notes[MISSING] += sum(time not in track for track in self.tracks)

    def _drop_copies(self, time: int, mask: Bool[np.ndarray, "H W"]) -> None:
        kept = [seen for seen in self.left[time] if _overlap(seen.mask, mask) <= _OVERLAP]
        self.notes[DUPLICATE] += len(self.left[time]) - len(kept)
        self.left[time] = kept

    def _pairs(self, time: int) -> Iterator[tuple[tuple[int, float, float], int, int]]:
        """How well pairs of an object and a detection go together, and their numbers; only pairs that do."""
        for number, (attributes, track) in enumerate(zip(self.objects, self.tracks)):
            if time in track:
                continue
            anchor = min(track, key=lambda known: abs(known - time), default=None)
            for index, seen in enumerate(self.left[time]):
                alike = sum(one == two for one, two in zip(attributes, seen.attributes))
                if anchor is None:
                    # Never seen for certain: one mistaken attribute may be mistaken all along.
                    if alike >= 2:
                        yield (alike, 0.0, seen.score), number, index
                    continue
                way = float(np.linalg.norm(_middle(seen.mask) - _middle(track[anchor].mask)))
                same_place = alike == 1 and _overlap(seen.mask, track[anchor].mask) > _OVERLAP
                if same_place or (alike >= 2 and way <= _reach(time - anchor)):
                    # The score decides between detections of nearly the same place.
                    yield (alike, -(way // _JUMP), seen.score), number, index


def _reach(num_frames: int) -> float:
    return _JUMP + _WAY * abs(num_frames)


def _middle(mask: Bool[np.ndarray, "H W"]) -> Float64[np.ndarray, " 2"]:
    return np.argwhere(mask).mean(axis=0)


def _overlap(one: Bool[np.ndarray, "H W"], two: Bool[np.ndarray, "H W"]) -> float:
    """Intersection over union."""
    return float((one & two).sum() / (one | two).sum())
