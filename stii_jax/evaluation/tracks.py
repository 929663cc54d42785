"""Scores of a decomposition against point tracks, in plain NumPy. docs/metrics.md describes every score.

The ground truth is a centre and a point per object and frame; the point has to lie in the object's mask. A
decomposition gives, per frame, the number of the mask at every pixel and the centroids of the masks that are objects.
The other masks are background. A decomposition into slots has one such mask.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

NONE = -1
"""The number that stands for no mask."""
REACH = 1.5 / 64
"""Largest distance between a point and the mask that holds it, as a fraction of the frame's longer side."""
MATCH = 5.0
"""Largest distance between a centroid and the true centre that IDF1 and MOTA match, in percent of the longer side."""


class Sighting(NamedTuple):
    """The masks of a decomposed frame at the true points."""

    held: Integer[np.ndarray, " N"]
    """The object that holds each point, which is the nearest one within reach; `NONE` if there is none."""
    under: Integer[np.ndarray, " N"]
    """The mask at each point, background or not; `NONE` outside the frame."""
    objects: Integer[np.ndarray, " K"]
    """Numbers of the objects in the frame."""
    centroids: Float[np.ndarray, "K 2"]
    """Their centroids in pixels."""


class Sightings(NamedTuple):
    """The labelled frames of a recording, decomposed."""

    points: Float[np.ndarray, "F N 2"]
    """True points; NaN where an object is not labelled."""
    centres: Float[np.ndarray, "F N 2"]
    """True centres."""
    frames: Sequence[Sighting]

    @property
    def present(self) -> Bool[np.ndarray, "F N"]:
        """True where an object is labelled."""
        return ~np.isnan(self.points[..., 0])

    @property
    def held(self) -> Integer[np.ndarray, "F N"]:
        """See `Sighting`."""
        return np.array([frame.held for frame in self.frames], int).reshape(self.present.shape)

    @property
    def under(self) -> Integer[np.ndarray, "F N"]:
        """See `Sighting`."""
        return np.array([frame.under for frame in self.frames], int).reshape(self.present.shape)

    def labelled(self, chosen: Bool[np.ndarray, " F"] | None = None) -> Bool[np.ndarray, " F"]:
        """True for the chosen frames (None: all) in which an object is labelled."""
        any_object = np.asarray(self.present.any(axis=1))
        return any_object if chosen is None else any_object & chosen

    def subset(self, chosen: Bool[np.ndarray, " F"]) -> "Sightings":
        """Return the chosen frames."""
        frames = [frame for frame, wanted in zip(self.frames, chosen, strict=True) if wanted]
        return Sightings(self.points[chosen], self.centres[chosen], frames)


def look(
    labels: Integer[np.ndarray, "H W"],
    centroids: Mapping[int, tuple[float, float]],
    points: Float[np.ndarray, "N 2"],
    reach: float,
    scale: float = 1.0,
) -> Sighting:
    """Find the masks at the true points of a frame.

    Args:
        labels: the number of the mask at every pixel.
        centroids: horizontal and vertical position of every object, by its number, in pixels of the recording.
        points: in pixels of the recording, whose first pixel has its centre at 0.5; NaN where an object is missing.
        reach: see `Sighting.held`; in pixels of the recording.
        scale: pixels of the recording per pixel of the labels.
    """
    numbers = np.array(sorted(centroids), int)
    held, under = np.full(len(points), NONE), np.full(len(points), NONE)
    height, width = labels.shape
    for place, (x, y) in enumerate(points / scale):
        if math.isnan(x):
            continue
        row, column = math.floor(y), math.floor(x)
        if 0 <= row < height and 0 <= column < width:
            under[place] = labels[row, column]
        if under[place] in centroids:
            held[place] = under[place]
        else:
            held[place] = _nearest(labels, numbers, x, y, reach / scale)
    return Sighting(held, under, numbers, np.array([centroids[number] for number in numbers], float).reshape(-1, 2))


def _nearest(
    labels: Integer[np.ndarray, "H W"], numbers: Integer[np.ndarray, " K"], x: float, y: float, reach: float
) -> int:
    """The object whose pixel centres come nearest to a point, within reach."""
    left, top = max(math.floor(x - reach), 0), max(math.floor(y - reach), 0)
    window = labels[top : math.ceil(y + reach) + 1, left : math.ceil(x + reach) + 1]
    rows, columns = np.nonzero(np.isin(window, numbers))
    distances = np.hypot(columns + left + 0.5 - x, rows + top + 0.5 - y)
    if not len(distances) or distances.min() > reach:
        return NONE
    nearest = int(distances.argmin())
    return int(window[rows[nearest], columns[nearest]])


def found_frames(sightings: Sightings) -> Bool[np.ndarray, " F"]:
    """True for frames in which different objects hold all labelled points."""
    return _all_differ(sightings.held, sightings.present)


