"""Classical trackers: detect in each frame, link the detections, with settings tuned on the first frames."""

import itertools
import time
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from stii_jax.comparison import linking
from stii_jax.comparison.detection import DETECTORS, Grey, Setting, grey
from stii_jax.comparison.detection import grid as settings_of
from stii_jax.comparison.linking import LINKERS, Link
from stii_jax.data.errors import DataError
from stii_jax.data.tracks.points import place_in_recording
from stii_jax.data.video.footage import open_footage
from stii_jax.evaluation.tracking_metrics import tracking_metrics
from stii_jax.evaluation.tracks import MATCH, NONE, Sighting, Sightings
from stii_jax.inference.decomposed_folder import ObservedFrame
from stii_jax.inference.track_request import TrackRequest
from stii_jax.inference.track_scores import Recorded, score_frames


class Classical(NamedTuple):
    """A classical tracker."""

    title: str
    detector: str
    linker: str


METHODS = {
    "mog2": Classical("MOG2, nearest neighbour", "mog2", "nearest"),
    "threshold": Classical("Otsu's threshold, trackpy", "threshold", "trackpy"),
}


class Tuned(NamedTuple):
    """The settings of a tracker."""

    detection: Setting
    link: Link
    hota: float
    """HOTA on the frames used for tuning."""
    tried: int
    """Number of combinations tried."""


def run(name: str, request: TrackRequest, recorded: Recorded, tune_frames: int) -> dict[str, Any]:
    """Tune a classical tracker, apply it to the recording and score it.

    Args:
        name: a key of `METHODS`.
        request: the recording and its tracks.
        recorded: facts of the recording.
        tune_frames: number of first frames used to tune the settings.

    Returns:
        `method`, `settings`, `tuned_on`, `tuning_seconds`, `seconds` (for reading and tracking), and the scores.

    Raises:
        DataError: the recording cannot be read, the tracks do not fit it, or nothing can be linked.
    """
    method = METHODS[name]
    started = time.monotonic()
    tuned = _tune(method, request, recorded, tune_frames)
    tuning = time.monotonic() - started
    started = time.monotonic()
    shown = iter(tqdm(read_grey(request), desc=method.title, unit="frame", mininterval=0.5))
    kept, places, shape = list[bytes](), list[np.ndarray](), (0, 0)
    for found in DETECTORS[method.detector](shown, tuned.detection):
        kept.append(zlib.compress(found.labels.astype(np.uint16).tobytes(), 1))
        places.append(found.centroids)
        shape = found.labels.shape
    numbers = LINKERS[method.linker](places, tuned.link)
    seconds = time.monotonic() - started

    def observed() -> Iterator[ObservedFrame]:
        for packed, own, at in zip(kept, numbers, places, strict=True):
            labels = np.frombuffer(zlib.decompress(packed), np.uint16).reshape(shape)
            names = np.concatenate([[0], own + 1])  # 0 stays the background
            yield ObservedFrame(names[labels], {int(n) + 1: (float(x), float(y)) for n, (x, y) in zip(own, at)})

    scores = score_frames(observed(), recorded, request, announce=lambda _: None)
    settings = tuned.detection._asdict() | tuned.link._asdict()
    unused = () if method.detector == "mog2" else ("sensitivity", "history")
    return {
        "method": method.title,
        "settings": {key: value for key, value in settings.items() if key not in unused},
        "tuned_on": {"num_frames": tune_frames, "tried": tuned.tried, "hota": tuned.hota},
        "tuning_seconds": round(tuning, 3),
        **scores,
        "seconds": round(seconds, 3),
    }


def read_grey(request: TrackRequest) -> Iterator[Grey]:
    """Yield the recording's frames in grey, in 0..255."""
    for frame in open_footage(request.input, request.viewing.value_range).frames():
        yield grey(frame.pixels)


def _tune(method: Classical, request: TrackRequest, recorded: Recorded, tune_frames: int) -> Tuned:
    """Try all combinations of the grids on the first frames. The highest HOTA wins; ties go to the first."""
    frames = list(itertools.islice(read_grey(request), tune_frames))
    width, height = recorded.width, recorded.height
    tracks = place_in_recording(request.tracks, recorded.num_frames, width, height)
    num_objects = int(tracks.present.sum(axis=1).max())
    chosen = tracks.frames < len(frames)
    if not (numbers := tracks.frames[chosen].tolist()):
        raise DataError(f"{tracks.path} labels none of the first {len(frames)} frames: increase --tune_frames")
    points, centres = tracks.points[chosen], tracks.centres[chosen]
    side, match = float(max(height, width)), float(request.options.get("match", MATCH))
    best, tried = None, 0
    for setting in tqdm(list(settings_of(method.detector, width * height, num_objects)), desc="tuning", leave=False):
        detected = list(DETECTORS[method.detector](frames, setting))
        for link in linking.grid(max(height, width)):
            tried += 1
            try:
                own = LINKERS[method.linker]([found.centroids for found in detected], link)
            except DataError:  # there are too many detections for this reach
                continue
            nowhere = np.full(points.shape[1], NONE)  # HOTA compares centroids alone
            frames_seen = [Sighting(nowhere, nowhere, own[t], detected[t].centroids) for t in numbers]
            hota = float(tracking_metrics(Sightings(points, centres, frames_seen), side, match)["hota"])
            if best is None or hota > best.hota:
                best = Tuned(setting, link, hota, 0)
    if best is None:
        raise DataError(f"{request.input}: {method.linker} cannot link the detections with any of {tried} settings")
    return best._replace(tried=tried)
