"""The camera: exact vignettes, noise by frame number, and compression."""

import numpy as np
import pytest

from stii_jax.data.shapes import sensor


def test_a_vignette_leaves_the_middle_and_darkens_the_corners():
    light = sensor.vignette(0.4, 64)[..., 0]
    np.testing.assert_allclose(light[[0, 0, -1, -1], [0, -1, 0, -1]], 0.6, atol=1e-6)
    np.testing.assert_allclose(light[31:33, 31:33], 1, atol=1e-3)
    assert (np.diff(light[32:, 32]) < 0).all()


def test_noise_is_normal_and_depends_on_the_frames_number():
    noise = sensor.noise(7, np.arange(4), (32, 32, 3))
    assert noise.mean() == pytest.approx(0, abs=0.03) and noise.std() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(sensor.noise(7, np.array([2, 3]), (32, 32, 3)), noise[2:])
    assert np.abs(np.corrcoef(noise.reshape(4, -1)) - np.eye(4)).max() < 0.06
    assert not np.array_equal(sensor.noise(8, np.arange(4), (32, 32, 3)), noise)


@pytest.mark.parametrize("channels", [1, 3])
def test_fine_compression_changes_nothing_and_coarse_compression_more(channels):
    frames = np.random.default_rng(0).random((2, 8, 8, channels)).astype(np.float32)
    np.testing.assert_allclose(sensor.compress(frames, 1e-5), frames, atol=1e-4)
    errors = [np.abs(sensor.compress(frames, step) - frames).mean() for step in (0.01, 0.05, 0.25)]
    assert 0 < errors[0] < 0.3 * errors[1] and errors[1] < 0.5 * errors[2]
    # Compression reduces a block of faint details to its mean.
    faint = 0.5 + 0.01 * (frames - 0.5)
    flat = sensor.compress(faint, 0.3).reshape(2, 2, 4, 2, 4, channels)
    assert np.ptp(flat, axis=(2, 4)).max() < 1e-6


def test_blocks_are_compressed_on_their_own():
    frames = np.random.default_rng(0).random((1, 8, 8, 3)).astype(np.float32)
    other = frames.copy()
    other[:, :4, 4:] = 0.5
    changed = (np.abs(sensor.compress(frames, 0.1) - sensor.compress(other, 0.1)) > 1e-6).any(-1)
    assert changed[0, :4, 4:].mean() > 0.9 and changed.sum() == changed[0, :4, 4:].sum()


def test_gray_and_colour_are_compressed_alike():
    gray = np.random.default_rng(0).random((2, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(
        sensor.compress(gray.repeat(3, -1), 0.1), sensor.compress(gray, 0.1).repeat(3, -1), atol=1e-5
    )


def test_colours_lose_more_than_brightness():
    brightness, difference = np.zeros((2, 2, 8, 8, 3), np.float32)
    detail = 0.1 * np.random.default_rng(0).standard_normal((2, 8, 8)).astype(np.float32)
    brightness += 0.5 + detail[..., None]
    difference += 0.5 + detail[..., None] * np.array([1, 0, -1], np.float32)
    errors = [np.sqrt(((sensor.compress(frames, 0.02) - frames) ** 2).mean()) for frames in (brightness, difference)]
    assert errors[1] > 1.3 * errors[0] > 0
