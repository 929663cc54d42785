"""Labels from colours, through a real encoder."""

import io

import av
import numpy as np
import pytest
from sample_clevrer import RADIUS, draw, encode_video, make_movie

from stii_jax.data import DataError
from stii_jax.data.clevrer import mask_video


def through_mp4(frames) -> np.ndarray:
    with av.open(io.BytesIO(encode_video(frames))) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def overlaps(labels, masks):
    """Return the label of each object and its overlap. `masks` is `T N H W`."""
    found = []
    for mask in masks.swapaxes(0, 1):
        label = int(np.bincount(labels[mask]).argmax())
        found.append((label, float(((labels == label) & mask).sum() / ((labels == label) | mask).sum())))
    return found


def test_objects_get_their_shape_back():
    movie = make_movie(5, 6)
    times = range(0, 30, 3)
    frames = through_mp4(frame for time, frame in enumerate(draw(movie, masks=True)) if time in times)
    labels, notes = mask_video.segment(frames, 6)
    found = overlaps(labels, np.stack([movie.masks(time) for time in times]))
    assert sorted(label for label, _ in found) == [1, 2, 3, 4, 5, 6]
    assert min(fit for _, fit in found) > 0.95
    assert not any(notes.values())


def test_a_mixture_on_an_edge_is_not_another_object():
    """The edges of a bright red object on black have the colour of a dark red one elsewhere."""
    y, x = np.mgrid[:320, :480]
    bright, dark = np.hypot(y - 100, x - 100) < 2 * RADIUS, np.hypot(y - 200, x - 300) < RADIUS
    picture = bright[..., None] * np.array([230, 20, 20], np.uint8) + dark[..., None] * np.array(
        [115, 10, 10], np.uint8
    )
    frames = through_mp4([picture] * 4)
    labels, _ = mask_video.segment(frames, 2)
    truth = np.stack([np.stack([bright, dark])] * 4)
    assert [label for label, _ in overlaps(labels, truth)] == [1, 2]
    assert min(fit for _, fit in overlaps(labels, truth)) > 0.95
    around = np.hypot(y - 100, x - 100) < 3 * RADIUS
    assert not (labels[:, around] == 2).any()


def test_labels_are_constant_and_background_may_be_any_colour():
    movie = make_movie(6, 3, leaves=64)
    frames = np.stack(list(draw(movie, masks=True)))[::8]
    frames[(frames == 0).all(-1)] = (200, 200, 200)
    labels, notes = mask_video.segment(through_mp4(frames), 3)
    masks = np.stack([movie.masks(time) for time in range(0, 128, 8)])
    assert sorted(label for label, _ in overlaps(labels, masks)) == [1, 2, 3]
    assert not (labels[8:] == overlaps(labels, masks)[0][0]).any()
    assert not any(notes.values())


def test_more_and_fewer_colours_than_objects_are_counted():
    frames = np.stack(list(draw(make_movie(7, 4), masks=True)))[:4]
    labels, notes = mask_video.segment(frames, 2)
    assert labels.max() == 2 and notes == {mask_video.EXTRA: 2, mask_video.MISSING: 0}
    labels, notes = mask_video.segment(frames, 6)
    assert labels.max() == 4 and notes == {mask_video.EXTRA: 0, mask_video.MISSING: 2}


def test_one_colour_alone():
    with pytest.raises(DataError, match="shows only one colour"):
        mask_video.segment(np.full((3, 320, 480, 3), 7, np.uint8), 3)
    noise = np.random.default_rng(0).integers(0, 256, (2, 320, 480, 3), np.uint8)
    with pytest.raises(DataError, match="shows only one colour"):
        mask_video.segment(noise, 3)
