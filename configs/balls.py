"""Bouncing balls at the paper's size: 64x64, four balls, 50,000 videos, five slots, R = 6, clips of 4 to 40 frames.

    python -m stii_jax.main --config balls:color --workdir runs/balls-color
    python -m stii_jax.main --config balls:binary --workdir runs/balls-binary

Hardware: written for one GPU or more with 24 GB; the paper took about a day on eight GTX 1080 Ti. Expected (the
paper's Table 1, 40 frames): color ARI .730, F-ARI .9999, MSE .0002; binary ARI .729, F-ARI .9999, MSE .0004. Not yet
run here at full size: results/PLAN.md has the runs that wait.

`balls:color,provide` and `balls:binary,provide` take the settings of the program that made the published numbers.

`balls:color,iodine` and `balls:binary,iodine` train the baseline IODINE on single frames. SEQ-IODINE is the same run,
evaluated frame after frame (on binary balls with `--config.eval.clamp=10`):

    python -m stii_jax.main --config balls:color,iodine --workdir runs/iodine
    python -m stii_jax.main --workdir runs/iodine --mode evaluate --config.eval.system=seq_iodine
"""

from ml_collections import ConfigDict

from stii_jax.config import default_config

VARIANTS = {"color": "color4", "binary": "binary4"}


def get_config(argument: str = "color") -> ConfigDict:
    """The config for `argument`: "color" or "binary", with ",provide" for that preset or ",iodine" for the baseline."""
    frames, _, preset = argument.partition(",")
    if frames not in VARIANTS:
        raise ValueError(f"unknown frames {frames!r}: {' or '.join(VARIANTS)}")
    config = default_config("paper" if preset in ("", "iodine") else preset)
    config.data.variant = VARIANTS[frames]
    config.loss.mask_entropy = 0.1 if frames == "binary" else 0.0
    # Clips grow and the batch shrinks as 1/T (appendix D); a stage ends early when its loss has stalled.
    config.train.num_steps = 50_000
    config.curriculum.stages = ((6, 20, 40_000), (10, 12, 40_000), (20, 6, 30_000), (40, 4, 30_000))
    config.curriculum.patience = 10_000
    return _iodine(config) if preset == "iodine" else config


def _iodine(config: ConfigDict) -> ConfigDict:
    """The paper's setting of its baseline: beta 10; as many frames a step as clips of four have."""
    config.system = "iodine"
    config.model.update(conditional_prior=False, conditional_decoder=False)
    config.loss.log_likelihood = 10.0
    config.data.num_frames = 1
    config.batch_size = 128
    config.train.num_steps = 100_000
    config.curriculum.stages = ()
    return config
