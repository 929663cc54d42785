"""Decompose a video frame by frame, in constant memory."""

import copy
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer, UInt8

from stii_jax.data.errors import DataError
from stii_jax.evaluation import novelty
from stii_jax.inference.outputs import SegmentedFrame
from stii_jax.inference.recordings import Detailed, Frames, RecordedFrame, Recording
from stii_jax.inference.remarks import Remarks, Sight
from stii_jax.models.video_model import EVALUATION_SEED, VideoModel, example_keys, future_keys
from stii_jax.types import Decomposition, Params
from stii_jax.visualization.regions import Box, Canvas, Labels, Region

FRAMES_FOR_BACKGROUND = 10
"""Number of first frames in which pixels are counted to find the background's slot."""


class FrameResult(NamedTuple):
    """The decomposition of one frame, observed or predicted."""

    segmented: SegmentedFrame
    """Number, time, mask and regions."""
    frame: UInt8[np.ndarray, "*tiles S S 3"] | None
    """The model's view of the frame; None for a predicted one."""
    decomposition: Decomposition | None
    """The model's output, with T = 1 and B the number of tiles. None in a `Result` of a video in tiles."""
    pixels: UInt8[np.ndarray, "H W 3"] | None
    """The whole frame; None for a predicted one, and in a `Result`, which would otherwise hold the whole video."""
    is_cut: bool = False
    """True for the first frame after a cut. The model restarts there, and slots hold other objects than before."""

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
        """True if this frame is predicted, not observed."""
        return self.segmented.predicted

    @property
    def mask(self) -> UInt8[np.ndarray, "H W"]:
        """The slot of every pixel in the video's resolution; 255 outside the part that the model sees.

        For a video in tiles, the values are object numbers, and 0 is the background.
        """
        return self.segmented.slots

    @property
    def regions(self) -> dict[int, Region]:
        """Centroid, area and box of every visible slot or object, in pixels of the video."""
        return self.segmented.regions

    @property
    def appearances(self) -> Float[np.ndarray, "*tiles K S S 3"]:
        """The appearance of each slot, in [0, 1], at the model's resolution.

        This and the following arrays have an additional leading axis if the video is decomposed in tiles.
        """
        return _first_frame(self._output.means)

    @property
    def slot_masks(self) -> Float[np.ndarray, "*tiles K S S"]:
        """The probability that a pixel belongs to each slot; sums to 1 over the slots."""
        return _first_frame(self._output.assignment)

    @property
    def reconstruction(self) -> Float[np.ndarray, "*tiles S S 3"]:
        """The model's reconstruction of the frame, in [0, 1]."""
        return _first_frame(self._output.reconstruction)

    @property
    def _output(self) -> Decomposition:
        if self.decomposition is None:
            raise DataError("a result in tiles does not hold appearances and masks: use the frames of Model.stream")
        return self.decomposition


def _first_frame(array: Any) -> np.ndarray:
    """The only frame of an array `B T ...`, without the batch axis if B is 1."""
    frame = np.asarray(array)[:, 0]
    return frame[0] if len(frame) == 1 else frame


class FrameStream:
    """An iterable of a video's `FrameResult`s. It can be iterated once.

    Args:
        model: the network.
        params: the network's parameters.
        video: the frames.
        num_predicted: number of frames to predict after the last one.
        held_out: `novelty.summarize` of held-out videos, which `compare` uses.
    """

    is_numbered = False
    """True if labels are object numbers, with the background at 0; False if they are slots."""

    def __init__(
        self, model: VideoModel, params: Params, video: Recording | Frames, num_predicted: int = 0, held_out: Any = None
    ):
        self.video = video
        """The frames, with their size, their rate, and notes on how they were read."""
        self.canvas = Canvas(model.frame_shape[:2], video.box, video.width, video.height)
        """Maps the model's pixels to those of the video."""
        self.tiles: list[Box] = video.tiles
        """The parts of the frame that the model sees separately; empty if it sees the whole frame."""
        self._stream = Stream(model, params, max(1, len(self.tiles)))
        self._num_slots, self._num_predicted, self._held_out = model.num_slots, num_predicted, held_out
        self._clock = _Clock(video.fps)

    @property
    def damage(self) -> str | None:
        """The reason why the stream ended before the video; None until then."""
        return self.video.damage or self._stream.damage

    @property
    def remarks(self) -> Remarks:
        """Cuts, blank frames and other events, noticed in the frames so far."""
        return self._stream.remarks

    @property
    def notes(self) -> list[str]:
        """Notes for the user on how the video was read, and on the content of the frames so far."""
        return [*self.video.notes, *self.remarks.notes]

    @property
    def num_labels(self) -> int:
        """Number of slots; if `is_numbered`, number of objects so far, plus one for the background."""
        return self._num_slots

    def find_background(self, frames: Sequence[FrameResult]) -> int:
        """Return the slot with the most pixels in the first frames, at the model's resolution."""
        return find_background([frame.slot_masks for frame in frames])

    def __iter__(self) -> Iterator[FrameResult]:
        return self._results(self._stream.run(self.video, self._num_predicted))

    def predict(self, num_frames: int) -> Iterator[FrameResult]:
        """Predict the frames after the last one so far."""
        return self._results(self._stream.run((), num_frames))

    def futures(self, count: int, seed: int = 0) -> list["FrameStream"]:
        """Return streams that continue this one, once it is exhausted, and whose predictions are samples.

        Each draws noise of its own at every predicted frame. Future `i` is the same for every `count` above `i`.

        Raises:
            DataError: the model cannot sample.
        """
        futures = []
        for number in range(count):
            future = copy.copy(self)
            future._stream, future._clock = self._stream.future(seed, number), copy.copy(self._clock)
            futures.append(future)
        return futures

    def compare(self) -> dict[str, Any]:
        """Compare the frames so far with held-out videos; see `novelty.compare`."""
        return self._stream.monitor.compare(self._held_out)

    def _results(self, items):
        for item, labels in self._segment(items):
            number, seconds = self._clock.tick(item.seconds)
            segmented = SegmentedFrame(number, seconds, item.frame is None, labels.slots, self.canvas.measure(labels))
            if item.frame is not None and not item.sight.is_blank:
                self.remarks.find(len(segmented.regions) - 1)
            yield FrameResult(segmented, item.frame, item.decomposition, item.pixels, item.sight.is_cut)

    def _segment(self, items: Iterator["DecomposedFrame"]) -> Iterator[tuple["DecomposedFrame", Labels]]:
        """The frames and their segmentations."""
        for item in items:
            yield item, self.canvas.segment(item.masks[0])


