"""Render discs: exact instance masks, and frames coloured from them."""

import numpy as np
from jaxtyping import Float, UInt8

Array = np.ndarray

PALETTES: dict[str, UInt8[Array, "N 3"]] = {
    # The colours of the paper's code. The last four appear only in its test with eight colours.
    "paper": np.array(
        [
            (227, 206, 166),
            (180, 120, 31),
            (138, 223, 178),
            (44, 160, 51),
            (153, 154, 251),
            (28, 26, 227),
            (111, 191, 253),
            (0, 127, 255),
        ],
        np.uint8,
    ),
    # Colours as far from one another as from the black background.
    "vivid": np.array(
        [
            (255, 0, 0),
            (0, 255, 0),
            (0, 0, 255),
            (255, 255, 0),
            (255, 0, 255),
            (0, 255, 255),
            (255, 128, 0),
            (255, 255, 255),
        ],
        np.uint8,
    ),
}
PALETTES["both"] = np.concatenate([PALETTES["paper"], PALETTES["vivid"]])
"""RGB colours of the balls, by name of the palette."""

WHITE: UInt8[Array, "3"] = np.full(3, 255, np.uint8)


def render_masks(positions: Float[Array, "T K 2"], radii: Float[Array, " K"], image_size: int) -> UInt8[Array, "T H W"]:
    """Label each pixel: 0 is background, k + 1 is ball k. A pixel belongs to a disc that contains its centre.

    Args:
        positions: centres in pixels, as (x to the right, y downwards) from the image's top left corner.
        radii: radii in pixels; a ball of radius 0 is not drawn.
        image_size: height and width, in pixels.
    """
    centres = np.arange(image_size, dtype=np.float32) + np.float32(0.5)
    # T K 2 S: squared distance along each axis, from every ball to every column (x) and every row (y).
    squared = (positions.astype(np.float32)[..., None] - centres) ** 2
    masks = np.zeros((len(positions), image_size, image_size), np.uint8)
    for ball in np.flatnonzero(radii > 0):
        inside = squared[:, ball, 1, :, None] < np.float32(radii[ball]) ** 2 - squared[:, ball, 0, None, :]
        # Balls do not overlap, so adding is equivalent to overwriting, and faster.
        masks += inside * np.uint8(ball + 1)
    return masks


def render_frames(
    masks: UInt8[Array, "T H W"], colors: UInt8[Array, "K 3"], background: UInt8[Array, "3"]
) -> UInt8[Array, "T H W 3"]:
    """Colour the balls and the background."""
    table = np.concatenate([background[None], colors])
    # `take` is five times as fast as indexing.
    return table.take(masks, axis=0)
