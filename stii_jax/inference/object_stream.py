"""Decompose a video frame by frame into numbered objects: in one view, or in tiles for small objects."""

import copy
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from stii_jax.data.errors import DataError
from stii_jax.inference.identities import MAX_OBJECTS
from stii_jax.inference.object_motion import ObjectMotion, moved, place_of
from stii_jax.inference.object_tracker import ObjectTracker
from stii_jax.inference.recordings import Frames, Recording
from stii_jax.inference.stitching import Stitcher
from stii_jax.inference.stream import (
    FRAMES_FOR_BACKGROUND,
    DecomposedFrame,
    FrameResult,
    FrameStream,
    find_background,
)
from stii_jax.models.video_model import VideoModel
from stii_jax.types import Params
from stii_jax.visualization.regions import Labels

CHANGED = 64
"""Minimum level of an object's pixels, if a static background is removed. The typical changed pixel has 255
(`Background.change`). This holds for one view. Objects are larger in tiles, and the model outlines them better."""


class ObjectStream(FrameStream):
    """The results of a video's frames, with one number per object.

    The background is 0. In tiles, separate pieces of a slot are separate objects, and pieces in overlapping tiles that
    share pixels are one. In one view, objects stay apart while they touch (`ObjectTracker`), and if a static background
    is removed, pixels that differ from it belong to an object. After a cut, all objects are new. The first results
    come after `FRAMES_FOR_BACKGROUND` frames, which are needed to find the background.

    Args:
        model: the network.
        params: its parameters.
        video: the frames, in tiles or in one view.
        num_predicted: see `FrameStream`; 0 for tiles, which predict independently, so that no object could move from
            one to the next.
        held_out: see `FrameStream`.
    """

    is_numbered = True

    def __init__(
        self, model: VideoModel, params: Params, video: Recording | Frames, num_predicted: int = 0, held_out: Any = None
    ):
        super().__init__(model, params, video, num_predicted, held_out)
        self._size = model.frame_shape[0]
        self._tracker: Stitcher | ObjectTracker | None = None
        self._motion = ObjectMotion()
        self._last: Labels | None = None
        """The last observed frame that is not blank."""

    @property
    def num_labels(self) -> int:
        """See `FrameStream.num_labels`."""
        return 1 + (0 if self._tracker is None else self._tracker.numbers.highest)

    @property
    def notes(self) -> list[str]:
        """See `FrameStream.notes`."""
        notes = list[str]()
        if self.tiles:
            side, count = self.tiles[0][2] - self.tiles[0][0], len(self.tiles)
            notes.append(
                f"{count} tiles of {side}x{side} pixels: each frame takes about {count} times as long as one view"
            )
        if self._tracker is not None and (frame := self._tracker.numbers.full_from) is not None:
            notes.append(
                f"there are more than {MAX_OBJECTS} objects: from frame {frame} on, new ones reuse the numbers of "
                "those absent for longest"
            )
        return [*super().notes, *notes]

    def find_background(self, frames: Sequence[FrameResult]) -> int:
        """Return 0."""
        del frames
        return 0

    def predict(self, num_frames: int) -> Iterator[FrameResult]:
        """See `FrameStream.predict`. Raises `DataError` for tiles.

        If a static background is removed, every object moves on with its last outline (`ObjectMotion`). Otherwise the
        slots predict.
        """
        if self.tiles:
            raise DataError("frames cannot be predicted in tiles: omit the tiles, or the prediction")
        return super().predict(num_frames)

    def futures(self, count: int, seed: int = 0) -> list[FrameStream]:
        """See `FrameStream.futures`. Each numbers its objects on its own from here on."""
        futures = super().futures(count, seed)
        for number, future in enumerate(futures):
            assert isinstance(future, ObjectStream)
            future._tracker, future._motion = copy.deepcopy(self._tracker), copy.deepcopy(self._motion)
            future._motion.sample(seed, number)
        return futures

    def _segment(self, items: Iterator[DecomposedFrame]) -> Iterator[tuple[DecomposedFrame, Labels]]:
        if self._tracker is None:
            head = list(itertools.islice(items, FRAMES_FOR_BACKGROUND))
            if not head:
                return
            self._tracker = self._start(np.stack([item.masks for item in head]))
            items = itertools.chain(head, items)
        for item in items:
            if item.sight.is_cut:
                self._tracker.forget()
                self._motion.forget()
            if isinstance(self._tracker, Stitcher):
                yield item, self._tracker.join(item.masks)
            elif self.video.background != "median":
                yield item, self._tracker.join(item.masks[0], _picture(item))
            elif item.detailed is None:
                assert self._last is not None
                yield item, moved(self._last, self._motion.next(), self.canvas)
            else:
                changed = (item.detailed.change >= CHANGED) & (not item.sight.is_blank)
                labels = self._tracker.join(item.masks[0], item.detailed.picture, changed)
                if not item.sight.is_blank:
                    self._motion.see({number: place_of(mask) for number, mask in self._tracker.visible.items()})
                if not item.sight.is_blank or self._last is None:
                    self._last = labels
                yield item, labels

    def _start(self, masks: np.ndarray) -> Stitcher | ObjectTracker:
        """Return the tracker, given the masks of the first frames, `T tiles K h w`."""
        video = self.video
        backgrounds = [find_background(list(masks[:, tile])) for tile in range(masks.shape[1])]
        if self.tiles:
            return Stitcher(self._size, self.tiles, video.box, video.width, video.height, backgrounds)
        detail = max(video.detail, 1)
        return ObjectTracker(self._size, video.box, video.width, video.height, backgrounds[0], detail)


def _picture(item: DecomposedFrame) -> UInt8[np.ndarray, "S S 3"]:
    """The model's view of a frame; of a predicted one, the prediction."""
    if item.frame is not None:
        return item.frame
    reconstruction = np.asarray(item.decomposition.reconstruction)[0, 0]
    return np.round(np.clip(reconstruction, 0, 1) * 255).astype(np.uint8)
