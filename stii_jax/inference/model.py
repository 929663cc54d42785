"""A trained model that decomposes videos; `stii_jax.load_model` returns a `Model`."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from stii_jax.data.errors import DataError
from stii_jax.data.video.levels import Range
from stii_jax.data.video.view import View
from stii_jax.inference.object_stream import ObjectStream
from stii_jax.inference.outputs import COLUMNS, Cell, table_rows
from stii_jax.inference.recordings import Frames, Recording
from stii_jax.inference.stream import FrameResult, FrameStream
from stii_jax.inference.viewing import Viewing, check_viewing
from stii_jax.models.video_model import VideoModel
from stii_jax.types import Params


class Slots(NamedTuple):
    """The slots' appearances and masks, at the model's resolution of S x S pixels."""

    appearance: Float[np.ndarray, "T K S S 3"]
    """The slot's appearance, in [0, 1]."""
    mask: Float[np.ndarray, "T K S S"]
    """The probability that a pixel belongs to the slot; sums to 1 over K."""


@dataclasses.dataclass(frozen=True)
class Tracks:
    """The slots' positions over time, in pixels of the video; NaN where a slot is not visible.

    Coordinates run from 0 to the frame's width. The centre of the first pixel is at 0.5.
    """

    rows: Sequence[Sequence[Cell]]
    """Rows of `trajectories.csv`, T x K; docs/files.md describes the columns."""
    num_slots: int

    @property
    def centroids(self) -> Float[np.ndarray, "T K 2"]:
        """Horizontal and vertical positions of the centroids."""
        return self._columns("centroid_x", "centroid_y")

    @property
    def areas(self) -> Float[np.ndarray, "T K"]:
        """Number of pixels; 0 for a slot that is not visible."""
        return self._columns("area")[..., 0]

    @property
    def boxes(self) -> Float[np.ndarray, "T K 4"]:
        """Left, upper, right and lower edges of the bounding boxes."""
        return self._columns("left", "top", "right", "bottom")

    @property
    def visible(self) -> Bool[np.ndarray, "T K"]:
        """True where a slot has at least one pixel."""
        return self._columns("visible")[..., 0] == 1

    def to_dataframe(self) -> Any:
        """Return a pandas `DataFrame` with the columns of `trajectories.csv`.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_dataframe needs pandas: run pip install pandas") from error
        return pandas.DataFrame(self.rows, columns=COLUMNS)

    def _columns(self, *names: str) -> np.ndarray:
        chosen = [COLUMNS.index(name) for name in names]
        table = np.array([[row[column] for column in chosen] for row in self.rows], float)
        return table.reshape(-1, self.num_slots, len(names))


class Result:
    """The decomposition of a video, in memory.

    Args:
        frames: the frames' results.
        stream: the stream of these frames, which can predict further frames.
        background: the background's slot.
        futures: sampled futures, if these frames are predicted.
    """

    def __init__(
        self, frames: Sequence[FrameResult], stream: FrameStream, background: int, futures: Sequence["Result"] = ()
    ):
        self.frames = tuple(frames)
        """The frames' results; `Model.stream` yields these one by one."""
        self.futures = tuple(futures)
        """The futures that `predict` sampled for the same frames; empty unless it was asked for samples."""
        self.background = background
        """The background's slot, which has the most pixels in the first ten frames; 0 for numbered objects."""
        self.damage = stream.damage
        """The reason why the frames end before the video, or None."""
        self.novelty = stream.compare()
        """A comparison with held-out videos of the model's dataset; see `novelty.compare`."""
        self.notes = tuple(stream.notes)
        """Notes on how the video was read, and on cuts, blank frames and similar events."""
        self.cuts = tuple(stream.remarks.facts["cuts"])
        """The first frame of every scene after the first. The model restarts there, and slots hold other objects."""
        self._stream = stream

    def __repr__(self) -> str:
        count = self._num_slots
        content = f"{count - 1} objects" if self._stream.is_numbered else f"{count} slots"
        return f"<Result: {len(self.frames)} frames, {content}>"

    @property
    def masks(self) -> UInt8[np.ndarray, "T H W"]:
        """The slot or object of every pixel in the video's resolution; 255 outside the part that the model sees.

        Frames with a side of more than 1920 pixels are downscaled by an integer factor.
        """
        return np.stack([frame.mask for frame in self.frames])

    @property
    def times(self) -> Float[np.ndarray, " T"]:
        """Presentation times in seconds, relative to the first frame."""
        return np.array([frame.seconds for frame in self.frames])

    @property
    def reconstruction(self) -> Float[np.ndarray, "T S S 3"]:
        """The model's reconstruction of the video, in [0, 1]."""
        return np.stack([frame.reconstruction for frame in self.frames])

    @property
    def slots(self) -> Slots:
        """Every slot's appearance and mask."""
        return Slots(
            np.stack([frame.appearances for frame in self.frames]), np.stack([f.slot_masks for f in self.frames])
        )

    @property
    def tracks(self) -> Tracks:
        """Every slot's centroid, area and box per frame."""
        rows = [table_rows(frame.segmented, self._num_slots, self.background) for frame in self.frames]
        return Tracks(list(itertools.chain.from_iterable(rows)), self._num_slots)

    def predict(self, num_frames: int, samples: int = 0, seed: int = 0) -> "Result":
        """Predict the frames that follow, without observing them. A second call continues after the first.

        Args:
            num_frames: number of frames.
            samples: number of possible futures to sample as well. They become `futures` of the result, each a `Result`
                of the same frames; the result itself does not depend on them. docs/prediction.md says how far to trust
                their spread.
            seed: seed of the samples. The same seed gives the same futures, and more samples only add to them.

        Raises:
            DataError: `num_frames` is less than 1, `samples` is negative, a predicted frame is not finite, or the model
                cannot sample.
        """
        if num_frames < 1:
            raise DataError(f"num_frames is {num_frames}: predict at least one frame")
        if samples < 0:
            raise DataError(f"samples is {samples}: give the number of futures to sample, or 0 for none")
        streams = self._stream.futures(samples, seed)
        frames = _predict(self._stream, num_frames)
        futures = [Result(_predict(stream, num_frames), stream, self.background) for stream in streams]
        return Result(frames, self._stream, self.background, futures)

    @property
    def _num_slots(self) -> int:
        return self._stream.num_labels


