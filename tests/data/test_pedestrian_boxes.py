"""The hand labels of a real recording: boxes of eight walkers before a static camera (`pedestrian_boxes.csv`).

The recording is a street of PETS 2009 with 480x360 pixels, 10 frames per second and 795 frames. It is not part of the
project (see `samples` in tests/conftest.py). The authors of this project made the labels by eye, on images enlarged
three to fourteen times. Boxes were proposed from the difference to the per-pixel median; no trained model was used.
Every box was then corrected by eye, and all were checked once more.

Every fourth frame from 424 to 580 is labelled, 40 in all, with every visible person. Frames count from 0. A box is the
smallest around the visible part of a person, including papers held in the hand. It extends from `left` to `right` and
from `top` to `bottom`, in pixels of the full frame. Its sides are accurate to 3 pixels. `x` and `y` are its centre.
`occluded` is 1 if another person, a sign, a pole or the frame's edge hides part of the person. An object keeps its
number throughout. Six pairs of objects cross, the first of each pair nearer to the camera: 3 and 2, 1 and 3, 4 and 2,
1 and 4, 1 and 2, 6 and 7. Later 7 crosses in front of 6.
"""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from scipy import ndimage

from stii_jax.data.tracks.points import place_in_recording, read_tracks
from stii_jax.data.video.videofile import read_frames

FILE = Path(__file__).parent / "pedestrian_boxes.csv"
COLUMNS = ["frame", "object", "x", "y", "left", "top", "right", "bottom", "occluded"]
FRAMES = range(424, 584, 4)
WIDTH, HEIGHT, NUM_FRAMES = 480, 360, 795
ACCURACY = 3
"""Maximum error of a box's side, in pixels."""


@pytest.fixture(scope="module")
def table() -> dict[str, np.ndarray]:
    """The columns, by name."""
    with FILE.open(newline="") as file:
        names, *rows = csv.reader(file)
    assert names == COLUMNS
    return dict(zip(names, np.array(rows, float).T))


def test_rows(table):
    rows = list(zip(table["frame"], table["object"]))
    assert rows == sorted(set(rows))  # one per frame and object
    assert set(table["frame"]) == set(FRAMES) and len(FRAMES) == 40
    assert set(table["object"]) == set(range(1, 9)) and set(table["occluded"]) == {0, 1}


def test_boxes_lie_in_the_frame(table):
    for low, high, centre, side in (("left", "right", "x", WIDTH), ("top", "bottom", "y", HEIGHT)):
        assert (table[low] >= 0).all() and (table[high] <= side).all()
        assert (table[low] + 4 < table[high]).all()
        np.testing.assert_array_equal(table[centre], (table[low] + table[high]) / 2)
        cut = (table[low] == 0) | (table[high] == side)
        assert table["occluded"][cut].all()  # a box at the frame's edge does not cover the whole person
    upright = table["occluded"] == 0
    assert (table["bottom"] - table["top"] > 1.5 * (table["right"] - table["left"]))[upright].all()


@pytest.mark.parametrize("number", range(1, 9))
def test_an_identity_moves_smoothly(table, number):
    """A walker is labelled from the first frame to the last, keeps the same height, and changes speed gradually.

    Arms, legs and papers move a box's centre, so the change is compared with the person's height.
    """
    own = {name: values[table["object"] == number] for name, values in table.items()}
    assert set(np.diff(own["frame"])) == {FRAMES.step}
    whole = {name: values[own["occluded"] == 0] for name, values in own.items()}
    steps, height = np.diff(whole["frame"]) / FRAMES.step, whole["bottom"] - whole["top"]
    assert (np.abs(np.diff(np.log(height))) < 0.11 * steps).all()
    speed = np.diff(np.stack([whole["x"], whole["y"]], axis=1), axis=0) / steps[:, None]
    assert (np.linalg.norm(np.diff(speed, axis=0), axis=1) < 0.2 * np.median(height)).all()


def test_the_reader_takes_the_file_as_it_is(table):
    tracks = place_in_recording(read_tracks(FILE, {}), NUM_FRAMES, WIDTH, HEIGHT)
    assert tracks.text.endswith(
        "frame in 'frame', object in 'object', its position; frames 424 to 580, counted from 0 "
        "(guessed: set it with --track_options=first_frame=0 or 1)"
    )
    np.testing.assert_array_equal(tracks.frames, FRAMES)
    assert tracks.present.sum() == len(table["frame"])
    rows = np.searchsorted(FRAMES, table["frame"]), [tracks.objects.index(f"{number:g}") for number in table["object"]]
    np.testing.assert_array_equal(tracks.points[rows], np.stack([table["x"], table["y"]], axis=1))


class Recording(NamedTuple):
    """The labelled recording."""

    num_frames: int
    labelled: dict[int, np.ndarray]
    empty: np.ndarray
    """The scene without people: the per-pixel median over every sixteenth frame."""


@pytest.fixture(scope="module")
def recording(samples) -> Recording:
    path = samples / "pedestrian" / "pets2009_vtest_480x360_h264.avi"
    if not path.exists():
        pytest.skip(f"no {path.name} among the sample files")
    number, labelled, sparse = -1, {}, []
    for number, frame in enumerate(read_frames(path)):
        if number in FRAMES:
            labelled[number] = frame
        if number % 16 == 0:
            sparse.append(frame)
    return Recording(number + 1, labelled, np.median(sparse, axis=0))


def test_the_recording_is_the_labelled_one(recording):
    assert (recording.num_frames, recording.empty.shape) == (NUM_FRAMES, (HEIGHT, WIDTH, 3))


def test_boxes_fit_the_recording(recording, table):
    """In every labelled frame, every region that differs from the empty scene has a box with matching sides."""
    for number, frame in recording.labelled.items():
        differs = np.abs(frame - recording.empty).max(axis=-1) > 40
        boxes = np.stack([table[name][table["frame"] == number] for name in COLUMNS[4:8]], axis=1).astype(int)
        beyond = differs.copy()
        for left, top, right, bottom in boxes:
            inside = differs[top:bottom, left:right]
            rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
            gaps = rows[0], columns[0], bottom - top - 1 - rows[-1], right - left - 1 - columns[-1]
            assert max(gaps) <= ACCURACY, (number, left, gaps)
            beyond[max(top - ACCURACY, 0) : bottom + ACCURACY, max(left - ACCURACY, 0) : right + ACCURACY] = False
        parts, count = ndimage.label(beyond)  # a barrier tape flutters in the wind
        assert max(ndimage.sum_labels(beyond, parts, range(1, count + 1)), default=0) < 50, number


def test_identities_keep_their_clothes(recording, table):
    """Objects 3 and 6 wear red jackets, the others none."""
    boxes = np.stack([table[name] for name in COLUMNS[4:8]], axis=1).astype(int)
    for row in np.flatnonzero(table["occluded"] == 0):
        left, top, right, bottom = boxes[row]
        person = recording.labelled[int(table["frame"][row])][top:bottom, left:right].astype(int)
        red, green, blue = np.moveaxis(person, -1, 0)
        share = ((red > 1.6 * np.maximum(green, blue)) & (red > 70)).mean()
        assert (share > 0.045) == (table["object"][row] in (3, 6)), (table["frame"][row], table["object"][row], share)
