"""The whole program on two CPU cores: the real model, smaller, on two bouncing balls at 32x32.

    python -m stii_jax.main --config quickstart --workdir runs/quickstart

It simulates 2,300 videos, trains on clips of 2 and then 5 frames, scores 100 held-out videos of 40 frames and draws
some. Not tuned yet: no whole run of it has been scored.
"""

from ml_collections import ConfigDict

from stii_jax.config import default_config


def get_config() -> ConfigDict:
    """The quickstart's config."""
    config = default_config()
    config.batch_size = 12
    config.data.variant = "mini"
    config.data.options.num_balls = (2, 2)
    config.data.num_frames = 2
    config.data.num_threads = 1

    config.model.num_slots = 3
    config.model.num_refinements = 3
    config.model.latent_dim = 16
    config.model.hidden_dim = 64
    config.model.feature_dim = 64
    config.model.prior_dim = 64
    config.model.decoder_channels = 16
    config.model.refiner_channels = 16

    config.optim.learning_rate = 2e-3
    config.optim.warmup_steps = 100
    config.optim.decay = "cosine"
    config.train.num_steps = 900
    config.curriculum.stages = ((5, 6, 200),)
    config.train.log_every = 20
    config.train.eval_every = 500
    config.train.checkpoint_every = 100

    config.eval.num_videos = 100
    config.eval.periodic_videos = 32
    config.eval.batch_size = 20
    return config
