"""Cuts, blank frames, brightness jumps and recordings without objects are detected in tiny synthetic frames."""

import numpy as np
import pytest

from stii_jax.inference import remarks
from stii_jax.inference.remarks import PictureWatch, Remarks, Runs, Sight

SIZE = 32
PLAIN, CUT, BLANK, JUMP = Sight(), Sight(is_cut=True), Sight(is_blank=True), Sight(jumps=True)


def gray(levels):
    """Return a frame of these brightnesses, `SIZE SIZE`."""
    return np.repeat(np.asarray(levels)[..., None], 3, axis=2).round().astype(np.uint8)


def squares(*corners, background=0, level=200, side=6):
    """Return a frame with bright squares, by their upper left corners."""
    frame = np.full((SIZE, SIZE), background)
    for x, y in corners:
        frame[y : y + side, x : x + side] = level
    return gray(frame)


def moving(num_frames, *corners, step=1, **look):
    """Return squares that move to the right and reappear on the left."""
    return [squares(*(((x + step * t) % (SIZE - 6), y) for x, y in corners), **look) for t in range(num_frames)]


def texture(seed, low=20, high=220):
    return gray(np.random.default_rng(seed).uniform(low, high, (SIZE // 4, SIZE // 4)).repeat(4, 0).repeat(4, 1))


def look(frames):
    watch = PictureWatch()
    return [watch.see(frame) for frame in frames]


FIRST, SECOND = moving(6, (0, 0), (2, 20)), moving(6, (10, 10), (20, 24), (0, 12))


def test_a_scene_without_events():
    assert look(FIRST) == [PLAIN] * 6


@pytest.mark.parametrize(
    "second",
    [
        SECOND,
        moving(6, (10, 10), (20, 24), background=90),
        moving(6, (10, 10), background=200, level=10),
        [texture(0)] * 6,
    ],
)
def test_a_cut(second):
    assert look(FIRST + second) == [PLAIN] * 6 + [CUT] + [PLAIN] * 5
    assert look(second + FIRST) == [PLAIN] * 6 + [CUT] + [PLAIN] * 5


def test_each_of_several_cuts():
    frames = [texture(t // 5) for t in range(20)]
    assert [t for t, sight in enumerate(look(frames)) if sight.is_cut] == [5, 10, 15]


def test_a_cut_is_measured_against_its_own_scene():
    """After a cut, as many frames are needed as at the start, so fast objects of the new scene are no cuts."""
    fast = moving(8, (10, 10), (0, 24), step=9)
    assert [t for t, sight in enumerate(look(FIRST + fast)) if sight.is_cut] == [6]
    assert look(fast) == [PLAIN] * 8


def test_no_cut_in_the_first_frames():
    needed = 1 + remarks.MIN_HISTORY
    assert not look([*FIRST[: needed - 1], *SECOND])[needed - 1].is_cut
    assert look([*FIRST[:needed], *SECOND])[needed].is_cut


def test_an_entering_object_is_no_cut():
    entered = [frame.copy() for frame in FIRST]
    for frame in entered[3:]:
        frame[8:20] = 255
    assert look(entered) == [PLAIN] * 6


def test_one_small_object_that_leaps_is_no_cut():
    """All of the image's details change, but they cover few pixels."""
    side = 5
    assert 2 * side**2 < remarks.MIN_CHANGED * SIZE**2 < 2 * 6**2
    frames = [squares((1, 1), side=side)] * 5 + [squares((20, 20), side=side)] * 2
    assert look(frames) == [PLAIN] * 7
    larger = [squares((1, 1))] * 5 + [squares((20, 20))] * 2
    assert look(larger) == [PLAIN] * 5 + [CUT, PLAIN]


@pytest.mark.parametrize("level", [0, 16, 128, 255])
def test_blank_frames(level):
    blank = gray(np.full((SIZE, SIZE), level))
    blank[5, 5] = abs(level - remarks.BLANK_RANGE)
    assert look([blank, *FIRST[:3], blank, blank, *FIRST[3:]]) == [BLANK, *[PLAIN] * 3, BLANK, BLANK, *[PLAIN] * 3]
    faint = blank.copy()
    faint[5, 5, 2] = abs(level - remarks.BLANK_RANGE - 1)
    assert look([faint]) == [PLAIN]


def test_a_frame_is_not_blank_if_one_of_its_tiles_shows_something():
    blank = gray(np.zeros((SIZE, SIZE)))
    tiles = np.stack([blank, squares((1, 1), side=1)])
    for shown, sight in ((tiles, PLAIN), (tiles[:1], BLANK), (None, BLANK)):
        assert PictureWatch().see(blank, shown) == sight
    found = Remarks()
    for t in range(4):
        found.see(blank, np.roll(tiles, t, axis=2))
    assert found.notes == []
    assert watched([blank] * 4).notes != []


def test_another_scene_after_blank_frames_is_a_cut():
    blank = [gray(np.zeros((SIZE, SIZE)))] * 4
    assert look(FIRST + blank + SECOND) == [PLAIN] * 6 + [BLANK] * 4 + [CUT] + [PLAIN] * 5


def test_objects_move_on_in_blank_frames():
    frames = moving(15, (0, 2), side=10)
    before, blank, after = frames[:6], [gray(np.zeros((SIZE, SIZE)))] * 5, frames[11:]
    assert look(before + after) == [PLAIN] * 6 + [CUT] + [PLAIN] * 3
    assert look(before + blank + after) == [PLAIN] * 6 + [BLANK] * 5 + [PLAIN] * 4
    assert look(before + blank + after + SECOND)[15] == CUT, "the gap does not hide a cut that follows"


def test_jumps_of_the_light():
    scene = texture(1, 40, 90)
    assert look([scene] * 3 + [scene + np.uint8(remarks.MIN_JUMP)] * 2) == [PLAIN] * 5
    brighter = scene + np.uint8(remarks.MIN_JUMP + 1)
    assert look([scene] * 3 + [brighter] * 2 + [scene] * 2) == [PLAIN] * 3 + [JUMP, PLAIN, JUMP, PLAIN]
    red = scene.copy()
    red[..., 0] += remarks.MIN_JUMP + 1
    assert look([scene] * 3 + [red]) == [PLAIN] * 3 + [JUMP]


def test_noise_is_no_cut():
    frames = np.random.default_rng(0).integers(0, 256, (20, SIZE, SIZE, 3), dtype=np.uint8)
    assert look(frames) == [PLAIN] * 20


@pytest.mark.parametrize(
    ("numbers", "text", "kept"),
    [
        ([4], "frame 4", [(4, 4)]),
        ([4, 5], "frames 4 to 5", [(4, 5)]),
        ([4, 14, 15, 16], "frames 4 and 14 to 16", [(4, 4), (14, 16)]),
        ([1, 3, 5], "frames 1, 3 and 5", [(1, 1), (3, 3), (5, 5)]),
        (range(0, 16, 2), "frames 0, 2, 4, 6, 8 and 3 more", [(t, t) for t in range(0, 16, 2)]),
    ],
)
def test_runs_of_frames(numbers, text, kept):
    runs = Runs()
    assert not runs
    for number in numbers:
        runs.add(number)
    assert runs and str(runs) == text and runs.kept == kept and runs.num_frames == len(numbers)


def test_runs_take_constant_memory():
    runs = Runs()
    for number in range(0, 1_000, 2):
        runs.add(number)
    assert len(runs.kept) == remarks.MAX_RUNS and runs.num_frames == 500
    assert str(runs) == "frames 0, 2, 4, 6, 8 and 495 more"


def watched(frames, num_objects=1):
    found = Remarks()
    for frame in frames:
        if not found.see(frame).is_blank:
            found.find(num_objects)
    return found


def test_nothing_to_remark():
    found = watched(FIRST)
    assert found.notes == [] and found.facts == {
        "cuts": [],
        "blank_frames": [],
        "num_empty_frames": 0,
        "is_bright": False,
    }


def test_notes_name_the_frames():
    blank = gray(np.full((SIZE, SIZE), 255))
    scene = texture(1, 40, 90)
    found = watched([*FIRST[:3], blank, blank, *FIRST[3:], *[scene] * 5, scene + np.uint8(60)])
    assert found.notes == [
        "the picture changes completely at frame 8 (a cut?): the model restarts there, so its slots then hold "
        "different objects; decompose each scene separately",
        "nothing is visible in frames 3 to 4, where all pixels are alike: no object is reported there",
        "the light changes suddenly at frame 13: masks may be wrong there",
    ]
    assert found.facts == {"cuts": [8], "blank_frames": [(3, 4)], "num_empty_frames": 0, "is_bright": False}


EMPTY = (
    "no object was found in {} of 6 frames: the scene is empty, or its objects are too small or too similar to the "
    "background for this model; if the camera is static, try --background=median; see docs/real-videos.md"
)


def test_no_objects():
    assert watched(FIRST, 0).notes == [EMPTY.format(6)]
    found = Remarks()
    for t, frame in enumerate(FIRST):
        found.see(frame)
        found.find(int(t < 3))
    assert found.notes == [] and found.facts["num_empty_frames"] == 3, "half of the frames"
    found.find(0)
    assert found.notes == [EMPTY.format(4)]


def test_a_bright_background():
    """Most of the frame is bright, however dark the objects."""
    bright = [255 - frame // 4 for frame in FIRST]
    found = watched(bright, 0)
    advice = "for this model; if the background is bright, try --background=bright; if the camera"
    assert found.notes == [EMPTY.format(6).replace("for this model; if the camera", advice)]
    assert found.facts["is_bright"] and not watched([255 - frame for frame in bright]).facts["is_bright"]


def test_a_still_picture():
    assert watched([FIRST[0]] * 5).notes == ["all 5 frames are equal: nothing moves"]
    assert watched(FIRST[:1]).notes == []


def test_blank_frames_alone():
    """They cannot lack objects, and are not reported as still."""
    (note,) = watched([gray(np.zeros((SIZE, SIZE)))] * 5).notes
    assert note.startswith("nothing is visible in frames 0 to 4, ")