def _predict(stream: FrameStream, num_frames: int) -> list[FrameResult]:
    frames = list(stream.predict(num_frames))
    if len(frames) < num_frames:
        raise DataError(f"{stream.damage}")
    return frames


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A trained model for videos of any length and size."""

    network: VideoModel
    """The model's functions, and settings such as `num_slots`."""
    params: Params
    view: View
    """The part of a frame that the model sees."""
    frame_stride: int = 1
    """Interval between the frames that the model sees, as in training."""
    held_out: Any = None
    """`novelty.summarize` of held-out videos, or None."""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Provenance, such as `step`, `seed` and `commit`."""

    @property
    def num_slots(self) -> int:
        """Maximum number of objects plus one, if the background takes a slot."""
        return self.network.num_slots

    def decompose(
        self,
        video: str | Path | Iterable[np.ndarray],
        *,
        value_range: Range | None = None,
        region: tuple[int, int, int, int] | None = None,
        frame_stride: int | None = None,
        background: str | None = None,
        tile: int | None = None,
        separate: bool | None = None,
        fps: float | None = None,
    ) -> Result:
        """Decompose a video.

        Args:
            video: a video file, TIFF stack, animated image or folder of images; or frames as uint8 in 0..255, in an
                array of shape [T, H, W, 3] or an iterable of frames.
            value_range: pixel values that map to 0 and 255; None: see `Recording`. Files only.
            region: left edge, upper edge, width and height of the part to see, in pixels; None: the model's `view`.
            frame_stride: N, to see every N-th frame; None: as in training.
            background: "median" removes the background of a static camera, "bright" shows the negative, "keep" does
                neither, "auto" chooses by the whole recording; None: the model's `eval.background`, or as in training.
                See `View.background`.
            tile: side, in pixels, of overlapping square tiles that are decomposed separately, for objects that are
                small in the frame. This implies `separate`.
            separate: True for labels that are object numbers, 0 for the background, where separate pieces of a slot are
                separate objects; see `ObjectStream`. False for labels that are slots. None: True for tiles, and if the
                background is removed.
            fps: frames per second of frames in memory; None: 25.

        Raises:
            ConfigError: an argument is invalid.
            DataError: the video cannot be read or has no frames, or the first frame's decomposition is not finite.
        """
        viewing = Viewing(value_range, region, frame_stride, background, tile, separate)
        stream = self.stream(video, fps=fps, **viewing._asdict())
        whole = (frame._replace(pixels=None) for frame in stream)
        if stream.tiles:  # the pictures of all tiles would not fit in memory
            whole = (frame._replace(frame=None, decomposition=None) for frame in whole)
        if not (frames := list(whole)):
            raise DataError(f"{stream.damage}")
        return Result(frames, stream, stream.find_background(frames))

    def stream(
        self,
        video: str | Path | Iterable[np.ndarray],
        num_predicted: int = 0,
        *,
        value_range: Range | None = None,
        region: tuple[int, int, int, int] | None = None,
        frame_stride: int | None = None,
        background: str | None = None,
        tile: int | None = None,
        separate: bool | None = None,
        fps: float | None = None,
    ) -> FrameStream:
        """Decompose a video frame by frame, in constant memory.

        Args:
            video: see `decompose`.
            num_predicted: number of frames to predict after the last one.
            value_range: see `decompose`.
            region: see `decompose`.
            frame_stride: see `decompose`.
            background: see `decompose`.
            tile: see `decompose`. Predictions are not available in tiles.
            separate: see `decompose`.
            fps: see `decompose`.

        Returns:
            An iterable of `FrameResult`.

        Raises:
            ConfigError: an argument is invalid.
            DataError: the video cannot be read or has no frames.
        """
        viewing = check_viewing(Viewing(value_range, region, frame_stride, background, tile, separate))
        view, stride = viewing.view(self.view), frame_stride or self.frame_stride
        recorded: Recording | Frames
        if isinstance(video, str | Path):
            if fps is not None:
                raise DataError("fps is for frames in memory: omit it for files, which store their own times")
            recorded = Recording(Path(video), view, stride, value_range)
        else:
            if value_range is not None:
                raise DataError("value_range is for files: scale frames in memory to 0..255 yourself")
            recorded = Frames(video, view, stride, *([] if fps is None else [fps]))
        if recorded.tiles and num_predicted:
            raise DataError("frames cannot be predicted in tiles: omit num_predicted or tile")
        if recorded.tiles or (recorded.background == "median" if separate is None else separate):
            return ObjectStream(self.network, self.params, recorded, num_predicted, self.held_out)
        return FrameStream(self.network, self.params, recorded, num_predicted, self.held_out)
