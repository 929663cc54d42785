"""The static background of a recording, and each frame's difference from it."""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage
from tqdm import tqdm

from stii_jax.data.errors import DamageError
from stii_jax.data.video.footage import Footage

Array = np.ndarray

MAX_SAMPLES = 101
"""Maximum number of frames for the median."""
MIN_SAMPLES = 15
"""Number of frames that are used even if they exceed `MEMORY`, provided the recording has as many."""
MEMORY = 2**28
"""Maximum size of these frames in bytes."""
MAX_NOISE = 11.0
"""Upper limit, in grey levels, on the median pixel's median absolute deviation in recordings of a static camera.

Measured: 1 to 6 for walkers in a yard, cars on a road, CLEVRER and `shapes`, even if the camera shakes by three pixels;
17 for walkers filmed by a panning camera."""
MAX_RESTS = 0.5
"""Upper limit on `Background.rests`, above which the median may show objects. Chosen on 43 recordings of `shapes`:
above it, the F-ARI is better for whole frames in 4 of 5; below, it is better for removed backgrounds in 33 of 38."""
_OFTEN = 0.4  # a place is covered often if it differs in this share of the frames
_NOISES, _MARGIN = 4.0, 2.0  # a changed pixel differs by this multiple of its noise plus this many levels
_NOISE_OF_CHANGES = 0.4146  # median absolute deviation / upper quartile of the absolute differences of normal values
_GRID = 64


