"""Decompose a video in tiles, frame by frame, for small objects in large frames."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from stii_jax.data.errors import DataError
from stii_jax.inference.identities import MAX_OBJECTS
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


class TiledStream(FrameStream):
    """The results of a video's frames, each decomposed in several tiles, with one number per object in the whole frame.

    The background is 0. After a cut, all objects are new. The first results come after `FRAMES_FOR_BACKGROUND` frames,
    which are needed to find each tile's background.

    Args:
        model: the network.
        params: its parameters.
        video: the frames, in tiles.
        held_out: see `FrameStream`.
    """

    def __init__(self, model: VideoModel, params: Params, video: Recording | Frames, held_out: Any = None):
        super().__init__(model, params, video, held_out=held_out)
        self._size = model.frame_shape[0]
        self._stitcher: Stitcher | None = None

    @property
    def num_labels(self) -> int:
        """See `FrameStream.num_labels`."""
        return 1 + (0 if self._stitcher is None else self._stitcher.num_objects)

    @property
    def notes(self) -> list[str]:
        """See `FrameStream.notes`."""
        side = self.tiles[0][2] - self.tiles[0][0]
        count = len(self.tiles)
        notes = [f"{count} tiles of {side}x{side} pixels: each frame takes about {count} times as long as one view"]
        if self._stitcher is not None and (frame := self._stitcher.full_from) is not None:
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
        """Raise `DataError`: tiles predict independently, so no object could move from one to the next."""
        raise DataError("frames cannot be predicted in tiles: omit the tiles, or the prediction")

    def _segment(self, items: Iterator[DecomposedFrame]) -> Iterator[tuple[DecomposedFrame, Labels]]:
        head = list(itertools.islice(items, FRAMES_FOR_BACKGROUND))
        if head:
            video, masks = self.video, np.stack([item.masks for item in head])
            backgrounds = [find_background(list(masks[:, tile])) for tile in range(len(self.tiles))]
            self._stitcher = Stitcher(self._size, self.tiles, video.box, video.width, video.height, backgrounds)
            for item in itertools.chain(head, items):
                if item.sight.is_cut:
                    self._stitcher.forget()
                yield item, self._stitcher.join(item.masks)
