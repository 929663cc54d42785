"""Square tiles that cover a frame, so that small objects are large enough for a model."""

import dataclasses

import numpy as np
from jaxtyping import UInt8

from stii_jax.data.errors import DataError
from stii_jax.data.video.view import View

Array = np.ndarray
Box = tuple[int, int, int, int]
"""Left, top, right and bottom edge in pixels."""

MAX_TILES = 128
"""Maximum number of tiles, which form one batch of the model."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TiledView(View):
    """A view that cuts frames into overlapping squares, each an image of its own.

    Neighbouring tiles overlap by at least a third of their side, so an object up to that long lies within some tile.
    """

    side: int
    """Height and width of a tile, in pixels of the frame."""

    def box(self, height: int, width: int) -> Box:
        """See `View.box`. All tiles together show this part.

        Raises:
            DataError: also if a tile is larger than this part, or there are too many tiles.
        """
        left, top, right, bottom = super().box(height, width)
        shorter = min(right - left, bottom - top)
        if self.side > shorter:
            size = f"{right - left}x{bottom - top}"
            raise DataError(f"a tile of {self.side} pixels is larger than {size}: give at most --tile={shorter}")
        if (count := len(self._boxes(height, width))) > MAX_TILES:
            raise DataError(f"there would be {count:,} tiles of {self.side} pixels, over {MAX_TILES}: use larger ones")
        return left, top, right, bottom

    def tiles(self, height: int, width: int) -> list[Box]:
        """See `View.tiles`."""
        boxes = self._boxes(height, width)
        return boxes if len(boxes) > 1 else []

    def frame(self, frame: UInt8[Array, "H W 3"]) -> UInt8[Array, "*tiles S S 3"]:
        """Return the views of all tiles, or one view if a single tile shows everything. Raises `DataError` as `box`."""
        self.box(*frame.shape[:2])
        views = [self._tile(box).frame(frame) for box in self._boxes(*frame.shape[:2])]
        return np.stack(views) if len(views) > 1 else views[0]

    def labels(self, labels: UInt8[Array, "H W"]) -> UInt8[Array, "*tiles S S"]:
        """Return the views of a label image in all tiles, as `frame` does."""
        views = [self._tile(box).labels(labels) for box in self._boxes(*labels.shape)]
        return np.stack(views) if len(views) > 1 else views[0]

    def _boxes(self, height: int, width: int) -> list[Box]:
        left, top, right, bottom = super().box(height, width)
        rows, columns = place_tiles(top, bottom, self.side), place_tiles(left, right, self.side)
        return [(x, y, x + self.side, y + self.side) for y in rows for x in columns]

    def _tile(self, box: Box) -> View:
        region = (*box[:2], self.side, self.side)
        return View(size=self.size, region=region, gray=self.gray, background=self.background)


def tiled(view: View, side: int) -> TiledView:
    """Return the same view, cut into tiles of `side` pixels instead of its centred square."""
    return TiledView(**{**vars(view), "square": False, "side": side})


def place_tiles(start: int, stop: int, side: int) -> list[int]:
    """Space as few intervals as possible evenly from `start` to `stop`. Neighbours overlap by at least a third."""
    spare = stop - start - side
    steps = -(-spare // max(1, 2 * side // 3))
    return [start + (2 * spare * step + steps) // (2 * steps or 1) for step in range(steps + 1)]
