"""A model whose slots are colours, for tests of decompositions."""

import jax.numpy as jnp

from stii_jax.models.video_model import VideoModel
from stii_jax.types import Decomposition


class ByColor(VideoModel):
    """Three slots for red, the background and green. There is nothing to learn.

    The state is the last frame. Predictions repeat it, and a sampled one shows nothing.
    """

    num_slots, can_sample = 3, True

    def __init__(self, side):
        self.frame_shape = (side, side, 3)

    def initial_state(self, params, batch_size):
        return jnp.zeros((batch_size, *self.frame_shape))

    def decompose(self, params, video, keys, state=None, start=0):
        red, green = (video[..., channel] > 0.5 for channel in (0, 1))
        masks = jnp.stack([red & ~green, red == green, green & ~red], axis=2).astype(jnp.float32)
        means = jnp.broadcast_to(video[:, :, None], (*masks.shape, 3))
        return Decomposition(means, masks, jnp.zeros((*masks.shape[:3], 2))), video[:, -1]

    def predict(self, params, state, num_frames, keys=None):
        shown = state if keys is None else jnp.zeros_like(state)
        return self.decompose(params, jnp.repeat(shown[:, None], num_frames, axis=1), keys)[0], state

    def log_likelihood(self, video, decomposition):
        return jnp.zeros(video.shape[:-1])

    def init(self, key):
        return {}

    loss = None
