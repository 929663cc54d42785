"""The whole program on two CPU cores: the real model, smaller, on two bouncing balls at 32x32.

    python -m stii_jax.main --config quickstart --workdir runs/quickstart

It simulates 2,300 videos, trains on single frames, then on clips of 4 and 16 frames, scores 100 held-out videos of 40
frames and draws some. This takes about 5 minutes on two idle CPU cores with AVX-512; the first lines of a run estimate
the time on your machine. Expected at 40 frames: F-ARI .999, ARI .999 (README has three seeds).
docs/quickstart.md explains each setting.
"""

from ml_collections import ConfigDict

from stii_jax.config import default_config


def get_config() -> ConfigDict:
    """Return the quickstart's config."""
    config = default_config()
    config.batch_size = 6
    config.data.variant = "mini"
    # Each video has its own colours, background included. If a colour always stood for the same ball, one slot could
    # take all balls; if the background were always the same, all slots would share it.
    config.data.options.num_balls = (2, 2)
    config.data.options.box_size = 4.0
    config.data.options.palette = "vivid"
    config.data.options.num_colors = 6
    config.data.options.shuffle_colors = True
    config.data.options.random_background = True
    config.data.num_frames = 1
    config.data.num_threads = 1

    config.model.architecture = "pyramid"
    config.model.num_slots = 3
    config.model.num_refinements = 3
    config.model.latent_dim = 16
    config.model.decoder_channels = 16
    config.model.refiner_channels = 16

    config.optim.learning_rate = 1.5e-3
    config.optim.warmup_steps = 100
    config.optim.decay = "cosine"
    config.train.num_steps = 700
    config.curriculum.stages = ((4, 4, 1_000), (16, 2, 1_200))
    config.train.log_every = 20
    config.train.eval_every = 1_460
    config.train.checkpoint_every = 200

    config.eval.num_videos = 100
    config.eval.periodic_videos = 20
    config.eval.batch_size = 20
    # An object missed in the first frame stays missed, so several restarts are tried.
    config.eval.update(segmentation="responsibilities", first_noise="once", restarts=8)
    return config
