"""All systems on one small task that two CPU cores manage: two or three white balls on black, 32x32 pixels.

    python -m stii_jax.main --config small:rnem --workdir runs/small-rnem

`small:stii`, `small:iodine`, `small:rnem` and `small:ddpae` differ in the system and its training; the videos are the
same. Two to six minutes each on one core; small models, and no measure of what the systems can do at the paper's size.
`configs/sweeps/baselines.py` runs them all over seeds. Seed 0, 100 test videos of 40 frames: R-NEM F-ARI .91, ARI .02,
MSE .031; DDPAE .44, .57, .064 (over the first 10 frames .75, .90, .019); STII .18, .11, .080: with this budget it has
not learned to separate white balls on black, as it does balls and backgrounds of any colour (docs/quickstart.md).
"""

from ml_collections import ConfigDict

from stii_jax.config import default_config


def get_config(system: str = "stii") -> ConfigDict:
    """The config of a system."""
    if system not in SYSTEMS:
        raise ValueError(f"unknown system {system!r}: {', '.join(SYSTEMS)}")
    config = default_config()
    config.data.variant = "mini"
    config.data.options.num_colors = 0
    config.data.options.box_size = 7.0
    config.data.num_threads = 1
    config.eval.num_videos = 100
    config.eval.batch_size = 20
    config.train.log_every = 20
    config.train.eval_every = 10_000
    config.train.checkpoint_every = 200
    config.optim.warmup_steps = 100
    config.optim.decay = "cosine"
    SYSTEMS[system](config)
    return config


def _stii(config: ConfigDict) -> None:
    config.model.update(num_slots=4, num_refinements=3, latent_dim=16, decoder_channels=16, refiner_channels=16)
    config.model.posterior_start = "prior"
    config.loss.mask_entropy = 0.1
    config.optim.learning_rate = 1.5e-3
    _train(config, 1, 6, 700)
    config.curriculum.stages = ((4, 4, 300), (10, 2, 300))


def _iodine(config: ConfigDict) -> None:
    _stii(config)
    config.system = "iodine"
    config.model.update(conditional_prior=False, conditional_decoder=False, posterior_start="learned")
    _train(config, 1, 6, 1_500)
    config.curriculum.stages = ()


def _rnem(config: ConfigDict) -> None:
    config.system = "rnem"
    config.rnem.update(num_slots=4, hidden_dim=64, encoder_channels=(8, 16, 32), feature_dim=128, attention_dim=32)
    config.optim.update(learning_rate=2e-3, clip_norm=1e6)
    _train(config, 20, 8, 400)


def _ddpae(config: ConfigDict) -> None:
    config.system = "ddpae"
    # A component is at most 1 / (4 - 0.5) of a frame wide: room for one ball and not for two.
    config.ddpae.update(num_slots=4, scale_prior=4.0, scale_range=0.5, observed_fraction=0.75)
    config.optim.update(learning_rate=1e-3, clip_norm=1e6)
    _train(config, 8, 16, 1_500)


def _train(config: ConfigDict, num_frames: int, batch_size: int, num_steps: int) -> None:
    config.data.num_frames, config.batch_size, config.train.num_steps = num_frames, batch_size, num_steps


SYSTEMS = {"stii": _stii, "iodine": _iodine, "rnem": _rnem, "ddpae": _ddpae}
