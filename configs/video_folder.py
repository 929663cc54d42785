"""Your own videos: a folder of video files or image sequences, at 64x64, with six slots.

    python -m stii_jax.main --config video_folder --workdir runs/mine --config.data.options.folder=/my/videos

docs/datasets.md tells which files are read, how they are split and cut, and how to give labels. Start from few slots
(the objects, and one for the background) and short clips. Hardware and time depend on the videos; a GPU is advised.
"""

from ml_collections import ConfigDict

from stii_jax.config import default_config


def get_config() -> ConfigDict:
    """The config for a folder of videos."""
    config = default_config()
    config.data.dataset = "video_folder"
    config.data.variant = "default"
    config.model.num_slots = 6
    config.optim.warmup_steps = 1_000
    config.train.num_steps = 50_000
    config.curriculum.stages = ((8, 16, 30_000), (16, 8, 30_000))
    config.curriculum.patience = 10_000
    config.eval.split = "validation"
    config.eval.lengths = (8, 16)
    config.eval.num_videos = 100
    config.eval.observed_frames = 10
    config.eval.predict_frames = 6
    return config