def separated_frames(sightings: Sightings) -> Bool[np.ndarray, " F"]:
    """True for frames in which different masks, background or not, hold all labelled points."""
    return _all_differ(np.where(sightings.held == NONE, sightings.under, sightings.held), sightings.present)


def _all_differ(masks: Integer[np.ndarray, "F N"], present: Bool[np.ndarray, "F N"]) -> Bool[np.ndarray, " F"]:
    different = [
        NONE not in row[there] and len(np.unique(row[there])) == there.sum() for row, there in zip(masks, present)
    ]
    return np.array(different, bool) & present.any(axis=1)


def found_objects(sightings: Sightings) -> Bool[np.ndarray, "F N"]:
    """True for labelled points that lie in an object which holds no other labelled point."""
    held, there = sightings.held, sightings.present & (sightings.held != NONE)
    same = (held[:, :, None] == held[:, None]) & there[:, None]
    return there & (same.sum(axis=2) == 1)


def identity_switches(sightings: Sightings) -> Integer[np.ndarray, "S 2"]:
    """Return the places where the object that holds a point is replaced by another.

    Only found frames count. Each row has the indices of the last found frame before the change and the first after it.
    """
    held, found = sightings.held, found_frames(sightings)
    switches = list[tuple[int, int]]()
    for number in range(held.shape[1]):
        frames = np.flatnonzero(found & sightings.present[:, number])
        changed = np.diff(held[frames, number]) != 0
        switches += zip(frames[:-1][changed].tolist(), frames[1:][changed].tolist())
    return np.array(sorted(switches), int).reshape(-1, 2)


def centroid_errors(sightings: Sightings) -> Float[np.ndarray, " E"]:
    """Return the distances of all objects' centroids from the true centres in found frames, in pixels."""
    errors = [np.zeros(0)]
    for place in np.flatnonzero(found_frames(sightings)).tolist():
        there, frame = sightings.present[place], sightings.frames[place]
        centroids = frame.centroids[np.searchsorted(frame.objects, frame.held[there])]
        errors.append(np.linalg.norm(centroids - sightings.centres[place, there], axis=1))
    return np.concatenate(errors)


def points_in_own_mask(sightings: Sightings) -> Bool[np.ndarray, "F N"]:
    """True for labelled points inside the mask of their own object.

    Each true object owns one object of the decomposition for the whole recording. The assignment maximizes the number
    of points inside.
    """
    from scipy.optimize import linear_sum_assignment  # imported late, to keep the command line fast

    under, present = sightings.under, sightings.present
    numbers = np.unique(np.concatenate([frame.objects for frame in sightings.frames]))
    inside = (under[:, :, None] == numbers) & present[:, :, None]
    owner = np.full(under.shape[1], NONE)
    rows, columns = linear_sum_assignment(-inside.sum(axis=0))
    owner[rows] = numbers[columns]
    return present & (under == owner) & (owner != NONE)


def touching_frames(centres: Float[np.ndarray, "F N 2"], distance: float) -> Bool[np.ndarray, " F"]:
    """True for frames in which the centres of two labelled objects are closer than `distance`, in pixels."""
    apart = np.linalg.norm(centres[:, :, None] - centres[:, None], axis=-1)
    first, second = np.triu_indices(centres.shape[1], k=1)
    return (apart[:, first, second] < distance).any(axis=1)  # NaN is not closer


def score(sightings: Sightings, side: float, chosen: Bool[np.ndarray, " F"] | None = None) -> dict[str, float | int]:
    """Score the decomposition of a recording.

    Args:
        sightings: the labelled frames.
        side: the longer side of the frame, in pixels.
        chosen: the frames to score; None: all. Owners and switches are computed over the whole recording. A switch
            counts if any frame from the last found one before it to the first after it is chosen.

    Returns:
        The scores of docs/metrics.md. Scores without a frame are NaN.
    """
    present = sightings.present
    labelled = sightings.labelled(chosen)
    several = labelled & (present.sum(axis=1) > 1)
    there = present & labelled[:, None]
    errors = centroid_errors(sightings.subset(labelled))
    switches = [labelled[before : after + 1].any() for before, after in identity_switches(sightings)]
    return {
        "num_frames": int(labelled.sum()),
        "num_points": int(there.sum()),
        "found": _share(found_frames(sightings)[labelled]),
        "objects_found": _share(found_objects(sightings)[there]),
        "separated": _share(separated_frames(sightings)[several]),
        "identity_switches": int(sum(switches)),
        "centroid_error": float(np.median(errors)) / side * 100 if len(errors) else math.nan,
        "point_in_own_mask": _share(points_in_own_mask(sightings)[there]),
    }


def _share(values: Bool[np.ndarray, " V"]) -> float:
    return float(values.mean()) if len(values) else math.nan
