"""The static background of a recording: exact answers, and recordings without one."""

import numpy as np
import pytest

from stii_jax.data.video.background import MAX_SAMPLES, Background, find_background, sample
from stii_jax.data.video.footage import Footage

SIZE = (64, 96)


def scene(seed=0, level=120, contrast=60):
    """Make a textured image, the same in all channels except one."""
    picture = level + np.random.default_rng(seed).integers(-contrast, contrast + 1, (*SIZE, 3))
    return np.clip(picture, 0, 255).astype(np.uint8)


def walk(background, num_frames=30, side=10, level=255):
    """Return frames in which a bright square crosses the image, and its positions."""
    frames, inside = np.stack([background] * num_frames), np.zeros((num_frames, *SIZE), bool)
    for number in range(num_frames):
        inside[number, 20 : 20 + side, 2 * number : 2 * number + side] = True
    frames[inside] = level
    return frames, inside


def test_the_median_is_the_scene_behind_the_objects():
    background = scene()
    frames, inside = walk(background)
    found = Background(frames)
    assert np.array_equal(found.picture, background) and found.is_static and found.noise == 0
    shown = np.stack([found.change(frame) for frame in frames])
    assert (shown == shown[..., :1]).all() and found.object_size == 10
    assert not shown[~inside].any()
    assert shown[inside].mean() > 150 and np.array_equal(found.change(background), np.zeros_like(background))


def test_noise_is_black_and_so_is_what_always_flutters():
    rng = np.random.default_rng(1)
    frames, inside = walk(scene(contrast=30))
    frames = np.clip(frames + rng.normal(0, 3, frames.shape).round(), 0, 255)
    frames[:, 50:54] = rng.uniform(40, 200, (len(frames), 4, SIZE[1], 1))
    frames = frames.astype(np.uint8)
    shown = np.stack([Background(frames).change(frame) for frame in frames[::7]])[..., 0] > 0
    still = ~inside[::7]
    assert shown[still].mean() < 0.01 and shown[:, 50:54].mean() < 0.02 and shown[~still].mean() > 0.9


def test_an_object_that_rests_is_seen_even_where_the_median_shows_a_part_of_it():
    """Its texture passes through the median, from which most frames differ, but neighbouring frames hardly differ."""
    frames = np.stack([scene(contrast=0)] * 100)
    frames[40:, 20:30, 20:30] = np.linspace(130, 250, 60)[:, None, None, None]
    found = Background(frames)
    assert (found.change(frames[-1])[20:30, 20:30] == 255).all() and found.change(frames[-1])[:20].max() == 0
    assert not Background(frames, enlarged=True).change(frames[-1])[20:30, 20:30].any()


def test_a_light_that_changes_is_no_object():
    frames, inside = walk(scene(contrast=30))
    lit = np.clip(frames * np.linspace(0.7, 1.2, len(frames))[:, None, None, None], 0, 255).astype(np.uint8)
    shown = np.stack([Background(lit).change(frame) for frame in lit])[..., 0] > 0
    assert shown[~inside].mean() < 0.01 and shown[inside].mean() > 0.8


def test_faint_pixels_do_not_decide_what_is_white():
    background = scene(contrast=0)
    frames, inside = walk(background)
    frames[:, :, 80:][np.random.default_rng(2).random((len(frames), SIZE[0], 16)) < 0.2] += 9
    shown = Background(frames).change(frames[5])
    assert (shown[inside[5]] == 255).all() and shown[:, 80:].max() < 40


def test_a_camera_that_moves_has_no_background():
    wide = np.concatenate([scene(seed) for seed in range(4)], axis=1)
    pan = np.stack([wide[:, 7 * number : 7 * number + SIZE[1]] for number in range(40)])
    assert not Background(pan).is_static
    trembling = np.stack([np.roll(scene(contrast=8), (-1) ** number, 1) for number in range(40)])
    assert Background(trembling).is_static


def test_noise_of_a_camera_is_measured():
    """The median absolute deviation of normal noise is .67 of its standard deviation."""
    noise = np.random.default_rng(3).normal(0, 9, (101, *SIZE, 1)).round()
    found = Background((120 + noise).repeat(3, axis=3).astype(np.uint8))
    assert found.noise == 6 and found.is_static


def test_one_frame_and_equal_frames_show_nothing():
    for frames in (scene()[None], np.stack([scene()] * 3), np.zeros((4, *SIZE, 3), np.uint8)):
        found = Background(frames)
        assert found.is_static and not found.change(frames[0]).any() and np.isnan(found.object_size)


@pytest.mark.parametrize("length", [1, 5, MAX_SAMPLES, MAX_SAMPLES + 1, 1000])
def test_samples_are_spread_evenly(length):
    numbers = sample(np.full((2, 2, 3), number % 251, np.uint8) for number in range(length))[:, 0, 0, 0]
    interval = -(-length // MAX_SAMPLES)
    interval = 1 << (interval - 1).bit_length()
    assert np.array_equal(numbers, np.arange(0, length, interval) % 251) and len(numbers) <= MAX_SAMPLES


@pytest.mark.slow
def test_walkers_in_a_yard(samples):
    footage = Footage(samples / "pedestrian" / "pets2009_vtest_480x360_h264.avi")
    found = find_background(footage)
    assert found.is_static
    frame = next(footage.frames(200)).pixels
    assert 0.005 < (found.change(frame) > 128).mean() < 0.05


def test_the_box_of_motion_ignores_single_pixels():
    frames, _ = walk(scene())
    frames[7, 60, 90] = 0
    assert Background(frames).moving_box == (0, 20, 2 * 29 + 10, 30)
    assert Background(np.stack([scene()] * 20)).moving_box is None
