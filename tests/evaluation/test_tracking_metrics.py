"""HOTA, IDF1 and MOTA: exact answers, and agreement with another library."""

import importlib.util
import math

import numpy as np
import pytest

from stii_jax.evaluation import tracking_metrics as module
from stii_jax.evaluation.tracking_metrics import MissingExtraError, tracking_metrics
from stii_jax.evaluation.tracks import Sighting, Sightings

SIDE, MATCH = 100.0, 5.0  # centroids match within 5 pixels, and have no similarity from 10 pixels on


def sightings(frames, centres):
    """Return sightings from `frames`, centroids by number; the content at the points is irrelevant here."""
    centres = np.array(centres, float)
    held = np.zeros(centres.shape[1], int)
    seen = [Sighting(held, held, np.array(list(at)), np.array([*at.values()], float).reshape(-1, 2)) for at in frames]
    return Sightings(centres, centres, seen)


def metrics(frames, centres, **options):
    pytest.importorskip("trackeval")
    return tracking_metrics(sightings(frames, centres), SIDE, MATCH, **options)


A, B = (20.0, 20.0), (60.0, 20.0)
BOTH = [(A, B)]


def test_perfect_tracks():
    found = metrics([{4: A, 9: B}] * 3, BOTH * 3)
    assert found == {"hota": 1, "deta": 1, "assa": 1, "idf1": 1, "mota": 1, "mota_switches": 0}


def test_identities_swapped_halfway():
    """Every detection is right; each true object shares half of its frames with each found object."""
    found = metrics([{1: A, 2: B}] * 2 + [{2: A, 1: B}] * 2, BOTH * 4)
    # TPA is 2 of 4 + 4 - 2 = 6 for every match; IDTP is 2 of 4; two switches in 8 true points.
    assert found == {
        "hota": pytest.approx(math.sqrt(1 / 3)),
        "deta": 1,
        "assa": pytest.approx(1 / 3),
        "idf1": 0.5,
        "mota": 1 - 2 / 8,
        "mota_switches": 2,
    }


def test_a_centroid_that_is_off():
    """At half of the zero distance, the similarity is .5, so the first ten of HOTA's nineteen thresholds match."""
    found = metrics([{1: (25.0, 20.0)}] * 4, [(A,)] * 4)
    assert (found["hota"], found["idf1"], found["mota"]) == (pytest.approx(10 / 19), 1, 1)
    far = metrics([{1: (25.1, 20.0)}] * 4, [(A,)] * 4)
    assert (far["idf1"], far["mota"]) == (0, -1)  # one missed and one false detection in every frame


def test_missing_and_false():
    """Two of four frames find the object, one shows a false one, one is empty."""
    found = metrics([{1: A}, {1: A}, {1: A, 2: B}, {}], [(A,), (A,), ((np.nan, np.nan),), (A,)])
    # The third frame has no label and is left out: 2 found of 3, and no false detection.
    assert found["mota"] == pytest.approx(2 / 3) and found["idf1"] == pytest.approx(2 * 2 / (3 + 2))
    assert found["hota"] == pytest.approx(math.sqrt(2 / 3 * 2 / 3))  # DetA 2 / 3, AssA 2 / (3 + 2 - 2)
    assert metrics([{}, {}], [(A,), (A,)])["hota"] == 0


def test_chosen_frames():
    frames, centres = [{1: A, 2: B}] * 3 + [{}] * 3, BOTH * 6
    assert metrics(frames, centres, chosen=np.arange(6) < 3)["mota"] == 1
    none = metrics(frames, centres, chosen=np.zeros(6, bool))
    assert math.isnan(none["hota"]) and none["mota_switches"] == 0


@pytest.mark.filterwarnings("ignore:Operation with tuple is deprecated:DeprecationWarning:motmetrics")
def test_the_same_as_motmetrics():
    """Three objects that wander, with detections lost, added and swapped."""
    motmetrics = pytest.importorskip("motmetrics")
    random = np.random.default_rng(0)
    centres = 50 + np.cumsum(random.normal(0, 2, (60, 3, 2)), axis=0) + np.array([[0, 0], [40, 0], [0, 40]])
    centres[random.random((60, 3)) < 0.1] = np.nan
    accumulator, frames = motmetrics.MOTAccumulator(auto_id=True), []
    for t, row in enumerate(centres):
        numbers = [1, 2, 3] if t < 40 else [2, 1, 3]
        found = {n: xy + random.normal(0, 2, 2) for n, xy in zip(numbers, np.where(np.isnan(row), 50, row))}
        found = {number: place for number, place in found.items() if random.random() > 0.1}
        if random.random() < 0.2:
            found[9] = random.uniform(0, 100, 2)
        there = np.flatnonzero(~np.isnan(row[:, 0]))
        distances = np.linalg.norm(row[there, None] - np.array([*found.values()]).reshape(-1, 2), axis=-1)
        accumulator.update(there, list(found), np.where(distances <= 5, distances, np.nan))
        frames.append(found)
    summary = motmetrics.metrics.create().compute(accumulator, metrics=["mota", "idf1", "num_switches"]).iloc[0]
    found = metrics(frames, centres)
    assert 0.2 < found["mota"] < 0.9 and found["mota_switches"] >= 2
    assert found["idf1"] == pytest.approx(summary["idf1"])
    assert found["mota"] == pytest.approx(summary["mota"])
    assert found["mota_switches"] == summary["num_switches"]


def test_without_the_library(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"HOTA, IDF1 and MOTA need trackeval: pip install 'trackeval>=1.3'"):
        module.check_installed()