def find_background(masks: Sequence[Float[np.ndarray, "K S S"]]) -> int:
    """Return the slot with the most pixels in the first frames."""
    labels = [frame.argmax(axis=0) for frame in masks[:FRAMES_FOR_BACKGROUND]]
    return int(np.bincount(np.stack(labels).ravel()).argmax())


class _Clock:
    """Numbers and times of frames. Predicted frames follow at the mean interval of the observed ones."""

    def __init__(self, fps: float):
        self._number, self._seconds, self._interval = -1, 0.0, 1 / fps

    def tick(self, seconds: float | None) -> tuple[int, float]:
        """Return the number and time of the next frame. `seconds` is None for a predicted frame."""
        self._number += 1
        if seconds is None:
            self._seconds += self._interval
        else:
            self._seconds = seconds
            self._interval = seconds / self._number if self._number else self._interval
        return self._number, self._seconds


class DecomposedFrame(NamedTuple):
    """One frame and its decomposition."""

    frame: UInt8[np.ndarray, "*tiles S S 3"] | None
    """None for a predicted frame."""
    seconds: float | None
    """Presentation time, relative to the first frame; None for a predicted frame."""
    decomposition: Decomposition
    """The decomposition of this frame alone, with T = 1 and B the number of tiles."""
    pixels: UInt8[np.ndarray, "H W 3"] | None
    """The whole frame, at the recording's size; None for a predicted frame."""
    sight: Sight = Sight()
    """The frame's relation to those before. The model does not process blank frames."""
    detailed: Detailed | None = None
    """See `RecordedFrame.detailed`."""

    @property
    def masks(self) -> Float[np.ndarray, "B K S S"]:
        """The probability that a pixel belongs to each slot."""
        return np.asarray(self.decomposition.assignment)[:, 0]


class Stream:
    """A frame-by-frame decomposition of a video. Its output equals that of `Evaluator.observe` for video 0.

    Each tile is decomposed as a separate video, and the tiles of a frame form a batch.

    Two kinds of frames, detected by `remarks`, are exceptions. At a cut, the model restarts, and the background keeps
    its slot. A blank frame belongs entirely to the background, and the model's state does not change.
    """

    def __init__(self, model: VideoModel, params: Params, num_tiles: int = 1):
        self._model, self._params, self._num_tiles = model, params, num_tiles
        self._state = model.initial_state(params, num_tiles)
        self._keys: Any = None
        self._num_frames = 0
        self._slots = _Slots(num_tiles, model.num_slots)
        self._is_new = True
        self._shapes: Decomposition | None = None
        self.monitor = novelty.Monitor(model)
        """Statistics of the frames seen so far, for the novelty warning."""
        self.remarks = Remarks()
        """Cuts, blank frames and other events, noticed in the frames seen so far."""
        self.damage: str | None = None
        """The reason why the stream stopped before the end; None until then."""

    def future(self, seed: int, number: int) -> "Stream":
        """Return a copy whose predictions are samples; see `FrameStream.futures`."""
        if not self._model.can_sample:
            raise DataError("this model predicts a single future: leave out the number of futures to sample")
        future = copy.copy(self)
        future._keys = future_keys(seed, number, jnp.arange(self._num_tiles))
        return future

    def run(self, frames: Iterable[RecordedFrame], num_predicted: int = 0) -> Iterator[DecomposedFrame]:
        """Decompose frames, then predict `num_predicted` frames: at least one in total. Nothing once damaged."""
        if self.damage is not None:
            return
        for item in _one_ahead(self._steps(frames, num_predicted)):
            if not all(np.isfinite(array).all() for array in jax.tree.leaves(item.decomposition)):
                self.damage = f"the model's output is not finite from frame {self._num_frames} on"
                return
            self._num_frames += 1
            if item.frame is not None and not (item.sight.is_blank and self.monitor.num_frames):
                self.monitor.add(item.frame, item.decomposition)
            yield item

    def _steps(self, frames: Iterable[RecordedFrame], num_predicted: int) -> Iterator[DecomposedFrame]:
        for frame in frames:
            views = _batch(frame.view)
            tiles = frame.view if frame.view.ndim == 4 else None
            sight = self.remarks.see(frame.view if frame.plain is None else frame.plain, tiles)
            decomposition = self._blank(views) if sight.is_blank else self._observed(views, sight.is_cut)
            self._slots.see(decomposition)
            yield DecomposedFrame(frame.view, frame.seconds, decomposition, frame.pixels, sight, frame.detailed)
        for _ in range(num_predicted):
            keys = () if self._keys is None else (self._keys,)
            decomposition, self._state = _predict(self._model, self._params, self._state, *keys)
            yield DecomposedFrame(None, None, self._slots.order(decomposition), None)

    def _observed(self, views: UInt8[np.ndarray, "B S S 3"], is_cut: bool) -> Decomposition:
        if is_cut:
            self._state, self._is_new = self._model.initial_state(self._params, self._num_tiles), True
        decomposition, self._state = _observe(self._model, self._params, self._state, views)
        if self._is_new:
            self._slots.start(decomposition)
        self._is_new = False
        return self._slots.order(decomposition)

    def _blank(self, views: UInt8[np.ndarray, "B S S 3"]) -> Decomposition:
        if self._shapes is None:
            observe = functools.partial(_observe, self._model)
            self._shapes, _ = jax.eval_shape(observe, self._params, self._state, views)
        return self._slots.background_alone(self._shapes, views)


