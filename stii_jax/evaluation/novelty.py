"""Novelty detection: recognize videos unlike a model's training data.

A model decomposes any video. Three statistics measure how well it reconstructs a frame:

    relative_error   squared error divided by that of the frame's mean colour: 0 is perfect, 1 is as bad as one colour
    mse              mean squared error over pixels and channels, colours in [0, 1]
    log_likelihood   log-likelihood per pixel under the model, in nats, averaged over the frame

An evaluation stores their quantiles on held-out videos (`summarize`). A decomposition compares its video with them
(`compare`). Only `relative_error` decides, because dark or flat frames are easy to reconstruct. For example, the
quickstart model's MSE on two flies on black is 1.4 times as high as on held-out videos. Its relative error is 20 times
as high.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from stii_jax.models.video_model import VideoModel
from stii_jax.types import Decomposition

STATISTICS = ("relative_error", "mse", "log_likelihood")
KEY = "novelty_reference"
"""Key of the quantiles of held-out videos in `results.json` and in the file of a model."""
FACTOR = 2.0
"""A video is novel above this multiple of the 99th percentile of held-out videos' relative errors."""
_LENGTHS = (1, 3, 10, 30)
"""Numbers of first frames over which held-out videos are summarised, besides all frames. The first frames fit worse,
and a median over few frames varies more. So a short video is compared with the start of held-out ones."""
_QUANTILES = {"q01": 0.01, "q05": 0.05, "q50": 0.5, "q95": 0.95, "q99": 0.99}
_LEAST_VARIANCE = 1e-4  # below it, a frame counts as flat: colours within 2.5 of 255 levels
_SAMPLE = 10_000

Values = Mapping[str, float]


def frame_fit(
    model: VideoModel, video: UInt8[Array | np.ndarray, "B T H W C"], decomposition: Decomposition
) -> dict[str, Float[Array, "B T"]]:
    """Compute the `STATISTICS` of every frame. `video` has colours in 0..255."""
    frames = jnp.asarray(video).astype(jnp.float32) / 255
    pixels = (2, 3, 4)
    error = jnp.square(decomposition.reconstruction - frames).mean(pixels)
    variance = jnp.square(frames - frames.mean((2, 3), keepdims=True)).mean(pixels)
    log_likelihood = model.log_likelihood(frames, decomposition).mean((2, 3))
    relative = error / jnp.maximum(variance, _LEAST_VARIANCE)
    return {"relative_error": relative, "mse": error, "log_likelihood": log_likelihood}


_fit = jax.jit(frame_fit, static_argnums=0)


