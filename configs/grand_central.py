"""Grand Central Station: people in one region of 128x128 pixels, eight slots, sequences of 20 frames; no labels.

    python -m stii_jax.main --config grand_central --workdir runs/station --config.data.manual_dir=/my/station

with the dataset's AVI in /my/station. For any other recording by a static camera:

    python -m stii_jax.main --config grand_central:static_camera --workdir runs/street \
        --config.data.options.file=/my/street.mp4 --config.data.options.region="(100, 50, 128, 128)"

Hardware: one or more GPUs with 24 GB. The paper reports no numbers for this data, only figures; we add the
reconstruction's MSE. Evaluation uses ten slots, as in the paper.
"""

from ml_collections import ConfigDict

from stii_jax.config import check_argument, default_config


def get_config(argument: str = "grand_central") -> ConfigDict:
    """Return the config for `argument`: "grand_central" or "static_camera"."""
    check_argument("grand_central", argument, ("grand_central", "static_camera"))
    config = default_config()
    config.data.dataset = argument
    config.data.variant = "default"
    config.model.num_slots = 8
    config.model.schedule = "paper"
    config.batch_size = 16
    config.train.num_steps = 50_000
    config.curriculum.stages = ((10, 8, 40_000), (20, 4, 40_000))
    config.curriculum.patience = 10_000
    config.eval.num_slots = 10
    config.eval.lengths = (10, 20)
    config.eval.observed_frames = 10
    return config
