"""HOTA, IDF1 and MOTA of point tracks, computed by TrackEval, the code behind MOTChallenge's tables.

TrackEval is an optional extra: `pip install 'stii_jax[tracks]'`. No other module imports it.
"""

import importlib.util
import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from stii_jax.errors import UserError
from stii_jax.evaluation.tracks import MATCH, Sightings


class MissingExtraError(UserError, ImportError):
    """A package of an optional feature is not installed. The message is one line."""


def check_installed() -> None:
    """Raise `MissingExtraError` if TrackEval is not installed."""
    if importlib.util.find_spec("trackeval") is None:
        raise MissingExtraError("HOTA, IDF1 and MOTA need trackeval: pip install 'trackeval>=1.3'")


def tracking_metrics(
    sightings: Sightings, side: float, match: float = MATCH, chosen: Bool[np.ndarray, " F"] | None = None
) -> dict[str, float | int]:
    """Return HOTA with its parts, IDF1, MOTA and MOTA's switches.

    The similarity of a centroid and a true centre falls linearly with distance, as in TrackEval's own benchmarks of
    points. It is 1 at distance 0, 0.5 at `match`, and 0 from twice that. IDF1 and MOTA match from a similarity of 0.5.
    HOTA is the mean over the thresholds 0.05, 0.1, ..., 0.95.

    Args:
        sightings: the labelled frames.
        side: the longer side of the frame, in pixels.
        match: see `stii_jax.evaluation.tracks.MATCH`.
        chosen: the frames to score; None: all.

    Raises:
        MissingExtraError: TrackEval is not installed.
    """
    check_installed()
    from trackeval.metrics import CLEAR, HOTA, Identity

    labelled = sightings.labelled(chosen)
    if not labelled.any():
        return dict.fromkeys(("hota", "deta", "assa", "idf1", "mota"), math.nan) | {"mota_switches": 0}
    data = _data(sightings.subset(labelled), 2 * match / 100 * side)
    quiet = {"PRINT_CONFIG": False}
    hota, clear = HOTA().eval_sequence(data), CLEAR(quiet).eval_sequence(data)
    identity = Identity(quiet).eval_sequence(data)
    means = {name.lower(): float(np.mean(hota[name])) for name in ("HOTA", "DetA", "AssA")}
    ends = {"idf1": float(identity["IDF1"]), "mota": float(clear["MOTA"]), "mota_switches": int(clear["IDSW"])}
    return means | ends


def _data(sightings: Sightings, zero_distance: float) -> dict[str, Any]:
    """Convert the sequence to TrackEval's format, in which object numbers run from 0 without gaps."""
    present, frames = sightings.present, sightings.frames
    numbers = np.unique(np.concatenate([frame.objects for frame in frames]))
    return {
        "num_timesteps": len(frames),
        "num_gt_ids": present.shape[1],
        "num_tracker_ids": len(numbers),
        "num_gt_dets": int(present.sum()),
        "num_tracker_dets": sum(len(frame.objects) for frame in frames),
        "gt_ids": [np.flatnonzero(there) for there in present],
        "tracker_ids": [np.searchsorted(numbers, frame.objects) for frame in frames],
        "similarity_scores": [
            _similarity(centres[there], frame.centroids, zero_distance)
            for centres, there, frame in zip(sightings.centres, present, frames)
        ],
    }


def _similarity(
    centres: Float[np.ndarray, "N 2"], centroids: Float[np.ndarray, "K 2"], zero_distance: float
) -> Float[np.ndarray, "N K"]:
    distances = np.linalg.norm(centres[:, None] - centroids, axis=-1)
    return np.maximum(0, 1 - distances / zero_distance)
