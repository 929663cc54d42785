"""All systems on one small task that takes minutes on a CPU core: two bouncing balls at 24x24 pixels.

    python -m stii_jax.main --config small:rnem --workdir runs/small-rnem

`small:stii` and `small:iodine` see balls and backgrounds of any colour, like the quickstart. `small:rnem`,
`small:ddpae` and `small:stii,white` see the same motion in white on black, the only kind the first two can describe.
With the exact likelihood STII does not separate white balls, so it has a soft one there (docs/fidelity.md, "Sigma and
the mixture"). Each takes two to four minutes on one core, too little to judge the systems at the paper's size.
`configs/sweeps/baselines.py` runs them all over several seeds; its results are in results/quick.
"""

from ml_collections import ConfigDict

from stii_jax.config import check_argument, default_config


def get_config(argument: str = "stii") -> ConfigDict:
    """Return the config of a system: "stii", "iodine", "rnem", "ddpae", or "stii,white"."""
    check_argument("small", argument, (*SYSTEMS, *(f"{system},white" for system in SYSTEMS if system != "iodine")))
    system, _, frames = argument.partition(",")
    config = default_config()
    config.data.variant = "mini"
    config.data.options.image_size = 24
    config.data.options.num_balls = (2, 2)
    config.data.options.box_size = 4.0
    config.data.num_threads = 1
    config.eval.num_videos = 100
    config.eval.batch_size = 20
    config.eval.num_pictures = 2
    config.train.log_every = 20
    config.train.eval_every = 10_000
    config.train.checkpoint_every = 200
    config.optim.warmup_steps = 100
    config.optim.decay = "cosine"
    SYSTEMS[system](config)
    if frames or system in ("rnem", "ddpae"):
        config.data.options.num_colors = 0
        config.loss.mask_entropy = 0.1
        if system == "stii":
            config.model.temperature = 5.0
    else:
        config.data.options.palette = "vivid"
        config.data.options.num_colors = 6
        config.data.options.shuffle_colors = True
        config.data.options.random_background = True
    return config


def _stii(config: ConfigDict) -> None:
    config.model.update(num_slots=3, num_refinements=3, latent_dim=16, decoder_channels=16, refiner_channels=16)
    config.optim.learning_rate = 1.5e-3
    _train(config, 1, 6, 450)
    config.curriculum.stages = ((4, 4, 300),)


def _iodine(config: ConfigDict) -> None:
    _stii(config)
    config.system = "iodine"
    config.model.update(conditional_prior=False, conditional_decoder=False, posterior_start="learned")
    _train(config, 1, 6, 900)
    config.curriculum.stages = ()


def _rnem(config: ConfigDict) -> None:
    config.system = "rnem"
    config.rnem.update(num_slots=3, hidden_dim=64, encoder_channels=(8, 16, 32), feature_dim=128, attention_dim=32)
    config.optim.update(learning_rate=2e-3, clip_norm=1e6)
    _train(config, 20, 8, 600)


def _ddpae(config: ConfigDict) -> None:
    config.system = "ddpae"
    # A component is at most 1 / (2 - 0.3) of a frame wide, which fits one ball but not two.
    config.ddpae.update(num_slots=3, scale_prior=2.0, scale_range=0.3, observed_fraction=0.75)
    config.optim.update(learning_rate=1e-3, clip_norm=1e6)
    _train(config, 16, 8, 1_500)


def _train(config: ConfigDict, num_frames: int, batch_size: int, num_steps: int) -> None:
    config.data.num_frames, config.batch_size, config.train.num_steps = num_frames, batch_size, num_steps


SYSTEMS = {"stii": _stii, "iodine": _iodine, "rnem": _rnem, "ddpae": _ddpae}
