"""A 3-D world rendered by this package, a stand-in for CLEVRER: 64x64, six slots, R = 5, clips of 4 to 40 frames.

    python -m stii_jax.main --config tabletop --workdir runs/tabletop
    python -m stii_jax.main --workdir runs/tabletop --mode evaluate --config.eval.split=test6 --config.eval.num_slots=7

Hardware: one or more GPUs with 24 GB. Not yet run at full size; results/PLAN.md lists the pending run.

    python -m stii_jax.main --config tabletop:mini --workdir runs/tabletop-mini

is the version for two CPU cores: two or three objects at 32x32, 26 minutes on an AMD EPYC. Expected at 40 frames: ARI
.79, F-ARI .83 (one seed).

    python -m stii_jax.main --config tabletop:pyramid --workdir runs/tabletop-pyramid --init balls

trains the pyramid on 2,000 videos at full size, from the included model `balls`, in 39 minutes on one core. Expected at
40 frames: ARI .91, F-ARI .95 (one seed). The included model `tabletop` is its seed 0.
"""

from ml_collections import ConfigDict

from stii_jax.config import check_argument, default_config, load_config


def get_config(argument: str = "default") -> ConfigDict:
    """Return the config for `argument`: "default", "mini" or "pyramid"."""
    check_argument("tabletop", argument, ("default", "mini", "pyramid"))
    if argument == "pyramid":
        return _pyramid()
    config = default_config()
    config.data.dataset = "tabletop"
    config.data.variant = argument
    config.model.num_slots = 6
    config.model.num_refinements = 5
    config.train.num_steps = 50_000
    config.curriculum.stages = ((6, 20, 40_000), (10, 12, 40_000), (20, 6, 30_000), (40, 4, 30_000))
    config.curriculum.patience = 10_000
    return _two_cores(config) if argument == "mini" else config


def _two_cores(config: ConfigDict) -> ConfigDict:
    """Adapt configs/quickstart.py (see docs/quickstart.md): one additional slot, a smaller sigma and longer stages.

    Measured with frames that start from the previous posterior. Starting from the prior, half the steps gave ARI .81
    and F-ARI .77 (results/quick); the full number has not been tried.
    """
    config.batch_size = 6
    config.data.options.random_floor = True
    config.data.num_frames = 1
    config.data.num_threads = 1
    config.model.update(
        num_slots=4,
        num_refinements=3,
        latent_dim=16,
        decoder_channels=16,
        refiner_channels=16,
        posterior_start="previous",
        sigma=0.15,
    )
    config.optim.update(learning_rate=1.5e-3, warmup_steps=100, decay="cosine")
    config.train.update(num_steps=6_000, log_every=20, eval_every=2_000, checkpoint_every=200)
    config.curriculum.update(stages=((4, 4, 2_500), (16, 2, 1_500)), patience=0)
    config.eval.update(num_videos=100, periodic_videos=30, batch_size=20)
    return config


def _pyramid() -> ConfigDict:
    """Adapt `balls:mixture` to start from `balls`: a smaller sigma, and single frames at half the resolution first."""
    config = load_config("balls:mixture").copy_and_resolve_references()
    options = {"random_floor": True, "num_train": 2_000, "num_validation": 20, "num_test": 100, "num_test6": 100}
    with config.unlocked():
        config.data.update(dataset="tabletop", variant="default")
        config.data.options, config.eval.options = ConfigDict(options), ConfigDict()
        config.eval.variant = ""
    config.model.update(num_slots=6, sigma=0.1)
    half = ("data.options.image_size=32", "loss.kl=2.5")  # a quarter of the pixels, so a quarter of the KL's weight
    config.curriculum.first = half
    config.data.num_frames, config.batch_size, config.train.num_steps = 1, 8, 300
    config.curriculum.stages = ((4, 4, 700, *half), (12, 2, 300, *half), (4, 4, 600), (12, 2, 400))
    config.train.update(eval_every=2_300, checkpoint_every=100)
    config.eval.update(num_slots=7, slot_cost=30.0, restarts=8, lengths=(10, 20, 30, 40))
    config.eval.update(num_videos=64, periodic_videos=4, batch_size=4)
    return config
