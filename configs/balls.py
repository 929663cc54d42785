"""Bouncing balls at the paper's size: 64x64, four balls, 50,000 videos, five slots, R = 6, clips of 4 to 40 frames.

    python -m stii_jax.main --config balls:color --workdir runs/balls-color
    python -m stii_jax.main --config balls:binary --workdir runs/balls-binary

Hardware: one or more GPUs with 24 GB; the paper took about a day on eight GTX 1080 Ti. Expected (the paper's Table 1,
40 frames): color ARI .730, F-ARI .9999, MSE .0002; binary ARI .729, F-ARI .9999, MSE .0004. Not yet run here at full
size; results/PLAN.md lists the pending runs.

`balls:color,provide` and `balls:binary,provide` use the settings of the program behind the published numbers.

`balls:color,varied` takes half an hour on an H200. Every training video has a random background and shuffled colours,
clips start as single frames, and R is 3. It is evaluated on the paper's videos. On black backgrounds the model first
learns to draw none of the balls and stays there for thousands of steps (results/h200). With R = 6, slots lose their
balls (results/quick). Not yet run.

`balls:mixture` takes an hour on two CPU cores. It trains the pyramid on videos with random ball and background colours,
at half the resolution until the last two stages. The model `balls` is its seed 0 (results/balls). Expected: F-ARI .99
in colour. This config fixes the number of balls with five slots; the pretrained model infers it (`eval.slot_cost`).
Evaluation uses the paper's colour videos. To evaluate on the black-and-white ones:

    python -m stii_jax.main --workdir runs/balls-mixture --mode evaluate --config.eval.options.num_colors=0

`python -m stii_jax.sweep --sweep balls --output runs/paper-balls` does both, and six to eight balls, for several seeds.

`balls:color,iodine` and `balls:binary,iodine` train the baseline IODINE on single frames. SEQ-IODINE is the same run
evaluated frame by frame (on binary balls with `--config.eval.clamp=10`):

    python -m stii_jax.main --config balls:color,iodine --workdir runs/iodine
    python -m stii_jax.main --workdir runs/iodine --mode evaluate --config.eval.system=seq_iodine

`balls:binary,rnem` and `balls:binary,ddpae` train the baselines R-NEM (Table 1) and DDPAE (velocities), with the known
settings of their papers.

`balls:mixture,iodine`, `balls:white,rnem` and `balls:white,ddpae` train the baselines in about the time of
`balls:mixture`: an hour on two cores. IODINE learns from the same videos of all kinds, R-NEM and DDPAE from white balls
on black, the only ones that they can describe.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from stii_jax.config import check_argument, default_config

VARIANTS = {"color": "color4", "binary": "binary4", "mixture": "color4", "white": "binary4"}


def get_config(argument: str = "color") -> ConfigDict:
    """Return the config for `argument`: the kind of videos, optionally with a baseline or preset: "color,iodine"."""
    whole = [frames for frames in VARIANTS if frames != "white"]  # STII learns white balls with the others
    check_argument("balls", argument, [*whole, *(f"{name},{key}" for name in PRESETS for key in PRESETS[name])])
    frames, _, preset = argument.partition(",")
    config = default_config("provide" if preset == "provide" else "paper")
    config.data.variant = VARIANTS[frames]
    config.loss.mask_entropy = 0.1 if VARIANTS[frames] == "binary4" else 0.0
    # Clips grow and the batch shrinks as 1/T (appendix D); a stage ends early when its loss has stalled.
    config.train.num_steps = 50_000
    config.curriculum.stages = ((6, 20, 40_000), (10, 12, 40_000), (20, 6, 30_000), (40, 4, 30_000))
    config.curriculum.patience = 10_000
    if argument in ("color", "binary"):
        config.model.schedule = "paper"
    if frames == "mixture":
        _mixture(config)
    if preset and (change := PRESETS[frames][preset]):
        change(config)
    return config


def _varied(config: ConfigDict) -> None:
    """Randomise training backgrounds and colours, so that they must be inferred; raise the learning rate."""
    config.data.options.update(shuffle_colors=True, random_background=True, num_train=10_000)
    config.eval.options.update(shuffle_colors=False, random_background=False)
    config.optim.update(learning_rate=7e-4, warmup_steps=300, decay="cosine")
    config.model.num_refinements = 3
    config.data.num_frames, config.batch_size, config.train.num_steps = 1, 32, 2_000
    config.curriculum.stages = ((4, 16, 6_000), (10, 8, 8_000), (20, 4, 8_000))
    config.curriculum.patience = 0


def _mixture(config: ConfigDict) -> None:
    """Train the pyramid on videos of all kinds, at half the resolution until the last two stages."""
    config.data.options.update(palette="both", num_colors=16, shuffle_colors=True, random_background=True)
    config.data.options.update(black_share=0.3, one_color_share=0.25, white_share=0.1, num_train=20_000)
    for option, value in (
        *(("palette", "paper"), ("num_colors", 4), ("shuffle_colors", False), ("random_background", False)),
        *(("black_share", 0.0), ("one_color_share", 0.0), ("white_share", 0.0)),
    ):
        config.eval.options[option] = value
    config.model.update(architecture="pyramid", num_refinements=3, latent_dim=32)
    config.model.update(decoder_channels=32, refiner_channels=32)
    config.loss.mask_entropy = 1.0  # otherwise several slots share the background and leave too few for the balls
    config.optim.update(learning_rate=1e-3, warmup_steps=100, decay="cosine")
    # A quarter of the pixels, so a quarter of the KL's weight.
    half = ("data.options.image_size=32", "loss.kl=2.5")
    # A soft mixture first separates the balls, each in a region that includes the black around it. The exact
    # likelihood on coloured backgrounds then gives the background its own slot, which carries over to black.
    config.curriculum.first = ("model.temperature=10", "loss.mask_entropy=0", *half)
    inferred = ("data.options.black_share=0", "data.options.white_share=0", *half)
    config.data.num_frames, config.batch_size, config.train.num_steps = 1, 8, 500
    config.curriculum.stages = (
        *((1, 8, 1_200, *inferred), (4, 4, 3_000, *inferred), (12, 2, 2_000, *inferred)),
        *((4, 4, 2_000), (16, 2, 1_500)),
    )
    config.curriculum.patience = 0
    config.train.update(log_every=20, eval_every=5_100, checkpoint_every=100)
    config.eval.update(segmentation="responsibilities", first_noise="once", restarts=16, reseeds=1)
    config.eval.update(num_videos=200, periodic_videos=16)


def _iodine(config: ConfigDict) -> None:
    """Use the paper's settings for its baseline: beta 10, and as many frames per step as clips of four contain."""
    _without_past(config)
    config.loss.log_likelihood = 10.0
    _one_stage(config, num_frames=1, batch_size=128, num_steps=100_000)


