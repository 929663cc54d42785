"""Draw trajectories: the path of each slot's centroid over a frame. Numpy on the host.

`draw_trajectories` draws a still, `trajectory_animation` the frames of a GIF in which the paths grow. Slots have the
same colours as in `visualize`. The background's slot, which has the most pixels, has no path. A path has a gap where
its slot has no pixels.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer, UInt8
from PIL import Image, ImageDraw

from stii_jax.storage.images import Picture
from stii_jax.types import Decomposition
from stii_jax.visualization.regions import regions
from stii_jax.visualization.visualize import (
    BACKGROUND,
    FONT,
    GAP,
    INK,
    LINE,
    PAGE,
    PREDICTED,
    Color,
    find_slots,
    rgb,
    slot_colors,
)

SIZE = 400
"""Target for the longer side of enlarged frames, in pixels; frames grow by an integer factor."""
BRIGHTNESS = 0.5
"""Brightness of the frame below the paths, from 0 to 1."""
SMOOTH = 3
"""Supersampling factor for lines. All sizes here are those of the finished picture."""
DOTS_EVERY = 6.0
"""Distance between the dots of a true path, in pixels."""
SAMPLE = 30
"""Width in pixels of a line in the legend."""
GREY: Color = (170, 170, 170)
"""Colour of a legend line that belongs to no slot."""
_DARK: Color = (20, 20, 20)
_WHITE: Color = (255, 255, 255)

Point = Float[np.ndarray, " 2"]
"""x and y in pixels; NaN if the object is not visible."""
Path = Float[np.ndarray, "T 2"]


class _Scene(NamedTuple):
    """The arrays that a video's figures are drawn from."""

    frames: UInt8[np.ndarray, "T H W 3"]
    found: dict[int, Path]
    """Paths by slot, in pixels of the video, like those in `true`."""
    true: list[Path]
    colors: list[Color]
    """Colours of the slots."""
    num_observed: int


def draw_trajectories(
    video: UInt8[np.ndarray, "T H W C"],
    decomposition: Decomposition,
    segmentation: UInt8[np.ndarray, "T H W"] | None = None,
    *,
    num_observed: int | None = None,
) -> Picture:
    """Draw the paths of a video's objects over its last frame.

    Args:
      video: the frames, 0..255. For a prediction, the true future.
      decomposition: the decomposition of this video (B = 1, see `visualize.one_video`).
      segmentation: true labels, 0 = background; their paths are dotted in white.
      num_observed: number of observed frames. The predicted part of a path is thin, with one hollow marker per frame.

    Raises:
      ValueError: the decomposition has more than one video, or another number of frames.
    """
    return _draw(_make_scene(video, decomposition, segmentation, num_observed), len(video) - 1)


def trajectory_animation(
    video: UInt8[np.ndarray, "T H W C"],
    decomposition: Decomposition,
    segmentation: UInt8[np.ndarray, "T H W"] | None = None,
    *,
    num_observed: int | None = None,
) -> list[Picture]:
    """Draw, for each frame, the paths so far over that frame. Arguments as for `draw_trajectories`."""
    scene = _make_scene(video, decomposition, segmentation, num_observed)
    return [_draw(scene, frame) for frame in range(len(video))]


def centroid_paths(labels: Integer[np.ndarray, "T H W"], num_labels: int) -> Float[np.ndarray, "{num_labels} T 2"]:
    """Return the centroid of every label in every frame, as in `regions.Region`; NaN if it has no pixels."""
    num_frames, height, width = labels.shape
    paths = np.full((num_labels, num_frames, 2), np.nan)
    for t, frame in enumerate(labels):
        for label, *numbers in regions(frame, (0, 0, width, height)):
            paths[label, t] = numbers[:2]
    return paths


def _make_scene(
    video: UInt8[np.ndarray, "T H W C"],
    decomposition: Decomposition,
    segmentation: UInt8[np.ndarray, "T H W"] | None,
    num_observed: int | None,
) -> _Scene:
    slots, background = find_slots(video, decomposition)
    num_slots = decomposition.masks.shape[2]
    paths = centroid_paths(slots, num_slots)
    found = {k: path for k, path in enumerate(paths) if k != background and not np.isnan(path).all()}
    true = [] if segmentation is None else list(centroid_paths(segmentation, int(segmentation.max()) + 1)[1:])
    colors = [tuple(color) for color in slot_colors(num_slots, background).tolist()]
    return _Scene(rgb(video), found, true, colors, len(video) if num_observed is None else num_observed)