class _Slots:
    """An order of slots that keeps the background of every tile in one slot when the model restarts."""

    def __init__(self, num_tiles: int, num_slots: int):
        self._areas, self._num_frames = np.zeros((num_tiles, num_slots), int), 0
        self._order: np.ndarray | None = None

    @property
    def background(self) -> Integer[np.ndarray, " B"]:
        """The slots with the most pixels in the first frames, as in `find_background`."""
        return self._areas.argmax(axis=1)

    def see(self, decomposition: Decomposition) -> None:
        """Count the pixels of each slot in the first frames of the video."""
        if self._num_frames < FRAMES_FOR_BACKGROUND:
            self._areas += _areas(decomposition)
            self._num_frames += 1

    def start(self, decomposition: Decomposition) -> None:
        """Choose the order of the slots, given the first frame after the model (re)starts."""
        if self._num_frames:
            self._order = np.tile(np.arange(self._areas.shape[1]), (len(self._areas), 1))
            tiles, largest = np.arange(len(self._areas)), _areas(decomposition).argmax(axis=1)
            self._order[tiles, self.background], self._order[tiles, largest] = largest, self.background

    def order(self, decomposition: Decomposition) -> Decomposition:
        """Return the same decomposition with its slots in the chosen order."""
        if (orders := self._order) is None:
            return decomposition
        return jax.tree.map(lambda a: jnp.stack([one[:, order] for one, order in zip(a, orders)]), decomposition)

    def background_alone(self, shapes: Decomposition, views: UInt8[np.ndarray, "B S S 3"]) -> Decomposition:
        """Return a decomposition with these shapes that assigns every pixel to the background."""
        masks = jnp.zeros(shapes.masks.shape).at[np.arange(len(views)), 0, self.background].set(1)
        means = jnp.broadcast_to(views[:, None, None].astype(np.float32) / 255, shapes.means.shape)
        posterior = jnp.zeros(shapes.posterior.shape)
        return Decomposition(means, masks, posterior, None if shapes.responsibilities is None else masks)


def _areas(decomposition: Decomposition) -> Integer[np.ndarray, "B K"]:
    """The number of pixels of each slot in one frame, at the model's resolution."""
    assignment = np.asarray(decomposition.assignment)[:, 0]
    labels = assignment.argmax(1).reshape(len(assignment), -1)
    return np.stack([np.bincount(tile, minlength=assignment.shape[1]) for tile in labels])


@functools.partial(jax.jit, static_argnums=0)
def _observe(model, params, state, views):
    keys = example_keys(jax.random.key(EVALUATION_SEED), jnp.arange(len(views)))
    return model.stream(params, state, views.astype(jnp.float32) / 255.0, keys)


def _batch(view: UInt8[np.ndarray, "*tiles S S 3"]) -> UInt8[np.ndarray, "B S S 3"]:
    return view if view.ndim == 4 else view[None]


@functools.partial(jax.jit, static_argnums=0)
def _predict(model, params, state, *keys):
    return model.predict(params, state, 1, *keys)


def _one_ahead(items: Iterator[DecomposedFrame]) -> Iterator[DecomposedFrame]:
    """Yield the same items one step later: each is drawn and written while the device computes the next."""
    waiting = next(items)
    for item in items:
        yield waiting
        waiting = item
    yield waiting
