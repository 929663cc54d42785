"""Decompose a video frame by frame, in memory that its length does not change."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer, UInt8

from stii_jax.evaluation import novelty
from stii_jax.inference.outputs import SegmentedFrame
from stii_jax.inference.recordings import Frames, RecordedFrame, Recording
from stii_jax.inference.remarks import Remarks, Sight
from stii_jax.models.video_model import EVALUATION_SEED, VideoModel, example_keys
from stii_jax.types import Decomposition, Params
from stii_jax.visualization.regions import Canvas, Region

FRAMES_FOR_BACKGROUND = 10
"""The background's slot is the one with most pixels in so many first frames."""


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
    is_cut: bool = False
    """True for the first frame after a cut, where the model starts anew: slots hold other objects than before."""

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

    @property
    def remarks(self) -> Remarks:
        """Cuts, blank frames and more, noticed in the frames so far."""
        return self._stream.remarks

    @property
    def notes(self) -> list[str]:
        """Remarks for the user on how the video was read, and on what the frames so far show."""
        return [*self.video.notes, *self.remarks.notes]

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
            if item.frame is not None and not item.sight.is_blank:
                self.remarks.find(len(segmented.regions) - 1)
            yield FrameResult(segmented, item.frame, item.decomposition, item.pixels, item.sight.is_cut)


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
    sight: Sight = Sight()
    """The relation to the frames before; the model was not asked about a frame that is blank."""


class Stream:
    """Decomposes a video frame after frame; what comes out is what `Evaluator.observe` gives for its video 0.

    Two kinds of frames are exceptions; `remarks` notices them. At a cut, the model starts anew, and the background
    keeps its slot. A frame that shows nothing belongs to the background as a whole, and the model's state stays.
    """

    def __init__(self, model: VideoModel, params: Params):
        self._model, self._params, self._state = model, params, model.initial_state(params, 1)
        self._slots = _Slots(model.num_slots)
        self._is_new = True
        self._shapes: Decomposition | None = None
        self.monitor = novelty.Monitor(model)
        """Statistics of the frames seen so far, for the novelty warning."""
        self.remarks = Remarks()
        """Cuts, blank frames and more, noticed in the frames seen so far."""
        self.damage: str | None = None
        """Why it stopped before the end, once it has."""

    def run(self, frames: Iterable[RecordedFrame], num_predicted: int = 0) -> Iterator[DecomposedFrame]:
        """Decompose one or more frames, and predict those after them."""
        for number, item in enumerate(_one_ahead(self._steps(frames, num_predicted))):
            if not all(np.isfinite(array).all() for array in jax.tree.leaves(item.decomposition)):
                self.damage = f"the model's output is not finite from frame {number} on"
                return
            if item.frame is not None and not (item.sight.is_blank and self.monitor.num_frames):
                self.monitor.add(item.frame, item.decomposition)
            yield item

    def _steps(self, frames: Iterable[RecordedFrame], num_predicted: int) -> Iterator[DecomposedFrame]:
        for frame in frames:
            sight = self.remarks.see(frame.view if frame.plain is None else frame.plain)
            decomposition = self._blank(frame.view) if sight.is_blank else self._observed(frame.view, sight.is_cut)
            self._slots.see(decomposition)
            yield DecomposedFrame(frame.view, frame.seconds, decomposition, frame.pixels, sight)
        for _ in range(num_predicted):
            decomposition, self._state = _predict(self._model, self._params, self._state)
            yield DecomposedFrame(None, None, self._slots.order(decomposition), None)

    def _observed(self, view: UInt8[np.ndarray, "S S 3"], is_cut: bool) -> Decomposition:
        if is_cut:
            self._state, self._is_new = self._model.initial_state(self._params, 1), True
        decomposition, self._state = _observe(self._model, self._params, self._state, view)
        if self._is_new:
            self._slots.start(decomposition)
        self._is_new = False
        return self._slots.order(decomposition)

    def _blank(self, view: UInt8[np.ndarray, "S S 3"]) -> Decomposition:
        if self._shapes is None:
            observe = functools.partial(_observe, self._model)
            self._shapes, _ = jax.eval_shape(observe, self._params, self._state, view)
        return self._slots.background_alone(self._shapes, view)


class _Slots:
    """Keeps the background in one slot, although a model that starts anew may choose another for it."""

    def __init__(self, num_slots: int):
        self._areas, self._num_frames = np.zeros(num_slots, int), 0
        self._order: np.ndarray | None = None

    @property
    def background(self) -> int:
        """The slot with most pixels in the first frames, as `find_background` finds it."""
        return int(self._areas.argmax())

    def see(self, decomposition: Decomposition) -> None:
        """Count the pixels of each slot, in the first frames of the video."""
        if self._num_frames < FRAMES_FOR_BACKGROUND:
            self._areas += _areas(decomposition)
            self._num_frames += 1

    def start(self, decomposition: Decomposition) -> None:
        """Choose the order of the slots, given the first frame after a start of the model."""
        if self._num_frames:
            self._order = np.arange(len(self._areas))
            swapped = [self.background, int(_areas(decomposition).argmax())]
            self._order[swapped] = swapped[::-1]

    def order(self, decomposition: Decomposition) -> Decomposition:
        """Return the same decomposition, its slots in the chosen order."""
        order = self._order
        return decomposition if order is None else jax.tree.map(lambda array: array[:, :, order], decomposition)

    def background_alone(self, shapes: Decomposition, view: UInt8[np.ndarray, "S S 3"]) -> Decomposition:
        """Return a decomposition, of these shapes, in which every pixel belongs to the background."""
        masks = jnp.zeros(shapes.masks.shape).at[:, :, self.background].set(1)
        means = jnp.broadcast_to(view.astype(np.float32) / 255, shapes.means.shape)
        posterior = jnp.zeros(shapes.posterior.shape)
        return Decomposition(means, masks, posterior, None if shapes.responsibilities is None else masks)


def _areas(decomposition: Decomposition) -> Integer[np.ndarray, " K"]:
    """The number of pixels of each slot in one frame, at the model's resolution."""
    assignment = np.asarray(decomposition.assignment)[0, 0]
    return np.bincount(assignment.argmax(0).ravel(), minlength=len(assignment))


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
