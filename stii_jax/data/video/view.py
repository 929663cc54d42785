"""The part of a recording that a model sees, and its size."""

import dataclasses

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from stii_jax.data.errors import DataError

Array = np.ndarray

BACKGROUNDS = ("keep", "median")
"""Values of `View.background`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """Cuts a square picture of `size` pixels out of frames of any size, which it may squeeze to be square.

    What is seen is the `region`, less the `margins`, and of that the middle square if `square`.
    """

    size: int
    """Height and width of the result, in pixels."""
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Pixels cut off on the left, above, on the right and below."""
    region: tuple[int, int, int, int] | None = None
    """Left edge, upper edge, width and height in pixels; None is the whole frame."""
    square: bool = False
    """Whether to keep the middle square; otherwise the sides are scaled each on its own."""
    gray: bool = False
    """Whether to show brightness alone, the same in all three channels."""
    background: str = "keep"
    """One of `BACKGROUNDS`. "keep" shows frames as they are. "median" shows their difference from the per-pixel median
    of the recording, on black, and applies to the whole frame, before this view (`stii_jax.data.video.background`)."""

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Left, upper, right and lower edge, in pixels, of what is seen of a frame.

        Raises:
            DataError: nothing is left of a frame of this size, or the region leaves it.
        """
        x, y, w, h = self.region or (0, 0, width, height)
        left, top, right, bottom = self.margins
        box = (x + left, y + top, x + w - right, y + h - bottom)
        if self.square:
            side = min(box[2] - box[0], box[3] - box[1])
            x, y = (box[0] + box[2] - side) // 2, (box[1] + box[3] - side) // 2
            box = (x, y, x + side, y + side)
        if not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
            raise DataError(f"frames are {width}x{height} pixels: they have no part from {box[:2]} to {box[2:]}")
        return box

    def tiles(self, height: int, width: int) -> list[tuple[int, int, int, int]]:
        """The parts of a frame that are seen one by one; empty if it is seen at once, as it is by this class."""
        del height, width
        return []

    def frame(self, frame: UInt8[Array, "H W 3"]) -> UInt8[Array, "*tiles S S 3"]:
        """The view of a frame, or of all `tiles` if there are some; smaller pictures are averages, without aliasing."""
        return self.picture(frame)

    def picture(self, frame: UInt8[Array, "H W 3"]) -> UInt8[Array, "S S 3"]:
        """The view of a frame as one picture."""
        seen = self._resize(frame, Image.Resampling.BILINEAR)
        return np.asarray(Image.fromarray(seen).convert("L").convert("RGB")) if self.gray else seen

    def labels(self, labels: UInt8[Array, "H W"]) -> UInt8[Array, "S S"]:
        """The view of a label image: every pixel has the label of the nearest one."""
        return self._resize(labels, Image.Resampling.NEAREST)

    def _resize(self, image: Array, method: Image.Resampling) -> Array:
        box = self.box(*image.shape[:2])
        return np.asarray(Image.fromarray(image).resize((self.size, self.size), method, box))
