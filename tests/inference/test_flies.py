"""A real recording, two flies on black, tracked by the shipped model `balls`, which has never seen a fly.

The recording and its tracks are not part of the project (see `samples` in tests/conftest.py).
"""

import csv

import av
import numpy as np
import pytest

import stii_jax

NUM_FRAMES = 100
SIDE = 384  # pixels of the recording, and the unit of the tracks
REACH = 1.5 / 64  # how far a slot may be from a thorax, as a share of the side


@pytest.fixture(scope="module")
def tracks(samples):
    """Thorax, and mean of head, thorax and abdomen, of both flies in every frame: `T 2 2`, NaN where missing."""
    with open(samples / "flies/tracks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    parts = [
        [[float(row[f"{part}_{axis}"] or "nan") for axis in "xy"] for part in ("head", "thorax", "abdomen")]
        for row in rows
    ]
    points = np.array(parts).reshape(-1, 2, 3, 2)[:NUM_FRAMES]
    return points[:, :, 1], np.nanmean(points, axis=2)


def slot_at(labels, point, background):
    """The slot that holds a point, or the nearest other than the background within reach."""
    x, y = np.clip(point.astype(int), 0, SIDE - 1)
    rows, columns = np.nonzero((labels != background) & (labels < 255))
    distances = np.hypot(columns - x, rows - y)
    if len(distances) and distances.min() <= REACH * SIDE:
        return labels[rows[distances.argmin()], columns[distances.argmin()]]
    return background


@pytest.mark.slow
def test_two_flies_keep_their_slots(samples, tracks):
    """In 100 frames: both found in nearly all, no identity switch, centroids within 3 % of the side."""
    with av.open(str(samples / "flies/centered_pair_small.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame, _ in zip(video.decode(video=0), range(NUM_FRAMES))]
    found = stii_jax.load_model("balls", ["eval.num_slots=3"]).decompose(np.stack(frames))
    thoraxes, centres = tracks
    slots = np.array(
        [[slot_at(labels, point, found.background) for point in pair] for labels, pair in zip(found.masks, thoraxes)]
    )
    both = (slots != found.background).all(1) & (slots[:, 0] != slots[:, 1])
    assert both.mean() >= 0.95
    assert len({tuple(pair) for pair in slots[both]}) == 1, "identities switch"
    errors = [
        np.hypot(*(found.tracks.centroids[t, slots[t, fly]] - centres[t, fly])) / SIDE
        for t in np.flatnonzero(both)
        for fly in range(2)
    ]
    assert np.median(errors) <= 0.03
