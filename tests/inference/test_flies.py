"""A real recording, two flies on black, tracked by the included models `balls` and `general`, which never saw a fly.

The recording and its tracks are not part of the project (see `samples` in tests/conftest.py). The README there defines
the scores, and docs/gallery.md has them; `python -m pytest -m slow -s tests/inference/test_flies.py` prints them.
"""

import csv
import itertools
import json

import numpy as np
import pytest
from sample_recordings import write_raw

from stii_jax.data.video.videofile import read_frames
from stii_jax.inference.track_request import make_track_request
from stii_jax.main import run

pytest.importorskip("trackeval")


def evaluate(video, tracks, folder, *settings, model="balls"):
    """Return the scores from the command line."""
    request = make_track_request("evaluate", str(tracks), None, str(video))
    run("evaluate", None, folder, settings, model=model, tracks=request)
    return json.loads((folder / f"track_scores_{video.stem}.json").read_text())


@pytest.mark.slow
def test_a_hundred_frames(samples, tmp_path):
    """On the first hundred frames, the count is inferred, both flies are found in all, and keep their slots."""
    frames = itertools.islice(read_frames(samples / "flies" / "centered_pair_small.mp4"), 100)
    video = write_raw(tmp_path / "flies.mkv", np.stack(list(frames)))
    with (samples / "flies" / "tracks.csv").open(newline="") as file:
        rows = [row for row in csv.reader(file) if row[0] == "frame" or int(row[0]) < 100]
    tracks = tmp_path / "tracks.csv"
    with tracks.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    scores = evaluate(video, tracks, tmp_path / "scores")
    assert (scores["num_frames"], scores["num_points"], scores["found"]) == (100, 200, 1)
    assert scores["identity_switches"] == scores["mota_switches"] == 0
    assert scores["centroid_error"] <= 2
    assert scores["idf1"] >= 0.98 and scores["hota"] >= 0.75


@pytest.mark.slow
def test_the_whole_recording(samples, tmp_path):
    """On all 1,100 frames, both are found in nearly all, identities never switch, and centroids are close."""
    flies = samples / "flies"
    settings = ("eval.num_slots=3", "eval.slot_cost=0")  # their number is given, to save time
    scores = evaluate(flies / "centered_pair_small.mp4", flies / "tracks.csv", tmp_path, *settings)
    assert (scores["num_frames"], scores["num_points"]) == (1_100, 2_199)  # one thorax is missing
    assert scores["found"] >= 0.99 and scores["point_in_own_mask"] >= 0.99
    assert scores["identity_switches"] == scores["mota_switches"] == 0
    assert scores["centroid_error"] <= 2
    assert scores["idf1"] >= 0.98 and scores["hota"] >= 0.75


@pytest.mark.slow
def test_the_whole_recording_without_its_background(samples, tmp_path, capsys):
    """`general` removes it, though flies rest in one place for hundreds of frames, and needs no warning."""
    flies = samples / "flies"
    scores = evaluate(flies / "centered_pair_small.mp4", flies / "tracks.csv", tmp_path, model="general")
    told = capsys.readouterr().err
    assert "the camera stands still, so the background is removed" in told and "unlike the videos" not in told
    assert scores["found"] >= 0.99 and scores["identity_switches"] == scores["mota_switches"] == 0
    assert scores["centroid_error"] <= 2.5
    assert scores["idf1"] >= 0.98 and scores["hota"] >= 0.75
