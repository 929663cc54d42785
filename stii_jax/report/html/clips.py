"""Held-out videos for the page's player: the frames and the output of every slot, in 8 bits."""

import base64
import io
import math
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict
from PIL import Image

from stii_jax.evaluation.evaluator import Evaluator, join
from stii_jax.models.registry import SYSTEMS
from stii_jax.runs.setup import load_dataset
from stii_jax.types import Decomposition, Params
from stii_jax.visualization import visualize


class Clip(NamedTuple):
    """One decomposed video; axes as in `Decomposition`, without B."""

    video: UInt8[np.ndarray, "T H W 3"]
    means: UInt8[np.ndarray, "T K H W 3"]
    """Means of the slots; black where the mask is 0."""
    masks: UInt8[np.ndarray, "T K H W"]
    """Mask probabilities times 255, rounded; the slot with the largest mask does not change."""
    responsibilities: UInt8[np.ndarray, "T K H W"] | None
    """Responsibilities, scaled like `masks`; None if the masks are the segmentation."""
    truth: UInt8[np.ndarray, "T H W 3"] | None
    """True objects in the colours of the slots that match them best."""
    colors: UInt8[np.ndarray, "K 3"]
    background: int
    """The slot with the most pixels."""
    num_observed: int
    """Number of observed frames; later ones are predicted."""
    strip: UInt8[np.ndarray, "Y X 3"]
    """The still picture of `visualize.strip`, for browsers without scripts."""


def held_out_clips(config: ConfigDict, params: Params, num_videos: int) -> list[Clip]:
    """Decompose the first videos of `eval.split`.

    The model observes `eval.observed_frames` frames and predicts `eval.predict_frames` more. Both are cut to the
    length of the videos. Systems that cannot predict only observe.

    Raises:
        ConfigError, DataError, DeviceError: the dataset is not available, or does not fit.
    """
    source = load_dataset(config, evaluated=True)
    evaluator, settings = Evaluator(config, source), config.eval
    longest = source.frames_of(settings.split)
    predicts = SYSTEMS[settings.system or config.system].predicts and longest > 1
    ahead = min(settings.predict_frames, max(1, longest - settings.observed_frames)) if predicts else 0
    observed = min(settings.observed_frames, longest - ahead)
    clips: list[Clip] = []
    for batch, index in evaluator._batches(settings.split, observed + ahead, num_videos):
        past = batch["video"][:, :observed]
        if ahead:
            whole = join([*evaluator.predict(params, past, index, ahead)])
        else:
            whole = evaluator.observe(params, past, index)[0]
        for i in range(int(batch["valid"].sum())):
            labels = batch["segmentation"][i] if "segmentation" in batch else None
            one = jax.device_get(visualize.one_video(whole, i))
            clips.append(make_clip(batch["video"][i], one, labels, observed))
    return clips


def make_clip(
    video: UInt8[np.ndarray, "T H W C"],
    decomposition: Decomposition,
    labels: UInt8[np.ndarray, "T H W"] | None,
    num_observed: int,
) -> Clip:
    """Make the clip of one video (B = 1)."""
    slots, background = visualize.find_slots(video, decomposition)
    masks, num_slots = _in_255ths(np.asarray(decomposition.masks[0])), decomposition.masks.shape[2]
    resolved = decomposition.responsibilities
    responsibilities = None if resolved is None else _in_255ths(np.asarray(resolved[0]))
    means = np.rint(np.clip(np.asarray(decomposition.means[0]), 0, 1) * 255).astype(np.uint8)
    truth = None
    colors = visualize.slot_colors(num_slots + 256, background)
    if labels is not None:
        truth = colors[visualize.match_labels(labels, slots, num_slots)[labels]]
    num_predicted = len(video) - num_observed
    strip = visualize.strip(video, decomposition, labels, num_observed=num_observed if num_predicted else None)
    # Pixels with a mask of 0 are never shown, and black compresses well.
    means = visualize.rgb(means) * (masks > 0)[..., None]
    painted = (visualize.rgb(video), means, masks, responsibilities)
    return Clip(*painted, truth, colors[:num_slots], background, num_observed, strip)


def clip_data(clip: Clip) -> dict[str, Any]:
    """Return a clip's data for `page.js`. Sheets hold images row by row, by frame and then by slot."""
    num_frames, num_slots, height, width = clip.masks.shape
    sheets = {
        "video": _sheet(clip.video),
        "means": _sheet(clip.means.reshape(-1, height, width, 3)),
        "masks": _sheet(clip.masks.reshape(-1, height, width)),
    }
    if clip.responsibilities is not None:
        sheets["responsibilities"] = _sheet(clip.responsibilities.reshape(-1, height, width))
    if clip.truth is not None:
        sheets["truth"] = _sheet(clip.truth)
    return {
        **{"frames": num_frames, "slots": num_slots, "height": height, "width": width},
        **{"observed": clip.num_observed, "background": clip.background, "colors": clip.colors.tolist()},
        "sheets": sheets,
    }


def data_uri(image: UInt8[np.ndarray, "..."]) -> str:
    """Return a grey or colour image as a PNG data URI."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _in_255ths(masks: np.ndarray) -> UInt8[np.ndarray, "T K H W"]:
    """Scale masks to 0..255. Ties after rounding keep the model's winner, so that the segmentation is unchanged."""
    rounded = np.rint(masks * 255).astype(np.uint8)
    winner = masks.argmax(axis=1, keepdims=True)
    lost = rounded.argmax(axis=1, keepdims=True) != winner
    np.put_along_axis(rounded, winner, rounded.max(axis=1, keepdims=True) + lost, axis=1)
    return rounded


def _sheet(images: UInt8[np.ndarray, "N H W *C"]) -> str:
    """Tile all images into one that is roughly square, because browsers limit both sides."""
    count, height, width, *channels = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    filled = np.zeros((rows * columns, height, width, *channels), np.uint8)
    filled[:count] = images
    grid = filled.reshape(rows, columns, height, width, *channels).swapaxes(1, 2)
    return data_uri(np.ascontiguousarray(grid.reshape(rows * height, columns * width, *channels)))
