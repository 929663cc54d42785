"""A real video of CLEVRER, decomposed by the shipped model `tabletop`, which has only seen scenes rendered here."""

import itertools

import numpy as np
import pytest

import stii_jax
from stii_jax.data.clevrer.proposals import read_detections
from stii_jax.data.video.videofile import read_frames
from stii_jax.data.video.view import View


@pytest.mark.slow
def test_objects_are_separated(samples):
    """On the twelve labelled frames of video 00000; the model sees the 28 that follow, too."""
    from sklearn.metrics import adjusted_rand_score

    folder = samples / "clevrer"
    video = next(folder.rglob("video_00000.mp4"))
    frames = np.stack(list(itertools.islice(read_frames(video), 40)))
    view = View(size=64, margins=(40, 0, 40, 0))  # as the loader's
    found = stii_jax.load_model("tabletop").decompose(np.stack([view.frame(frame) for frame in frames]), fps=25.0)
    path = next(folder.rglob("proposal_00000*.json"))
    scores = []
    for slots, seen in zip(found.masks, read_detections(path.read_bytes(), path.name, range(12), frames.shape[1:3])):
        image = np.zeros(frames.shape[1:3], np.uint8)
        for label, detection in enumerate(sorted(seen, key=lambda detection: detection.score), 1):
            image[detection.mask] = label
        labels = view.labels(image)
        foreground = labels > 0
        f_ari = adjusted_rand_score(labels[foreground], slots[foreground])
        scores.append((adjusted_rand_score(labels.ravel(), slots.ravel()), f_ari))
    ari, f_ari = np.mean(scores, axis=0)
    print(f"ARI {ari:.3f}, F-ARI {f_ari:.3f}")
    assert ari > 0.8 and f_ari > 0.9
