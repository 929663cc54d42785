"""Score the decomposition of a recording against point tracks, in almost constant memory."""

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tqdm import tqdm

from stii_jax.data.errors import DataError
from stii_jax.data.tracks.points import place_in_recording
from stii_jax.data.video.videofile import count_frames
from stii_jax.evaluation.tracking_metrics import tracking_metrics
from stii_jax.evaluation.tracks import MATCH, REACH, Sightings, look, score, touching_frames
from stii_jax.inference.decomposed_folder import DecomposedFolder, ObservedFrame
from stii_jax.inference.model import Model
from stii_jax.inference.stream import FRAMES_FOR_BACKGROUND, FrameStream
from stii_jax.inference.track_request import TrackRequest


class Recorded(NamedTuple):
    """Facts about the recording that the tracks have to fit."""

    width: int
    height: int
    num_frames: int
    """Number of frames according to the file. Every `stride`-th is decomposed."""
    stride: int = 1
    scale: float = 1.0
    """Pixels of the recording per pixel of the labels."""


def score_frames(
    frames: Iterable[ObservedFrame],
    recorded: Recorded,
    request: TrackRequest,
    announce: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Score decomposed frames.

    Args:
        frames: all decomposed frames, without predicted ones.
        recorded: facts about the recording.
        request: the tracks.
        announce: called before the first frame with a description of how the tracks were read.

    Returns:
        The scores over all labelled frames. If the body length is known, also those over the frames in which objects
        touch (`touching`) or not (`apart`). docs/metrics.md describes them.

    Raises:
        DataError: the tracks do not fit the recording.
    """
    started, options = time.monotonic(), request.options
    tracks = place_in_recording(request.tracks, recorded.num_frames, recorded.width, recorded.height)
    announce(tracks.text)
    side = float(max(recorded.width, recorded.height))
    reach, match = float(options.get("reach", REACH * side)), float(options.get("match", MATCH))
    places = {int(frame): place for place, frame in enumerate(tracks.frames)}
    labelled, seen, number = list[int](), [], -1
    for number, frame in enumerate(frames):
        if (place := places.get(number * recorded.stride)) is not None:
            labelled.append(place)
            seen.append(look(frame.labels, frame.centroids, tracks.points[place], reach, recorded.scale))
    if (late := int((tracks.frames >= (number + 1) * recorded.stride).sum())) > 0:
        print(f"note: {late} labelled frames lie after the last decomposed frame and are not scored", file=sys.stderr)
    if not seen:
        raise DataError(
            f"{tracks.path} labels none of the {number + 1} decomposed frames (frame stride {recorded.stride}): label "
            "more frames"
        )
    sightings = Sightings(tracks.points[labelled], tracks.centres[labelled], seen)
    length = float(options.get("body_length", tracks.body_length))
    touching = touching_frames(sightings.centres, length)
    groups: dict[str, Any] = {"": None}
    if math.isfinite(length):
        groups |= {"touching": touching, "apart": ~touching}
    scores = {
        name: score(sightings, side, chosen) | tracking_metrics(sightings, side, match, chosen)
        for name, chosen in groups.items()
    }
    return {
        "tracks": tracks.path.name,
        "read_as": tracks.text,
        "num_objects": len(tracks.objects),
        "num_labelled": len(tracks.frames),
        "num_decomposed": number + 1,
        "frame_stride": recorded.stride,
        "frame_size": (recorded.width, recorded.height),
        "reach": reach,
        "match": match,
        "body_length": length,
        **scores.pop(""),
        **scores,
        "seconds": round(time.monotonic() - started, 3),
    }


def score_model(model: Model, request: TrackRequest) -> tuple[dict[str, Any], FrameStream]:
    """Decompose the recording `request.input` and score it; see `score_frames`. Writes no files.

    Returns:
        The scores, and the exhausted stream of the decomposition.
    """
    stream = model.stream(request.input, **request.viewing._asdict())
    recording, stride = stream.video, stream.video.stride
    num_frames = recording.expected * stride if recording.expected else count_frames(request.input)
    recorded = Recorded(recording.width, recording.height, num_frames, stride, float(stream.canvas.scale))
    return score_frames(_observed(stream, recording.expected), recorded, request), stream


def _observed(stream: FrameStream, expected: int | None) -> Iterator[ObservedFrame]:
    results = iter(tqdm(stream, desc="decomposing", total=expected, unit="frame", mininterval=0.5))
    head = list(itertools.islice(results, FRAMES_FOR_BACKGROUND))
    background = stream.find_background(head) if head else None
    for result in itertools.chain(head, results):
        places = {slot: (region.x, region.y) for slot, region in result.regions.items() if slot != background}
        yield ObservedFrame(result.mask, places)


def score_folder(request: TrackRequest) -> dict[str, Any]:
    """Score the decomposition in the folder `request.input`; see `score_frames`."""
    folder = DecomposedFolder(request.input)
    size = int(folder.width), int(folder.height)
    recorded = Recorded(*size, folder.num_frames * folder.stride, folder.stride, folder.scale)
    return score_frames(folder, recorded, request) | folder.facts


def describe_scores(scores: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line for all labelled frames, and one each for frames with and without touching objects."""
    for name, group in (("all", scores), *((key, scores[key]) for key in ("touching", "apart") if key in scores)):
        if not group["num_frames"]:
            yield f"{name}: no frame"
            continue
        shares = {"found": "found", "objects_found": "objects found", "separated": "separated"}
        shares["point_in_own_mask"] = "point in own mask"
        parts = [f"{text} {group[key]:.1%}" for key, text in shares.items() if math.isfinite(group[key])]
        parts.insert(1, f"identity switches {group['identity_switches']}")
        if math.isfinite(group["centroid_error"]):
            parts.insert(2, f"median centroid error {group['centroid_error']:.2f}% of the side")
        parts += [f"{key.upper()} {group[key]:.3f}" for key in ("hota", "idf1", "mota")]
        yield f"{name}, {group['num_frames']} frames: {', '.join(parts)}"
