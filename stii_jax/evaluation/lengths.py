"""Functions that shorten the clips of a config to fit the videos of a folder."""

from ml_collections import ConfigDict

from stii_jax.config import flatten
from stii_jax.data.pipeline.source import VideoDataset


def fit_to_videos(config: ConfigDict, source: VideoDataset) -> ConfigDict:
    """Return the config with no clip longer than the videos.

    A dataset of files, such as `video_folder`, may have shorter videos than its settings announce. Their length is
    known once the dataset is built. Stages, evaluated lengths and forecasts are then shortened to it. All other configs
    are returned unchanged, because their lengths are checked elsewhere.
    """
    longest = source.frames_of("train")
    if longest >= source.builder.builder_config.frames_of("train"):
        return config
    config = config.copy_and_resolve_references()
    config.data.num_frames = min(config.data.num_frames, longest)
    config.curriculum.stages = tuple((min(frames, longest), *rest) for frames, *rest in config.curriculum.stages)
    settings = config.eval
    settings.lengths = tuple(sorted({min(length, longest) for length in settings.lengths}))
    if (total := settings.observed_frames + settings.predict_frames) > longest > 1:
        settings.predict_frames = max(longest * settings.predict_frames // total, 1)
        settings.observed_frames = longest - settings.predict_frames
    config.probe.num_frames = max(min(config.probe.num_frames, longest - 1), 1)
    return config


def describe_shortening(config: ConfigDict, source: VideoDataset) -> str:
    """Describe the training and evaluation lengths that `fit_to_videos` shortens; "" if it shortens none."""
    before, after = flatten(config), flatten(fit_to_videos(config, source))
    names = ("data.num_frames", "curriculum.stages", "eval.lengths")
    changes = [f"{name} is {after[name]} instead of {before[name]}" for name in names if before[name] != after[name]]
    return f"the videos give clips of {source.frames_of('train')} frames: {', '.join(changes)}" if changes else ""
