"""Your own videos: a folder of video files or image sequences, at 64x64, with six slots.

    python -m stii_jax.main --config video_folder --workdir runs/mine --config.data.options.folder=/my/videos

docs/datasets.md explains which files are read, how they are split and cut, and how to add labels. Start with few slots
(one per object, and one for the background). Clips are shortened to the length of the videos if necessary. A GPU is
recommended; the first lines of a run estimate its time.

    python -m stii_jax.main --config video_folder:small --workdir runs/mine --config.data.options.folder=/my/videos

is the version for two CPU cores: 32x32, four slots, the network of configs/quickstart.py.
"""

from ml_collections import ConfigDict

from stii_jax.config import check_argument, default_config


def get_config(argument: str = "default") -> ConfigDict:
    """Return the config for `argument`: "default" or "small"."""
    check_argument("video_folder", argument, ("default", "small"))
    config = default_config()
    config.data.dataset = "video_folder"
    config.data.variant = "default"
    # If background and objects look the same in every clip, one slot takes several of them: see docs/datasets.md.
    config.data.recolor = True
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
    return _two_cores(config) if argument == "small" else config


def _two_cores(config: ConfigDict) -> ConfigDict:
    """Use the network and stages of configs/quickstart.py (see docs/quickstart.md) with a smaller sigma.

    The smaller sigma makes objects of low contrast worth a slot.
    """
    config.batch_size = 6
    config.data.options.image_size = 32
    config.data.num_frames = 1
    config.data.num_threads = 1
    config.model.update(
        num_slots=4, num_refinements=3, latent_dim=16, decoder_channels=16, refiner_channels=16, sigma=0.2
    )
    config.optim.update(learning_rate=1.5e-3, warmup_steps=100, decay="cosine")
    config.train.update(num_steps=1_900, log_every=20, eval_every=500, checkpoint_every=100)
    config.curriculum.update(stages=((4, 4, 1_300), (16, 2, 1_300)), patience=0)
    config.eval.update(periodic_videos=20, batch_size=20)
    return config
