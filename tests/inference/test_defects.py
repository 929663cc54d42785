"""Recordings with cuts, blank frames or no objects: the notes for users, and the shipped model's decompositions.

The slow tests decompose videos of balls with the defects of real recordings; see docs/files.md.
"""

import json

import numpy as np
import pytest
from sample_recordings import balls, colored, write_raw
from toy import use_toy_model

import stii_jax
from stii_jax.inference.request import Request
from stii_jax.main import run

SIZE = 8
CUT = (
    "the picture changes completely at frame 7 (a cut?): the model restarts there, so its slots then hold different "
    "objects; decompose each scene separately"
)
BLANK = "nothing is visible in frames 3 to 4, where all pixels are alike: no object is reported there"


@pytest.fixture
def defective(monkeypatch):
    """Two scenes of textures, the first with two black frames."""
    use_toy_model(monkeypatch)
    scenes = np.random.default_rng(0).integers(0, 200, (2, SIZE, SIZE, 3)).repeat(2, 1).repeat(2, 2).repeat(7, 0)
    scenes[3:5] = 0
    return (scenes + np.arange(14)[:, None, None, None]).astype(np.uint8)


@pytest.mark.usefixtures("quick_compiles")
def test_the_command_line_tells_and_the_files_hold_it(workdir, defective, tmp_path, capsys):
    video, output = write_raw(tmp_path / "video.mkv", defective), tmp_path / "found"
    run("decompose", None, workdir, [], request=Request(video, output))
    summary = json.loads((output / "decomposition.json").read_text())
    assert summary["notes"] == [CUT, BLANK]
    assert (summary["cuts"], summary["blank_frames"], summary["num_empty_frames"]) == ([7], [[3, 4]], 0)
    printed = capsys.readouterr().err
    assert f"note: {CUT}\nnote: {BLANK}\n" in printed and printed.count("note: ") == 2
    with np.load(output / "masks.npz") as arrays:
        areas = [np.bincount(mask.ravel(), minlength=2) for mask in arrays["segmentation"]]
    seen = [(area > 0).tolist() for area in areas]
    assert seen == [[True, True]] * 3 + [[slot == summary["background_slot"] for slot in (0, 1)]] * 2 + [[True] * 2] * 9


@pytest.mark.usefixtures("quick_compiles")
def test_python_holds_it(workdir, defective):
    found = stii_jax.load_model(workdir).decompose(defective)
    assert found.notes == (CUT, BLANK) and found.cuts == (7,)
    assert [frame.number for frame in found.frames if frame.is_cut] == [7]
    assert found.predict(1).notes == found.notes


@pytest.fixture(scope="module")
def shipped():
    return stii_jax.load_model("balls")


def slots_of(frame, labels):
    """Return the slot that covers most of each ball, and its intersection over union with that ball."""
    slots = {}
    for ball in range(1, labels.max() + 1):
        inside = labels == ball
        slot = int(np.bincount(frame.mask[inside]).argmax())
        slots[slot] = (inside & (frame.mask == slot)).sum() / (inside | (frame.mask == slot)).sum()
    return slots


def objects(found):
    """Return the number of objects in every frame."""
    return [len(set(frame.regions) - {found.background}) for frame in found.frames]


@pytest.mark.slow
def test_balls_are_found_at_once_after_a_cut(shipped):
    labels = np.concatenate(balls(2, 8))
    found = shipped.decompose(colored(labels))
    assert found.cuts == (8,) and len(found.notes) == 1
    for frame, truth in zip(found.frames, labels):
        slots = slots_of(frame, truth)
        assert len(slots) == 4 and min(slots.values()) > 0.5, f"frame {frame.number}"
        assert found.background not in slots


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 255])
def test_balls_keep_their_slots_over_blank_frames(shipped, level):
    labels = balls(1, 18)[0]
    frames = colored(labels)
    frames[8:12] = level
    found = shipped.decompose(frames)
    before, first, after = (slots_of(found.frames[t], labels[t]) for t in (7, 12, 15))
    assert len(before) == 4 and objects(found)[8:12] == [0] * 4
    assert len(first) == 4 and min(first.values()) > 0.6, "found at once"
    assert sum(one == other for one, other in zip(before, after)) >= 3, "most keep their slots"
    (note,) = found.notes
    assert note.startswith("nothing is visible in frames 8 to 11, ") and found.cuts == ()


NOISE = np.random.default_rng(0).normal(0, 2, (6, 64, 64, 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    "frames",
    [
        np.zeros_like(NOISE),
        np.full_like(NOISE, 255),
        90 + NOISE,
        90 + 5 * (balls(1, 6)[0][..., None] > 0),
    ],
    ids=["black", "white", "noise", "low contrast"],
)
def test_nothing_is_found_where_there_is_nothing(shipped, frames):
    frames = np.broadcast_to(frames, NOISE.shape).clip(0, 255).round().astype(np.uint8)
    found = shipped.decompose(frames)
    assert objects(found) == [0] * 6
    assert any(note.startswith(("no object was found in 6 of 6", "nothing is visible in")) for note in found.notes)


@pytest.mark.slow
def test_a_single_ball_is_one_object(shipped):
    found = shipped.decompose(colored((balls(1, 6)[0] == 1).astype(np.uint8)))
    assert objects(found) == [1] * 6 and found.notes == ()