def summarize(values: Mapping[str, Float[np.ndarray, "N T"]]) -> dict[str, Any]:
    """Compute quantiles over held-out videos, ready for JSON.

    Args:
        values: the `STATISTICS` of N videos of T frames.

    Returns:
        `num_videos`; `per_frame`, the quantiles over all frames; and `per_video`, one entry per length, with the
        quantiles of the videos' medians over their first `num_frames` frames.
    """
    num_videos, num_frames = values["relative_error"].shape

    def quantiles(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
        return {
            name: {key: float(np.quantile(array, q)) for key, q in _QUANTILES.items()} for name, array in arrays.items()
        }

    per_video = []
    for length in (*(length for length in _LENGTHS if length < num_frames), num_frames):
        medians = {name: np.median(array[:, :length], axis=1) for name, array in values.items()}
        per_video.append({"num_frames": length, **quantiles(medians)})
    per_frame = {"num_frames": num_videos * num_frames, **quantiles(values)}
    return {"num_videos": num_videos, "per_frame": per_frame, "per_video": per_video}


class Reference(NamedTuple):
    """The statistics of held-out videos, for comparison with a video."""

    num_videos: int
    num_frames: int
    """Number of first frames of each video behind the values."""
    typical: Values
    """The median of every statistic over held-out videos."""
    limit: float
    """The relative error above which a video is novel."""


def find_reference(summary: Any, num_frames: int | None = None) -> Reference | None:
    """Find the entry of `summarize` for videos of `num_frames` frames, by default the longest.

    Returns None if `summary` is missing or lacks finite numbers. It may come from an older version or be untrusted.
    """
    entries = summary.get("per_video") if isinstance(summary, Mapping) else None
    found = None
    for entry in entries if isinstance(entries, list) else []:
        try:
            length, num_videos = int(entry["num_frames"]), int(summary["num_videos"])
            typical = {name: float(entry[name]["q50"]) for name in STATISTICS}
            limit = FACTOR * float(entry["relative_error"]["q99"])
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        finite = all(map(math.isfinite, (*typical.values(), limit))) and min(limit, typical["relative_error"]) > 0
        # A video shorter than all entries is compared with the shortest.
        fits = found is None or (length > found.num_frames and (num_frames is None or length <= num_frames))
        if finite and fits:
            found = Reference(num_videos, length, typical, limit)
    return found


def compare(values: Values, num_frames: int, summary: Any) -> dict[str, Any]:
    """Compute the part `novelty` of `decomposition.json`.

    Args:
        values: the median of every statistic over the video's frames.
        num_frames: length of the video.
        summary: from `summarize`; None if held-out videos were not measured.

    Returns:
        `is_novel`, and for every statistic the video's value, the typical value of held-out videos and their ratio
        (for log-likelihoods, their difference). Without a summary, all but the video's values are None.
    """
    reference = find_reference(summary, num_frames)
    found: dict[str, Any] = {"is_novel": None, "held_out_videos": None, "held_out_frames": None}
    for name in STATISTICS:
        found[name] = {"video": values[name], "held_out": None}
    found["relative_error"] |= {"limit": None, "ratio": None}
    found["mse"] |= {"ratio": None}
    found["log_likelihood"] |= {"difference": None}
    if reference is None:
        return found
    typical = reference.typical
    for name in STATISTICS:
        found[name]["held_out"] = typical[name]
    found["relative_error"] |= {
        "limit": reference.limit,
        "ratio": values["relative_error"] / typical["relative_error"],
    }
    found["mse"]["ratio"] = values["mse"] / typical["mse"] if typical["mse"] > 0 else None
    found["log_likelihood"]["difference"] = values["log_likelihood"] - typical["log_likelihood"]
    is_novel = values["relative_error"] > reference.limit
    counts = {"held_out_videos": reference.num_videos, "held_out_frames": reference.num_frames}
    return found | {"is_novel": is_novel, **counts}


def warning(found: Mapping[str, Any], video: str, model: str, background: str, is_bright: bool = False) -> str | None:
    """A one-line warning if `compare` found the video to be novel, else None.

    See `View.background`. `is_bright` is true for a video with a bright background.
    """
    if not found["is_novel"]:
        return None
    advice = "if the camera is static, try --background=median; " if background == "keep" else ""
    if is_bright and background == "keep":
        advice = "its background is bright, so try --background=bright; " + advice
    error, likelihood = found["relative_error"], found["log_likelihood"]
    return (
        f"{video} is unlike the videos {model} was trained on: relative reconstruction error "
        f"{error['video']:.2g}, {error['ratio']:.0f}x higher than on held-out videos ({error['held_out']:.2g}); "
        f"log-likelihood {likelihood['video']:.2f} nats per pixel ({likelihood['held_out']:.2f}); {advice}see "
        "docs/real-videos.md"
    )


class Monitor:
    """The statistics of a video that is decomposed frame by frame, in constant memory.

    Medians are exact up to 20,000 frames, and beyond that over at least 10,000 evenly spaced ones.
    """

    def __init__(self, model: VideoModel):
        self._model = model
        self._sample: list[tuple[float, ...]] = []
        self._stride = 1
        self.num_frames = 0
        """Frames measured so far."""

    def add(self, frame: UInt8[np.ndarray, "*tiles H W C"], decomposition: Decomposition) -> None:
        """Measure the next frame. Its decomposition has T = 1, and B is the number of tiles, measured together."""
        if self.num_frames % self._stride == 0:
            video = frame.reshape(-1, 1, *frame.shape[-3:])
            fit = {name: np.asarray(value) for name, value in _fit(self._model, video, decomposition).items()}
            if len(video) == 1:
                relative = fit["relative_error"]
            else:  # total error over total variance of the tiles, so that tiles without an object weigh little
                variances = fit["mse"] / np.maximum(fit["relative_error"], np.finfo(np.float32).tiny)
                relative = fit["mse"].sum() / np.maximum(variances.sum(), _LEAST_VARIANCE)
            self._sample.append(tuple(float(np.mean(v)) for v in (relative, fit["mse"], fit["log_likelihood"])))
        self.num_frames += 1
        if len(self._sample) == 2 * _SAMPLE:
            self._sample, self._stride = self._sample[::2], 2 * self._stride

    def compare(self, summary: Any) -> dict[str, Any]:
        """See `compare`. Requires at least one measured frame."""
        medians = np.median(self._sample, axis=0).tolist()
        return compare(dict(zip(STATISTICS, medians)), self.num_frames, summary)
