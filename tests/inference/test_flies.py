"""A real recording, two flies on black, tracked by the shipped model `balls`, which has never seen a fly.

The recording and its tracks are not part of the project (see `samples` in tests/conftest.py). docs/gallery.md has the
scores; `python -m pytest -m slow -s tests/inference/test_flies.py` prints them.
"""

import csv

import av
import numpy as np
import pytest

import stii_jax

SIDE = 384  # pixels of the recording, and the unit of the tracks
REACH = 1.5 / 64 * SIDE  # maximum distance of a thorax from the mask that holds it


@pytest.fixture(scope="module")
def tracks(samples):
    """Thorax, and mean of head, thorax and abdomen, of both flies in every frame: `T 2 2`, NaN where missing."""
    with open(samples / "flies/tracks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    parts = [
        [[float(row[f"{part}_{axis}"] or "nan") for axis in "xy"] for part in ("head", "thorax", "abdomen")]
        for row in rows
    ]
    points = np.array(parts).reshape(-1, 2, 3, 2)
    return points[:, :, 1], np.ma.masked_invalid(points).mean(axis=2).filled(np.nan)


def slot_at(labels, point, background):
    """The nearest slot within reach of a point, other than the background if there is one."""
    rows, columns = np.nonzero((labels != background) & (labels < 255))
    distances = np.hypot(columns - point[0], rows - point[1])
    if len(distances) and distances.min() <= REACH:
        return labels[rows[distances.argmin()], columns[distances.argmin()]]
    return background


@pytest.mark.slow
def test_two_flies_keep_their_slots(samples, tracks):
    """All 1,100 frames: both are found in nearly all, identities never switch, and centroids are close."""
    with av.open(str(samples / "flies/centered_pair_small.mp4")) as video:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])
    found = stii_jax.load_model("balls", ["eval.num_slots=3"]).decompose(frames)
    thoraxes, centres = tracks
    assert len(found.masks) == len(thoraxes) == 1_100

    slots = np.array(
        [[slot_at(labels, point, found.background) for point in pair] for labels, pair in zip(found.masks, thoraxes)]
    )
    both = (slots != found.background).all(1) & (slots[:, 0] != slots[:, 1])
    switches = (np.diff(slots[both], axis=0) != 0).sum()
    t, fly = np.nonzero(np.broadcast_to(both[:, None], slots.shape))
    errors = np.linalg.norm(found.tracks.centroids[t, slots[t, fly]] - centres[t, fly], axis=1) / SIDE
    print(f"found {both.mean():.2%}, identity switches {switches}, median centroid error {np.nanmedian(errors):.2%}")
    assert both.mean() >= 0.99
    assert switches == 0
    assert np.nanmedian(errors) <= 0.02