def _rnem(config: ConfigDict) -> None:
    """Train on clips of 30 frames in batches of 64, with Adam at 1e-3 and unscaled gradients summed over pixels."""
    config.system = "rnem"
    config.optim.update(learning_rate=1e-3, clip_norm=1e6)
    _one_stage(config, num_frames=30, batch_size=64, num_steps=100_000)


def _ddpae(config: ConfigDict) -> None:
    """Observe half of 20 frames and predict the rest, with Adam at 1e-3. Components fit one ball: at most 14 pixels."""
    config.system = "ddpae"
    config.ddpae.scale_prior = 5.5
    config.optim.update(learning_rate=1e-3, clip_norm=1e6)
    _one_stage(config, num_frames=20, batch_size=100, num_steps=200_000)


def _mixture_iodine(config: ConfigDict) -> None:
    """Train IODINE like STII on videos of all kinds, on as many single frames as fit into the same time."""
    _without_past(config)
    config.model.num_refinements = 6
    _, _, _, *inferred = config.curriculum.stages[0]
    config.train.num_steps = 1_000  # it needs twice as many steps as STII to separate the balls
    config.curriculum.stages = ((1, 8, 4_000, *inferred), (1, 8, 2_200))
    config.train.eval_every = 10_000
    config.eval.update(first_noise="", restarts=1, reseeds=0)


def _white_rnem(config: ConfigDict) -> None:
    """Train R-NEM in the time of `balls:mixture`."""
    _rnem(config)
    _brief(config)
    _one_stage(config, num_frames=20, batch_size=4, num_steps=3_500)


def _white_ddpae(config: ConfigDict) -> None:
    """Train DDPAE in the time of `balls:mixture`, on short clips first. Components are wider than a ball."""
    _ddpae(config)
    _brief(config)
    config.ddpae.update(scale_prior=3.0, scale_range=0.7, observed_fraction=0.75)
    config.data.num_frames, config.batch_size, config.train.num_steps = 8, 20, 4_000
    config.curriculum.stages = ((20, 8, 2_500),)


def _without_past(config: ConfigDict) -> None:
    config.system = "iodine"
    config.model.update(conditional_prior=False, conditional_decoder=False, posterior_start="learned")


def _brief(config: ConfigDict) -> None:
    config.optim.update(warmup_steps=100, decay="cosine")
    config.data.options.num_train = 20_000
    config.train.update(log_every=20, eval_every=10_000, checkpoint_every=100)
    config.eval.update(num_videos=200, periodic_videos=16)


def _one_stage(config: ConfigDict, num_frames: int, batch_size: int, num_steps: int) -> None:
    config.data.num_frames, config.batch_size, config.train.num_steps = num_frames, batch_size, num_steps
    config.curriculum.stages = ()


# "provide" selects other defaults and changes nothing more.
Presets = dict[str, Callable[[ConfigDict], None] | None]
_PAPER: Presets = {"provide": None, "iodine": _iodine, "rnem": _rnem, "ddpae": _ddpae}
PRESETS: dict[str, Presets] = {
    "color": {**_PAPER, "varied": _varied},
    "binary": _PAPER,
    "mixture": {"iodine": _mixture_iodine},
    "white": {"rnem": _white_rnem, "ddpae": _white_ddpae},
}