def _draw(scene: _Scene, frame: int) -> Picture:
    """Draw the paths up to a frame over that frame, with an orange edge if it is predicted."""
    picture = scene.frames[frame]
    scale = max(1, round(SIZE / max(picture.shape[:2])))
    large = picture.repeat(scale * SMOOTH, axis=0).repeat(scale * SMOOTH, axis=1)
    canvas = Image.fromarray((large * BRIGHTNESS).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    for k, path in scene.found.items():
        _draw_path(draw, path[: frame + 1] * scale, scene.colors[k], scene.num_observed)
    for path in scene.true:
        _draw_dots(draw, path[: frame + 1] * scale)

    predicted = frame >= scene.num_observed
    cell = canvas.reduce(SMOOTH)
    framed = Image.new("RGB", (cell.width + 2 * GAP, cell.height + 2 * GAP), PREDICTED if predicted else PAGE)
    framed.paste(cell, (GAP, GAP))
    legend = _draw_legend(scene, framed.width)
    page = Image.new("RGB", (legend.width, framed.height + legend.height + LINE), PAGE)
    page.paste(framed, (0, 0))
    page.paste(legend, (0, framed.height))
    caption = f"t=0 to {frame}" + (f", predicted from t={scene.num_observed}" if predicted else "")
    ImageDraw.Draw(page).text((GAP, page.height - LINE / 2), caption, PREDICTED if predicted else INK, FONT, "lm")
    return np.asarray(page)


def _draw_legend(scene: _Scene, width: int) -> Image.Image:
    """Draw the legend of the lines, at least as wide as requested."""
    samples: list[tuple[str, Callable[[ImageDraw.ImageDraw, Path], None]]] = []
    for k in scene.found:
        samples.append((f"slot {k}", partial(_draw_path, color=scene.colors[k], num_observed=2)))
    if scene.num_observed < len(scene.frames):
        samples.append(("predicted", partial(_draw_path, color=GREY, num_observed=0)))
    if scene.true:
        samples.append(("true", _draw_dots))
    sizes = [SAMPLE + 4 * GAP + int(FONT.getlength(title)) for title, _ in samples]
    width = max(width, GAP + max(sizes, default=0))
    places, x, y = [], GAP, 0
    for size in sizes:
        if x + size > width:
            x, y = GAP, y + LINE
        places.append((x, y))
        x += size

    lines = Image.new("RGB", (width * SMOOTH, (y + LINE) * SMOOTH), PAGE)
    draw = ImageDraw.Draw(lines)
    for (x, y), (_, sample) in zip(places, samples):
        draw.rectangle([SMOOTH * edge for edge in (x, y + 2, x + SAMPLE, y + LINE - 2)], BACKGROUND)
        sample(draw, np.array([[x + 7, y + LINE / 2], [x + SAMPLE - 7, y + LINE / 2]]))
    legend = lines.reduce(SMOOTH)
    draw = ImageDraw.Draw(legend)
    for (x, y), (title, _) in zip(places, samples):
        draw.text((x + SAMPLE + GAP, y + LINE / 2), title, INK, FONT, "lm")
    return legend


def _draw_path(draw: ImageDraw.ImageDraw, path: Path, color: Color, num_observed: int) -> None:
    """Draw a thick line with a filled end for observed frames, then a thin one with hollow markers for predictions."""
    for edge, ink in ((1, _DARK), (0, color)):
        for t in range(1, len(path)):
            _draw_line(draw, path[t - 1], path[t], (3.5 if t < num_observed else 1.5) + 2 * edge, ink)
    markers = [(point, 4.0, True) for point in path[num_observed:]] + [(path[-1], 6.0, len(path) > num_observed)]
    for point, radius, hollow in markers:
        _draw_disc(draw, point, radius + 1, _DARK)
        _draw_disc(draw, point, radius, color)
        if hollow:
            _draw_disc(draw, point, radius - 2, _DARK)


def _draw_dots(draw: ImageDraw.ImageDraw, path: Path) -> None:
    """Draw equally spaced dots along a path, and a larger one at its end."""
    walked = 0.0
    for start, end in itertools.pairwise(path):
        if np.isnan([start, end]).any():
            continue
        length = float(np.hypot(*(end - start)))
        for place in np.arange(-walked % DOTS_EVERY, length, DOTS_EVERY):
            _draw_disc(draw, start + (end - start) * place / length, 2.0, _DARK)
            _draw_disc(draw, start + (end - start) * place / length, 1.3, _WHITE)
        walked += length
    _draw_disc(draw, path[-1], 3.5, _DARK)
    _draw_disc(draw, path[-1], 2.5, _WHITE)


def _draw_line(draw: ImageDraw.ImageDraw, start: Point, end: Point, width: float, color: Color) -> None:
    """Draw a line with round ends, so that the parts of a path join; nothing if a point is missing."""
    if not np.isnan([start, end]).any():
        draw.line([*(SMOOTH * start).tolist(), *(SMOOTH * end).tolist()], color, round(SMOOTH * width))
        _draw_disc(draw, start, width / 2, color)
        _draw_disc(draw, end, width / 2, color)


def _draw_disc(draw: ImageDraw.ImageDraw, center: Point, radius: float, color: Color) -> None:
    if not np.isnan(center).any():
        draw.ellipse([*(SMOOTH * (center - radius)).tolist(), *(SMOOTH * (center + radius)).tolist()], color)
