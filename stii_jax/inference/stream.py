"""Decompose a video frame by frame, in memory that its length does not change."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from stii_jax.evaluation import novelty
from stii_jax.inference.outputs import SegmentedFrame
from stii_jax.inference.recordings import Frames, RecordedFrame, Recording
from stii_jax.models.video_model import EVALUATION_SEED, VideoModel, example_keys
from stii_jax.types import Decomposition, Params
from stii_jax.visualization.regions import Canvas, Region


class FrameResult(NamedTuple):
    """The decomposition of one frame, observed or predicted."""

    segmented: SegmentedFrame
    """Number, time, mask and regions."""
    frame: UInt8[np.ndarray, "S S 3"] | None
    """The model's view of the frame; None for a predicted one."""
    decomposition: Decomposition
    """The model's output; B and T are 1."""
    pixels: UInt8[np.ndarray, "H W 3"] | None
    """The whole frame; None for a predicted one, and in a `Result`, which would hold a whole video."""

    @property
    def number(self) -> int:
        """Frame number, from 0."""
        return self.segmented.number

    @property
    def seconds(self) -> float:
        """Presentation time, relative to the first frame."""
        return self.segmented.seconds

    @property
    def predicted(self) -> bool:
        """True if the video does not show this frame."""
        return self.segmented.predicted

    @property
    def mask(self) -> UInt8[np.ndarray, "H W"]:
        """The slot of every pixel in the video's resolution; 255 outside the part that the model sees."""
        return self.segmented.slots

    @property
    def regions(self) -> dict[int, Region]:
        """Centroid, area and box of every visible slot, in pixels of the video."""
        return self.segmented.regions

    @property
    def appearances(self) -> Float[np.ndarray, "K S S 3"]:
        """The picture that each slot paints, in [0, 1], at the model's resolution."""
        return np.asarray(self.decomposition.means)[0, 0]

    @property
    def slot_masks(self) -> Float[np.ndarray, "K S S"]:
        """The probability that a pixel belongs to each slot; sums to 1 over the slots."""
        return np.asarray(self.decomposition.assignment)[0, 0]

    @property
    def reconstruction(self) -> Float[np.ndarray, "S S 3"]:
        """The frame as the model paints it, in [0, 1]."""
        return np.asarray(self.decomposition.reconstruction)[0, 0]


class FrameStream:
    """The results of a video's frames, one after the other. It can be iterated once.

    Args:
        model: the network.
        params: its parameters.
        video: the frames.
        num_predicted: number of frames to predict after the last one.
        held_out: `novelty.summarize` of held-out videos, which `compare` uses.
    """

    def __init__(
        self, model: VideoModel, params: Params, video: Recording | Frames, num_predicted: int = 0, held_out: Any = None
    ):
        self.video = video
        """The frames, with their size, rate and the notes on how they were read."""
        self.canvas = Canvas(model.frame_shape[:2], video.box, video.width, video.height)
        """Maps the model's pixels to those of the video."""
        self._stream, self._num_predicted, self._held_out = Stream(model, params), num_predicted, held_out
        self._clock = _Clock(video.fps)

    @property
    def damage(self) -> str | None:
        """The reason why the stream ended before the video did, once it has."""
        return self.video.damage or self._stream.damage

    def __iter__(self) -> Iterator[FrameResult]:
        return self._results(self._stream.run(self.video, self._num_predicted))

    def predict(self, num_frames: int) -> Iterator[FrameResult]:
        """Predict the frames after the last one so far."""
        return self._results(self._stream.run((), num_frames))

    def compare(self) -> dict[str, Any]:
        """Return how far the frames so far are from held-out videos; see `novelty.compare`."""
        return self._stream.monitor.compare(self._held_out)

    def _results(self, items):
        for item in items:
            number, seconds = self._clock.tick(item.seconds)
            labels = self.canvas.segment(np.asarray(item.decomposition.assignment)[0, 0])
            segmented = SegmentedFrame(number, seconds, item.frame is None, labels.slots, self.canvas.measure(labels))
            yield FrameResult(segmented, item.frame, item.decomposition, item.pixels)


class _Clock:
    """Numbers and times of frames; predicted ones follow at the mean interval of those before."""

    def __init__(self, fps: float):
        self._number, self._seconds, self._interval = -1, 0.0, 1 / fps

    def tick(self, seconds: float | None) -> tuple[int, float]:
        """Return number and time of the next frame; None stands for a predicted one."""
        self._number += 1
        if seconds is None:
            self._seconds += self._interval
        else:
            self._seconds = seconds
            self._interval = seconds / self._number if self._number else self._interval
        return self._number, self._seconds


class DecomposedFrame(NamedTuple):
    """One frame and its decomposition."""

    frame: UInt8[np.ndarray, "S S 3"] | None
    """None for a predicted frame."""
    seconds: float | None
    """Presentation time, relative to the first frame; None for a predicted frame."""
    decomposition: Decomposition
    """The decomposition of this frame alone: B and T are 1."""
    pixels: UInt8[np.ndarray, "H W 3"] | None
    """The whole frame, at the recording's size; None for a predicted frame."""


class Stream:
    """Decomposes a video frame after frame; what comes out is what `Evaluator.observe` gives for its video 0."""

    def __init__(self, model: VideoModel, params: Params):
        self._model, self._params, self._state = model, params, model.initial_state(params, 1)
        self.monitor = novelty.Monitor(model)
        """Statistics of the frames seen so far, for the novelty warning."""
        self.damage: str | None = None
        """Why it stopped before the end, once it has."""

    def run(self, frames: Iterable[RecordedFrame], num_predicted: int = 0) -> Iterator[DecomposedFrame]:
        """Decompose one or more frames, and predict those after them."""
        for number, item in enumerate(_one_ahead(self._steps(frames, num_predicted))):
            if not all(np.isfinite(array).all() for array in jax.tree.leaves(item.decomposition)):
                self.damage = f"the model's output is not finite from frame {number} on"
                return
            if item.frame is not None:
                self.monitor.add(item.frame, item.decomposition)
            yield item

    def _steps(self, frames: Iterable[RecordedFrame], num_predicted: int) -> Iterator[DecomposedFrame]:
        for frame in frames:
            decomposition, self._state = _observe(self._model, self._params, self._state, frame.view)
            yield DecomposedFrame(frame.view, frame.seconds, decomposition, frame.pixels)
        for _ in range(num_predicted):
            decomposition, self._state = _predict(self._model, self._params, self._state)
            yield DecomposedFrame(None, None, decomposition, None)


@functools.partial(jax.jit, static_argnums=0)
def _observe(model, params, state, frame):
    keys = example_keys(jax.random.key(EVALUATION_SEED), jnp.zeros(1, int))
    return model.stream(params, state, frame[None].astype(jnp.float32) / 255.0, keys)


@functools.partial(jax.jit, static_argnums=0)
def _predict(model, params, state):
    return model.predict(params, state, 1)


def _one_ahead(items: Iterator[DecomposedFrame]) -> Iterator[DecomposedFrame]:
    """The same, but one is drawn and written while the device works on the next."""
    waiting = next(items)
    for item in items:
        yield waiting
        waiting = item
    yield waiting
