"""The log-likelihood of a decomposition under every system, against slow numpy."""

import jax
import numpy as np
import pytest
import tiny

from stii_jax.models.baselines.ddpae import DDPAE
from stii_jax.models.baselines.rnem import RNEM
from stii_jax.models.registry import SYSTEMS
from stii_jax.types import Decomposition

B, T, K, SIZE, C = 2, 3, 3, 16, 3


@pytest.fixture(scope="module")
def clip():
    random = np.random.default_rng(0)
    masks = random.random((B, T, K, SIZE, SIZE)).astype(np.float32)
    masks /= masks.sum(2, keepdims=True)
    means = random.random((B, T, K, SIZE, SIZE, C)).astype(np.float32)
    video = random.random((B, T, SIZE, SIZE, C)).astype(np.float32)
    return video, Decomposition(means, masks, np.zeros((B, T, K, 2), np.float32))


def log_likelihood(model, *clip):
    return tiny.jit(model.log_likelihood)(*clip)


def gaussian(x, mean, sigma):
    return np.exp(-((x - mean) ** 2) / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi))


def test_iterative_inference(clip):
    video, (means, masks, *_) = clip
    model = tiny.build(height=SIZE, width=SIZE, channels=C, num_slots=K, likelihood="joint", sigma=0.3)
    density = (masks * gaussian(video[:, :, None], means, 0.3).prod(-1)).sum(2)
    np.testing.assert_allclose(log_likelihood(model, *clip), np.log(density), rtol=1e-4, atol=1e-4)


def test_ddpae(clip):
    video, decomposition = clip
    model = DDPAE(height=SIZE, width=SIZE, channels=C, num_slots=K, sigma=0.2)
    expected = np.log(gaussian(video, np.asarray(jax.device_put(decomposition).reconstruction), 0.2)).sum(-1)
    np.testing.assert_allclose(log_likelihood(model, *clip), expected, rtol=1e-4, atol=1e-4)


def test_rnem(clip):
    """The mean over the channels is the probability of white."""
    video, (means, masks, *_) = clip
    means = np.repeat(means[..., :1], C, axis=-1)
    model = RNEM(height=SIZE, width=SIZE, channels=C, num_slots=K)
    x, white = video.mean(-1)[:, :, None], means[..., 0]
    expected = np.log((masks * (x * white + (1 - x) * (1 - white))).sum(2))
    found = log_likelihood(model, video, clip[1]._replace(means=means))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_no_system_is_left_out():
    classes = {system.model for system in SYSTEMS.values()}
    assert {next(base for base in made.__mro__ if "log_likelihood" in vars(base)) for made in classes} == {
        tiny.STII,
        DDPAE,
        RNEM,
    }
