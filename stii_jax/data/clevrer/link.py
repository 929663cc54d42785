"""Link detections in single frames to objects that keep their label over the clip.

An object's detections are those with its attributes. A frame may have several of them, none, or one that suddenly
jumps. Then the remaining detections and objects are matched by place and by common attributes. The detector gets an
attribute wrong far more often than a place.
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

# Maximum distance between the centre of a mask and the object's known place, in pixels. It is a jump, since the centre
# moves when the object is cut off by the edge or by another object, plus the distance per frame of the fastest object.
_JUMP, _WAY = 30.0, 15.0
_OVERLAP = 0.5  # intersection over union above which two masks show the same object


def link(detections: Sequence[Sequence[Detection]], objects: Sequence[Attributes]) -> "Linked":
    """Assign every object of the scene at most one detection per frame.

    A second detection of an object is not merged with the first, even if it could be its other half. It is just as
    often something else, and a wrong label does more harm than a missing one.

    Raises:
        DataError: two objects have the same attributes, or no object was detected.
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
        raise DataError("no detection matches an object of the scene")
    return linked


class Linked:
    """Objects and their detections. `labels` is the result, after `link` has run."""

    def __init__(self, objects: Sequence[Attributes], detections: Sequence[Sequence[Detection]]):
        self.objects = objects
        self.left = [list(frame) for frame in detections]
        """Detections of each frame that are not yet assigned to an object."""
        self.tracks: list[dict[int, Detection]] = [{} for _ in objects]
        """Each object's detections by frame."""
        self.notes = Counter[str]()

    def labels(self) -> UInt8[np.ndarray, "T H W"]:
        """Return label images, in which object k has label k + 1. Where masks overlap, the nearer object wins.

        All objects stand on one table, so the nearer object is the one whose mask reaches further down.
        """
        height, width = next(seen for track in self.tracks for seen in track.values()).mask.shape
        labels = np.zeros((len(self.left), height, width), np.uint8)
        for time, image in enumerate(labels):
            masks = [(track[time].mask, number) for number, track in enumerate(self.tracks, 1) if time in track]
            for mask, number in sorted(masks, key=lambda pair: np.flatnonzero(pair[0].any(axis=1))[-1]):
                image[mask] = number
        return labels

    def take_the_certain(self) -> None:
        """Assign detections that are the only ones in their frame with an object's attributes."""
        for time, frame in enumerate(self.left):
            counts = Counter(seen.attributes for seen in frame)
            for attributes, track in zip(self.objects, self.tracks):
                if counts[attributes] == 1:
                    track[time] = next(seen for seen in frame if seen.attributes == attributes)
            self.left[time] = [
                seen for seen in frame if counts[seen.attributes] > 1 or seen.attributes not in self.objects
            ]

    def release_the_sudden(self) -> None:
        """Unassign detections that are far from the object's place both just before and just after."""
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
        """Match the remaining objects and detections of a frame, the best pair first."""
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
        """Yield the quality and the numbers of all plausible pairs of an object and a detection."""
        for number, (attributes, track) in enumerate(zip(self.objects, self.tracks)):
            if time in track:
                continue
            anchor = min(track, key=lambda known: abs(known - time), default=None)
            for index, seen in enumerate(self.left[time]):
                alike = sum(one == two for one, two in zip(attributes, seen.attributes))
                if anchor is None:
                    # The object was never assigned: one attribute may be wrong in all frames.
                    if alike >= 2:
                        yield (alike, 0.0, seen.score), number, index
                    continue
                way = float(np.linalg.norm(_middle(seen.mask) - _middle(track[anchor].mask)))
                same_place = alike == 1 and _overlap(seen.mask, track[anchor].mask) > _OVERLAP
                if same_place or (alike >= 2 and way <= _reach(time - anchor)):
                    # The score decides between detections at nearly the same place.
                    yield (alike, -(way // _JUMP), seen.score), number, index


def _reach(num_frames: int) -> float:
    return _JUMP + _WAY * abs(num_frames)


def _middle(mask: Bool[np.ndarray, "H W"]) -> Float64[np.ndarray, " 2"]:
    return np.argwhere(mask).mean(axis=0)


def _overlap(one: Bool[np.ndarray, "H W"], two: Bool[np.ndarray, "H W"]) -> float:
    """The intersection over union."""
    return float((one & two).sum() / (one | two).sum())
