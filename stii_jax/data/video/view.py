"""The part of a recording's frames that a model sees, and its size."""

import dataclasses

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from stii_jax.data.errors import DataError

Array = np.ndarray

BACKGROUNDS = ("keep", "median", "bright")
"""Values of `View.background`, apart from "auto"."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """A square view of `size` pixels of frames of any size.

    The view shows the `region` without the `margins`, cropped to its centred square if `square`, otherwise squeezed.
    """

    size: int
    """Height and width of the view, in pixels."""
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Pixels cut off at the left, top, right and bottom."""
    region: tuple[int, int, int, int] | None = None
    """Left edge, top edge, width and height in pixels; None is the whole frame."""
    square: bool = False
    """True to crop to the centred square; False to scale each side separately."""
    gray: bool = False
    """True to show brightness alone, the same in all three channels."""
    background: str = "keep"
    """One of `BACKGROUNDS`, or "auto" if a `Recording` is to choose among them. "keep" leaves frames as they are.
    "median" shows their difference from the recording's per-pixel median, on black. It applies to the whole frame,
    before this view (`stii_jax.data.video.background`). "bright" shows the negative: a bright background becomes dark,
    and dark objects bright."""

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the left, top, right and bottom edge of the visible part of a frame, in pixels.

        Raises:
            DataError: the view is empty or lies outside a frame of this size.
        """
        x, y, w, h = self.region or (0, 0, width, height)
        left, top, right, bottom = self.margins
        box = (x + left, y + top, x + w - right, y + h - bottom)
        if self.square:
            side = min(box[2] - box[0], box[3] - box[1])
            x, y = (box[0] + box[2] - side) // 2, (box[1] + box[3] - side) // 2
            box = (x, y, x + side, y + side)
        if not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
            raise DataError(f"frames are {width}x{height} pixels: the view from {box[:2]} to {box[2:]} does not fit")
        return box

    def tiles(self, height: int, width: int) -> list[tuple[int, int, int, int]]:
        """Return the parts of a frame that are viewed one by one; empty for a single view, as in this class."""
        del height, width
        return []

    def frame(self, frame: UInt8[Array, "H W 3"]) -> UInt8[Array, "*tiles S S 3"]:
        """Return the view of a frame, or of all `tiles` if there are some. Pixels are averaged to avoid aliasing."""
        return self.picture(frame)

    def picture(self, frame: UInt8[Array, "H W 3"]) -> UInt8[Array, "S S 3"]:
        """Return the view of a frame as one image."""
        seen = self._resize(frame, Image.Resampling.BILINEAR)
        seen = 255 - seen if self.background == "bright" else seen
        return np.asarray(Image.fromarray(seen).convert("L").convert("RGB")) if self.gray else seen

    def labels(self, labels: UInt8[Array, "H W"]) -> UInt8[Array, "*tiles S S"]:
        """Return the view of a label image, where every pixel has the label of the nearest one."""
        return self._resize(labels, Image.Resampling.NEAREST)

    def _resize(self, image: Array, method: Image.Resampling) -> Array:
        box = self.box(*image.shape[:2])
        return np.asarray(Image.fromarray(image).resize((self.size, self.size), method, box))
