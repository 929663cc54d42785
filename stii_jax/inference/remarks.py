"""Remarks on recordings that break a model's assumptions: one scene, always visible, with objects in it.

A recording may have a cut, blank frames, a flash, or no object at all. A model decomposes it nevertheless, and nothing
in its masks shows that they are meaningless. `PictureWatch` detects cuts and blank frames, so that `stream` can react
to them. `Remarks` collects everything worth a note, with the frames concerned.

Everything is measured on the model's view, in constant memory. Frames are counted from 0, as the model sees them.

The thresholds keep a margin on six real recordings: two flies on black, walkers in a yard, two roads, and two videos of
CLEVRER. Each was tested complete and with every 2nd, 3rd, 5th, 8th, 10th, 15th, 20th, 25th and 50th frame. In these
7,202 frames, whole or cropped to the centred square, no cut, blank frame or jump of the light is reported. All cuts
from one recording to another are found, and so are those between videos of balls on one background. A cut is missed if
both scenes have the same detailed background, or if one scene fades into the next. The first frames after the start or
another cut (`MIN_HISTORY`) are not checked.
"""

from collections import deque
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

BLANK_RANGE = 3
"""A frame is blank if no channel spans more than this many levels (of 255). Compressed black or white spans 0 or 1.
Balls that differ from their background by 5 levels span 5, while the model `balls` misses even those with 20."""
MAX_SIMILARITY = 0.5
"""Upper limit on the correlation of two frames' brightness at a cut. Between scenes, it is at most .43, and -.12 to
-.09 between scenes of balls. Within the real recordings, it is .81 or more, or .56 with every fifth frame."""
MAX_SIMILARITY_AFTER_GAP = 0.3
"""The value of `MAX_SIMILARITY` after blank frames, during which objects keep moving. Within videos of balls, the
correlation is .47 to .87 after five blank frames, and .15 to .70 after twelve."""
MIN_SURPRISE = 2.5
"""Lower limit on the dissimilarity (1 - correlation) at a cut, as a multiple of the largest of the scene's last
`HISTORY` ones. So no cut is reported if objects always move further than their size per frame. With every 50th frame
of the flies, the dissimilarity reaches .96. If it is above .5 in real recordings, it is at most 1.7 times the largest
one."""
HISTORY = 50
MIN_HISTORY = 3
"""Minimum number of dissimilarities to compare with before a cut is reported."""
DETAIL = 20
"""Lower limit, in levels, on the change of a channel in a changed pixel, and on a detail's difference from the frame's
median."""
MIN_GONE = 0.6
"""Minimum fraction of each frame's details that change at a cut. Between scenes, it is at least .72. A hand that enters
the image changes none of the earlier frame's details."""
MOST_CHANGED = 0.5
"""Fraction of changed pixels from which details are not checked."""
MIN_CHANGED = 0.06
"""Minimum fraction of pixels that change at a cut. A small object that jumps changes less: one fly, .045."""
MIN_JUMP = 50
"""Lower limit, in levels, on the change of a channel's median at a jump of the light without a cut. Within the real
recordings, it changes by at most 17, when the camera adjusts its exposure."""
BRIGHT = 128
"""Median level of the first frame from which its background counts as bright. Training videos of the included models
have backgrounds of at most half brightness."""
MAX_RUNS = 100
"""Maximum number of runs of frames to keep. Frames in later runs are only counted."""
_SHOWN = 5


