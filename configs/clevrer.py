"""CLEVRER at the paper's size: 64x64, six slots, R = 5, clips of 4 to 40 frames.

    python -m stii_jax.main --config clevrer --workdir runs/clevrer --config.data.manual_dir=/my/clevrer

with CLEVRER's archives in /my/clevrer, unpacked or not (docs/datasets.md lists them). Sequences with six objects:

    python -m stii_jax.main --workdir runs/clevrer --mode evaluate --config.eval.split=test6 --config.eval.num_slots=7

Hardware: one or more GPUs with 24 GB. Expected (the paper's Table 1, 40 frames): ARI .268, F-ARI .931, MSE .0003. Not
yet run here; results/PLAN.md lists the pending runs. `clevrer:provide` uses the settings of the program behind the
published numbers, including its margin of 80 pixels.
"""

from ml_collections import ConfigDict

from stii_jax.config import check_argument, default_config


def get_config(argument: str = "paper") -> ConfigDict:
    """Return the config for `argument`, a preset of configs/default.py."""
    check_argument("clevrer", argument, ("paper", "provide"))
    config = default_config(argument)
    config.data.dataset = "clevrer"
    config.data.variant = "square" if argument == "provide" else "default"
    config.model.num_slots = 6
    config.model.num_refinements = 5
    config.model.schedule = "provide" if argument == "provide" else "paper"
    config.train.num_steps = 50_000
    config.curriculum.stages = ((6, 20, 40_000), (10, 12, 40_000), (20, 6, 30_000), (40, 4, 30_000))
    config.curriculum.patience = 10_000
    return config
