"""Draw a decomposition over the frames of its recording: outlines, numbers and recent paths, in full resolution."""

import itertools
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from stii_jax.storage.images import Picture
from stii_jax.visualization.regions import OUTSIDE as NOT_SEEN
from stii_jax.visualization.regions import Box, Region
from stii_jax.visualization.visualize import OUTSIDE, PREDICTED

MIN_SIDE = 256
"""Frames whose longer side is smaller are enlarged by a whole number to at least this many pixels."""
TAIL = 30
"""Number of frames that a path reaches back."""
_HALO = np.full(3, 16, np.uint8)
"""Colour of the rim around an outline, for contrast with bright scenes."""
_WHITE = np.full(3, 255, np.uint8)
_FUTURE = 0.5
"""Opacity of the path of one future."""
_BOX = 150
"""Grey of the line around the model's view."""
_CLEAR = 0.85
"""Opacity of the newest part of a path; the oldest parts fade to nothing."""

Points = Integer[np.ndarray, "N 2"]
Stamp = Integer[np.ndarray, "stamp 2"]
"""The pixels, around the origin, that a line paints at each of its points."""


class OverlayPainter:
    """A painter of successive frames that remembers the objects' recent paths.

    Args:
        width: width of the recording's frames, in pixels.
        height: height of the recording's frames, in pixels.
        scale: pixels of the recording, in each direction, per pixel of the labels.
        box: the part of the frame that the model sees.
        colors: the slots' colours.
        background: the background's slot, which gets no outline.
        scene: the recording's static background, if it was removed from the frames that the model sees.
    """

    def __init__(
        self,
        width: int,
        height: int,
        scale: int,
        box: Box,
        colors: UInt8[np.ndarray, "K 3"],
        background: int,
        scene: Picture | None = None,
    ):
        self.zoom = -(-MIN_SIDE // max(width, height))
        """Pixels of the overlay, in each direction, per pixel of the recording: 1 except for small recordings."""
        self._size, self._scale, self._box = (width, height), scale, box
        self._colors, self._background, self._scene = colors, background, scene
        side = max(width, height) * self.zoom
        self._line = max(2, round(side / 640))
        self._ranks = np.zeros(NOT_SEEN + 1, np.uint8)  # 0 marks pixels without an object
        self._ranks[: len(colors)] = np.arange(1, len(colors) + 1)
        self._ranks[background] = 0
        font = ImageFont.load_default(max(13, round(side / 60)))
        self._tags = [_tag(str(slot), color, font) for slot, color in enumerate(colors)]
        self._paths = [deque[Region | None](maxlen=TAIL) for _ in colors]

    def draw(
        self,
        frame: UInt8[np.ndarray, "H W 3"] | None,
        reconstruction: Float[np.ndarray, "h w 3"] | None,
        slots: UInt8[np.ndarray, "labels_H labels_W"],
        regions: Mapping[int, Region],
    ) -> Picture:
        """Return the picture of the next frame.

        Args:
            frame: the recording's frame; None if it is predicted. A predicted frame has an orange edge. It shows the
                reconstruction or, if the background was removed, the background and objects filled with their colours.
            reconstruction: the model's reconstruction of its view, in [0, 1]; only needed for a predicted frame.
            slots: see `regions.Labels`.
            regions: the regions of the visible slots, by slot.
        """
        if frame is None:
            assert reconstruction is not None
            picture = self._enlarge(self._predicted(reconstruction)) if self._scene is None else self._filled(slots)
        else:
            picture = self._enlarge(frame)
        self._draw_outlines(picture, slots)
        self._draw_box(picture)
        shown = [slot for slot in range(len(self._colors)) if slot != self._background]
        for slot in shown:
            self._paths[slot].append(regions.get(slot))
            self._draw_path(picture, slot)
        if frame is None:
            _draw_edge(picture, (0, 0, *picture.shape[1::-1]), 2 * self._line, PREDICTED)
        for slot in shown:
            if slot in regions:
                self._draw_number(picture, slot, regions[slot])
        return picture

    def draw_futures(
        self,
        frame: UInt8[np.ndarray, "H W 3"],
        slots: UInt8[np.ndarray, "labels_H labels_W"],
        regions: Mapping[int, Region],
        predicted: Sequence[Mapping[int, Region]],
        futures: Sequence[Sequence[Mapping[int, Region]]],
    ) -> Picture:
        """Return the picture of an observed frame with every object's paths in several futures.

        A path starts at the object's centroid in the frame, and its end has a dot. Paths are translucent, so that
        their colour is strongest where several of them run. A white line with a dark rim is the predicted path.

        Args:
            frame: the recording's last observed frame.
            slots: see `draw`.
            regions: see `draw`.
            predicted: the visible slots' regions in every predicted frame.
            futures: the same for every future.
        """
        picture = self._enlarge(frame)
        self._draw_outlines(picture, slots)
        self._draw_box(picture)
        shown = [slot for slot in regions if slot != self._background]
        thin, thick = _square(max(1, self._line // 2)), _square(self._line + 2)
        for slot in shown:
            color = self._colors[slot]
            paths = [[regions[slot], *(step.get(slot) for step in future)] for future in futures]
            for path in paths:
                self._draw_line(picture, path, _square(self._line), _FUTURE, color)
            for path in paths:
                end = next(region for region in reversed(path) if region is not None)
                self._draw_line(picture, [end, end], _disc(1.5 * self._line), 1.0, _HALO)
                self._draw_line(picture, [end, end], _disc(1.5 * self._line - 1), 1.0, color)
        for slot in shown:
            path = [regions[slot], *(step.get(slot) for step in predicted)]
            self._draw_line(picture, path, thick, 1.0, _HALO)
            self._draw_line(picture, path, thin, 1.0, _WHITE)
        for slot in shown:
            self._draw_number(picture, slot, regions[slot])
        return picture

    def forget_paths(self) -> None:
        """Start new paths, because the slots of the next frame hold other objects."""
        for path in self._paths:
            path.clear()

    def _enlarge(self, image: UInt8[np.ndarray, "H W *C"]) -> UInt8[np.ndarray, "zoom_H zoom_W *C"]:
        """Return a copy with every pixel repeated `zoom` times in both directions."""
        return image.copy() if self.zoom == 1 else image.repeat(self.zoom, axis=0).repeat(self.zoom, axis=1)

    def _predicted(self, reconstruction: Float[np.ndarray, "h w 3"]) -> Picture:
        """Return a predicted frame, grey outside of the model's view."""
        left, top, right, bottom = self._box
        seen = Image.fromarray((np.clip(reconstruction, 0, 1) * 255).round().astype(np.uint8))
        picture = np.full((*self._size[::-1], 3), OUTSIDE, np.uint8)
        picture[top:bottom, left:right] = np.asarray(
            seen.convert("RGB").resize((right - left, bottom - top), Image.Resampling.BILINEAR)
        )
        return picture

    def _filled(self, slots: UInt8[np.ndarray, "labels_H labels_W"]) -> Picture:
        """Return the background with every object as a translucent area."""
        assert self._scene is not None
        picture = self._enlarge(self._scene)
        ranks = self._enlarge(np.take(self._ranks, slots)).ravel()
        filled, inside = picture.copy(), np.flatnonzero(ranks)
        self._paint(filled, inside, self._colors[ranks[inside] - 1])
        return ((picture.astype(np.uint16) + filled) // 2).astype(np.uint8)

    def _draw_outlines(self, picture: Picture, slots: UInt8[np.ndarray, "labels_H labels_W"]) -> None:
        """Draw an outline around each object. Between touching objects, the higher number gets the line."""
        ranks = self._enlarge(np.take(self._ranks, slots))  # if this enlarges, labels have the size of the frame
        lined = _highest_nearby(ranks, -(-self._line // self._scale))
        halo = _highest_nearby(lined, -(-(self._line // 3 or 1) // self._scale))
        self._paint(picture, np.flatnonzero(halo > lined), _HALO)
        line = np.flatnonzero(lined != ranks)
        self._paint(picture, line, self._colors[lined.ravel()[line] - 1])

    def _paint(
        self, picture: Picture, labels: Integer[np.ndarray, " N"], colors: UInt8[np.ndarray, "*labels 3"]
    ) -> None:
        """Colour all pixels of the picture that belong to the given labels, which are numbered row by row."""
        (height, width), scale = picture.shape[:2], self._scale
        rows, columns = np.divmod(labels, -(-width // scale))
        for y in range(scale):
            for x in range(scale):
                # The last label of a row or column may lie only partly in the frame.
                at = np.minimum(scale * rows + y, height - 1) * width + np.minimum(scale * columns + x, width - 1)
                picture.reshape(-1, 3)[at] = colors

    def _draw_box(self, picture: Picture) -> None:
        """Draw a line just outside of the model's view, if the view leaves out part of the frame."""
        left, top, right, bottom = (edge * self.zoom for edge in self._box)
        width = self._line
        _draw_edge(picture, (left - width, top - width, right + width, bottom + width), width, (_BOX, _BOX, _BOX))

    def _draw_line(
        self,
        picture: Picture,
        path: Sequence[Region | None],
        stamp: Stamp,
        opacity: float,
        color: UInt8[np.ndarray, " 3"],
    ) -> None:
        """Draw a path as a line of one opacity, interrupted where the object is not visible."""
        parts = [self._segment(old, new, stamp) for old, new in itertools.pairwise(path) if old and new]
        if parts:
            points = np.concatenate(parts)
            _blend(picture, points, np.full(len(points), opacity, np.float32), color)

    def _segment(self, old: Region, new: Region, stamp: Stamp) -> Points:
        """The pixels of a line between two centroids."""
        ends = self.zoom * np.array([[old.x, old.y], [new.x, new.y]])
        count = int(np.abs(ends[1] - ends[0]).max()) + 2
        centers = np.floor(np.linspace(ends[0], ends[1], count)).astype(int)
        return (centers[:, None] + stamp).reshape(-1, 2)

    def _draw_path(self, picture: Picture, slot: int) -> None:
        """Draw the recent positions as a line, interrupted where the object was not visible."""
        points, opacities = [], []
        path, stamp = self._paths[slot], _square(self._line)
        for age, (new, old) in enumerate(zip(list(path)[:0:-1], list(path)[-2::-1])):
            if new is not None and old is not None:
                points.append(self._segment(old, new, stamp))
                opacities.append(np.full(len(points[-1]), _CLEAR * (1 - age / TAIL), np.float32))
        if points:
            _blend(picture, np.concatenate(points[::-1]), np.concatenate(opacities[::-1]), self._colors[slot])

    def _draw_number(self, picture: Picture, slot: int, region: Region) -> None:
        """Place an object's number above it, or below it at the upper edge of the frame."""
        tag = self._tags[slot]
        (height, width), (frame_height, frame_width) = tag.shape[:2], picture.shape[:2]
        reach = 2 * np.sqrt(region.area / np.pi)  # scattered pixels make the box larger than the object
        gap = 2 * self._line
        above = self.zoom * max(region.top, region.y - reach) - gap - height
        below = self.zoom * min(region.bottom, region.y + reach) + gap
        top = round(min(max(above if above >= 0 else below, 0), max(frame_height - height, 0)))
        left = round(min(max(self.zoom * region.x - width / 2, 0), max(frame_width - width, 0)))
        inside = picture[top : top + height, left : left + width]
        inside[:] = tag[: inside.shape[0], : inside.shape[1]]


def _square(side: int) -> Stamp:
    """The pixels of a square around the origin."""
    offsets = np.arange(side) - side // 2
    return np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape(-1, 2)


def _disc(radius: float) -> Stamp:
    """The pixels of a disc around the origin."""
    square = _square(2 * int(np.ceil(radius)) + 1)
    return square[(square**2).sum(axis=1) <= radius**2]


def _highest_nearby(ranks: UInt8[np.ndarray, "H W"], distance: int) -> UInt8[np.ndarray, "H W"]:
    """Return the maximum over all pixels at most `distance` away along rows and columns."""
    for _ in range(distance):
        tall = ranks.copy()
        np.maximum(tall[1:], ranks[:-1], out=tall[1:])
        np.maximum(tall[:-1], ranks[1:], out=tall[:-1])
        ranks = tall.copy()
        np.maximum(ranks[:, 1:], tall[:, :-1], out=ranks[:, 1:])
        np.maximum(ranks[:, :-1], tall[:, 1:], out=ranks[:, :-1])
    return ranks


def _draw_edge(picture: Picture, box: Box, width: int, color: tuple[int, int, int]) -> None:
    """Draw a border of this width inside a box, clipped to the picture."""
    (left, top, right, bottom), (height, columns) = box, picture.shape[:2]

    def fill(x0: int, y0: int, x1: int, y1: int) -> None:
        picture[max(y0, 0) : max(min(y1, height), 0), max(x0, 0) : max(min(x1, columns), 0)] = color

    fill(left, top, right, top + width)
    fill(left, bottom - width, right, bottom)
    fill(left, top, left + width, bottom)
    fill(right - width, top, right, bottom)


def _blend(
    picture: Picture, points: Points, opacities: Float[np.ndarray, " N"], color: UInt8[np.ndarray, " 3"]
) -> None:
    """Blend a colour into pixels. If a pixel is given more than once, its last opacity counts."""
    height, width, _ = picture.shape
    inside = ((points >= 0) & (points < (width, height))).all(axis=1)
    x, y = points[inside].T
    alpha = opacities[inside, None]
    picture[y, x] = (alpha * color + (1 - alpha) * picture[y, x] + 0.5).astype(np.uint8)


def _tag(text: str, color: UInt8[np.ndarray, " 3"], font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Picture:
    """Return an image of a number on a box of the object's colour."""
    left, top, right, bottom = font.getbbox(text)
    size = bottom - top
    pad_x, pad_y = round(size / 2.5) + 1, round(size / 3.5) + 1
    tag = Image.new("RGB", (round(right - left) + 2 * pad_x, round(size) + 2 * pad_y), tuple(color.tolist()))
    ink = (0, 0, 0) if color @ np.array([0.299, 0.587, 0.114]) > 140 else (255, 255, 255)
    ImageDraw.Draw(tag).text((pad_x - left, pad_y - top), text, ink, font)
    return np.asarray(tag)