class Runs:
    """Runs of consecutive frames, in constant memory."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, int]] = []
        """First and last frame of each run; at most `MAX_RUNS`."""
        self.num_frames = 0
        """Number of frames in all runs, including those not kept."""

    def add(self, number: int) -> None:
        """Add a frame, which must be later than all previous ones."""
        self.num_frames += 1
        if self.kept and self.kept[-1][1] == number - 1:
            self.kept[-1] = (self.kept[-1][0], number)
        elif len(self.kept) < MAX_RUNS:
            self.kept.append((number, number))

    def __bool__(self) -> bool:
        return self.num_frames > 0

    def __str__(self) -> str:
        """Return, for example, "frame 4" or "frames 4, 14 to 18 and 9 more"."""
        shown = self.kept[:_SHOWN]
        texts = [f"{first}" if first == last else f"{first} to {last}" for first, last in shown]
        rest = self.num_frames - sum(last - first + 1 for first, last in shown)
        texts += [f"{rest} more"] * (rest > 0)
        listed = ", ".join(texts[:-1]) + " and " * (len(texts) > 1) + texts[-1]
        return f"frame{'s' * (self.num_frames > 1)} {listed}"


class Sight(NamedTuple):
    """The relation of a frame to the previous ones."""

    is_blank: bool = False
    """True if the frame shows nothing."""
    is_cut: bool = False
    """True if the frame belongs to another scene than the last non-blank one."""
    jumps: bool = False
    """True if the scene is much brighter or darker than in the previous frame."""


class PictureWatch:
    """A comparison of every frame with the last non-blank one."""

    def __init__(self) -> None:
        self._last: Float[np.ndarray, "H W C"] | None = None
        self._past = deque[float](maxlen=HISTORY)
        self._was_blank = False

    def see(self, view: UInt8[np.ndarray, "H W C"], tiles: UInt8[np.ndarray, "B H W C"] | None = None) -> Sight:
        """Compare the next frame.

        Args:
            view: the frame at a low resolution that suffices for comparisons.
            tiles: parts of it at a higher resolution that shows small objects. If any is not blank, neither is the
                frame.
        """
        frame, last = view.astype(np.float32), self._last
        was_blank, self._was_blank = self._was_blank, _is_blank(view) and (tiles is None or all(map(_is_blank, tiles)))
        if self._was_blank:
            return Sight(is_blank=True)
        self._last = frame
        if last is None:
            return Sight()
        dissimilarity = 1 - _correlation(frame.mean(2), last.mean(2))
        least = 1 - (MAX_SIMILARITY_AFTER_GAP if was_blank else MAX_SIMILARITY)
        if dissimilarity > least and self._is_cut(frame, last, dissimilarity):
            self._past.clear()
            return Sight(is_cut=True)
        if not was_blank:
            self._past.append(dissimilarity)
        shift = np.abs(np.median(frame, axis=(0, 1)) - np.median(last, axis=(0, 1))).max()
        return Sight(jumps=not was_blank and bool(shift > MIN_JUMP))

    def _is_cut(self, frame: np.ndarray, last: np.ndarray, dissimilarity: float) -> bool:
        if len(self._past) < MIN_HISTORY or dissimilarity <= MIN_SURPRISE * max(self._past):
            return False
        changed = np.abs(frame - last).max(2) > DETAIL
        if not MIN_CHANGED <= changed.mean() < MOST_CHANGED:
            return bool(changed.mean() >= MOST_CHANGED)
        details = (np.abs(one - np.median(one, axis=(0, 1))).max(2) > DETAIL for one in (frame, last))
        return all(detail.any() and changed[detail].mean() >= MIN_GONE for detail in details)


def _is_blank(view: UInt8[np.ndarray, "H W C"]) -> bool:
    return bool(np.ptp(view, axis=(0, 1)).max() <= BLANK_RANGE)


def _correlation(one: Float[np.ndarray, "H W"], other: Float[np.ndarray, "H W"]) -> float:
    """The correlation of two frames' brightness; 0 if one of them has uniform brightness."""
    a, b = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0


class Remarks:
    """The remarks on a recording, collected while it is decomposed frame by frame."""

    def __init__(self) -> None:
        self._watch = PictureWatch()
        self._cuts, self._blank, self._jumps = Runs(), Runs(), Runs()
        self._num_frames = self._num_empty = 0
        self._first: UInt8[np.ndarray, "*B H W C"] | None = None
        self._is_still = True

    def see(self, view: UInt8[np.ndarray, "H W C"], tiles: UInt8[np.ndarray, "B H W C"] | None = None) -> Sight:
        """Inspect the next frame, before it is decomposed; see `PictureWatch.see`."""
        sight, number = self._watch.see(view, tiles), self._num_frames
        for noticed, runs in ((sight.is_cut, self._cuts), (sight.is_blank, self._blank), (sight.jumps, self._jumps)):
            if noticed:
                runs.add(number)
        shown = view if tiles is None else tiles
        self._first = shown if self._first is None else self._first
        self._is_still = self._is_still and np.array_equal(shown, self._first)
        self._num_frames += 1
        return sight

    def find(self, num_objects: int) -> None:
        """Record the number of objects found in a non-blank frame."""
        self._num_empty += num_objects == 0

    @property
    def is_bright(self) -> bool:
        """True if most of the first frame is bright."""
        return self._first is not None and bool(np.median(self._first) >= BRIGHT)

    @property
    def notes(self) -> list[str]:
        """The remarks for the user, on the frames so far."""
        notes, num_shown = [], self._num_frames - self._blank.num_frames
        if self._cuts:
            notes.append(
                f"the picture changes completely at {self._cuts} (a cut?): the model restarts there, so its slots then "
                "hold different objects; decompose each scene separately"
            )
        if self._blank:
            notes.append(
                f"nothing is visible in {self._blank}, where all pixels are alike: no object is reported there"
            )
        if self._jumps:
            notes.append(f"the light changes suddenly at {self._jumps}: masks may be wrong there")
        if num_shown > 1 and self._is_still:
            notes.append(f"all {num_shown} frames are equal: nothing moves")
        if 2 * self._num_empty > num_shown:
            advice = "if the background is bright, try --background=bright; " * self.is_bright
            notes.append(
                f"no object was found in {self._num_empty} of {num_shown} frames: the scene is empty, or its objects "
                f"are too small or too similar to the background for this model; {advice}if the camera is static, try "
                "--background=median; see docs/real-videos.md"
            )
        return notes

    @property
    def facts(self) -> dict[str, Any]:
        """The remarks for programs, ready for JSON.

        Returns:
            `cuts`, the first frame of every scene but the first; `blank_frames`, the first and last frame of every run
            of blank frames; `num_empty_frames`, the number of other frames in which no object was found; `is_bright`.
        """
        return {
            "cuts": [first for first, _ in self._cuts.kept],
            "blank_frames": self._blank.kept,
            "num_empty_frames": self._num_empty,
            "is_bright": self.is_bright,
        }