class Background:
    """The per-pixel median of a recording, and the noise around it.

    An object that rests in one place for more than half of the recording is part of the background.

    Args:
        frames: frames of equal size, spread over the recording.
        enlarged: True for a view in tiles, which enlarges what flutters. All of it then counts as noise, at the expense
            of objects that rest for long.
    """

    def __init__(self, frames: UInt8[Array, "N H W 3"], enlarged: bool = False):
        self.picture: UInt8[Array, "H W 3"] = _median(frames)
        """The median of the frames; unless `enlarged`, after differences in brightness are removed."""
        self._brightness = _grid(self.picture)
        lit = [self._lit(frame) for frame in frames]
        if not (enlarged or all(np.shares_memory(one, frames) for one in lit)):
            self.picture = _median(np.stack(lit))
        differences = np.stack([_distance(frame, self.picture) for frame in lit])
        noise = _median(differences).astype(np.float32)
        self.noise = float(np.median(noise))
        """See `MAX_NOISE`."""
        if not enlarged:
            # Where objects rest, pixels differ from the median in many frames, but from one frame to the next in few.
            noise = np.minimum(noise, _quantile(_changes(lit), 0.75) * np.float32(_NOISE_OF_CHANGES))
        # Pixels with more noise, such as moving leaves or fluttering tape, have a higher threshold.
        self._threshold = _NOISES * np.maximum(noise, self.noise) + _MARGIN
        excess = differences - self._threshold
        self.rests = _resting(excess > 0)
        """Share of the differing pixels, over all frames, at places that differ in at least two of five frames: 0 if
        objects move on soon. See `MAX_RESTS`."""
        self._range = max(_typical(excess[excess > 0]), float(self._threshold.min()))
        self.moving_box = _box_of_motion(excess > 0)
        """Left, top, right and bottom edge of the part in which objects move, in pixels; None if nothing moves."""
        self.object_size = _size_of_components(excess[:: -(-len(frames) // 25)] > 0)
        """Geometric mean of the sides of a typical object's box, in pixels; NaN if there is no object. Touching objects
        count as one."""

    @property
    def is_static(self) -> bool:
        """False if the whole image changes: the camera moves, or its noise is strong."""
        return self.noise <= MAX_NOISE

    def change(self, frame: UInt8[Array, "H W 3"]) -> UInt8[Array, "H W 3"]:
        """Return the objects in a frame: grey to white where it differs from the background, black elsewhere.

        White is the typical difference of changed pixels. If the whole frame is brighter or darker than the
        background, it is corrected first.
        """
        excess = _distance(self._lit(frame), self.picture) - self._threshold
        level = np.clip(excess * (255 / self._range), 0, 255).astype(np.uint8)
        return np.repeat(level[..., None], 3, axis=2)

    def _lit(self, frame: UInt8[Array, "H W 3"]) -> UInt8[Array, "H W 3"]:
        """The frame with the background's brightness."""
        gain = float(np.median(self._brightness / _grid(frame)))
        return frame if abs(gain - 1) < 0.005 else np.clip(frame * np.float32(gain) + 0.5, 0, 255).astype(np.uint8)


def find_background(footage: Footage, progress: str = "", enlarged: bool = False) -> Background:
    """Return the background of a recording. This decodes all of its frames.

    Args:
        footage: the recording; frames after damage or a change of size are ignored.
        progress: text of a progress bar; "" shows none.
        enlarged: see `Background`.

    Raises:
        DataError: the first frame cannot be read.
    """
    total = footage.header.num_frames or None
    frames = tqdm(_alike(footage), desc=progress, total=total, unit="frame", mininterval=0.5, disable=not progress)
    return Background(sample(iter(frames)), enlarged)


def _alike(footage: Footage) -> Iterator[UInt8[Array, "H W 3"]]:
    shape = None
    try:
        for frame in footage.frames():
            if (shape := shape or frame.pixels.shape) != frame.pixels.shape:
                return
            yield frame.pixels
    except DamageError:
        return  # the next reading reports it


def sample(frames: Iterable[UInt8[Array, "H W 3"]]) -> UInt8[Array, "N H W 3"]:
    """Return frames that are evenly spaced over a recording of unknown length: every `2**n`-th."""
    kept: list[Array] = []
    interval = 1
    for number, frame in enumerate(frames):
        if number % interval:
            continue
        kept.append(frame)
        if len(kept) > max(MIN_SAMPLES, min(MAX_SAMPLES, MEMORY // frame.nbytes)):
            kept, interval = kept[::2], 2 * interval
    return np.stack(kept)


def _median(values: UInt8[Array, "N H ..."]) -> UInt8[Array, "H ..."]:
    """The lower median, in the values' own type."""
    return _quantile(values, 0.5)


def _quantile(values: UInt8[Array, "N H ..."], share: float) -> UInt8[Array, "H ..."]:
    """The value at this share of the order. Computed row by row, since a copy of all would double the memory."""
    place = int(share * (len(values) - 1))
    return np.stack([np.partition(values[:, row], place, axis=0)[place] for row in range(values.shape[1])])


def _changes(frames: Sequence[UInt8[Array, "H W 3"]]) -> UInt8[Array, "M H W"]:
    """The difference of every frame from the next; 0 for a single frame."""
    return np.stack([_distance(*pair) for pair in zip(frames, frames[min(1, len(frames) - 1) :])])


def _distance(one: UInt8[Array, "H W 3"], other: UInt8[Array, "H W 3"]) -> UInt8[Array, "H W"]:
    """The difference of every pixel, as the maximum over channels."""
    return (np.maximum(one, other) - np.minimum(one, other)).max(axis=2)


def _resting(changed: Bool[Array, "N H W"]) -> float:
    counts = np.count_nonzero(changed, axis=0)
    return float(counts[counts >= _OFTEN * len(changed)].sum() / max(counts.sum(), 1))


def _typical(excess: Float[Array, " N"]) -> float:
    """The value above which half of the total lies, so that a few clear pixels outweigh many faint ones."""
    if not len(excess):
        return 0.0
    ordered = np.sort(excess)
    sums = np.cumsum(ordered, dtype=np.float64)
    return float(ordered[np.searchsorted(sums, sums[-1] / 2)])


def _box_of_motion(changed: Bool[Array, "N H W"]) -> tuple[int, int, int, int] | None:
    """The box around all 3x3 blocks of pixels that change together."""
    blocks = np.zeros(changed.shape[1:], bool)
    for mask in changed:
        blocks |= ndimage.binary_opening(mask, np.ones((3, 3)))
    if not blocks.any():
        return None
    rows, columns = ndimage.find_objects(blocks.astype(int))[0]
    return columns.start, rows.start, columns.stop, rows.stop


def _size_of_components(changed: Bool[Array, "N H W"]) -> float:
    """The size of connected components at which half of the changed pixels are in larger ones."""
    areas, sizes = list[Array](), list[float]()
    for mask in changed:
        labels, _ = ndimage.label(mask, np.ones((3, 3)))
        areas.append(np.bincount(labels.ravel())[1:])
        boxes = ndimage.find_objects(labels)
        sizes += [math.sqrt((rows.stop - rows.start) * (columns.stop - columns.start)) for rows, columns in boxes]
    if not sizes:
        return math.nan
    order = np.argsort(sizes)
    shares = np.cumsum(np.concatenate(areas)[order])
    return sizes[order[np.searchsorted(shares, shares[-1] / 2)]]


def _grid(frame: UInt8[Array, "H W 3"]) -> Float[Array, " P"]:
    """The brightness of pixels on a grid, at least 1."""
    rows, columns = (slice(None, None, max(1, side // _GRID)) for side in frame.shape[:2])
    return np.maximum(frame[rows, columns].mean(axis=2), 1).ravel()
