"""Checks of a config against its datasets, before anything is read or compiled."""

import math
import shlex
from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from stii_jax.config import ConfigError
from stii_jax.data.options import VideoConfig
from stii_jax.data.pipeline.source import VideoDataset
from stii_jax.devices.parallel import check_batch_size
from stii_jax.models.video_model import VideoModel
from stii_jax.training.curriculum import Curriculum, make_curriculum


def check_training(config: ConfigDict, datasets: Sequence[VideoConfig | VideoDataset]) -> None:
    """Check that a config can be trained on its datasets, one per stage; reads and compiles nothing.

    Raises:
        ConfigError: settings do not fit the videos, or each other.
        DeviceError: the devices cannot share a batch.
    """
    curriculum, train, warmup = make_curriculum(config), config.train, config.optim.warmup_steps
    for number, (stage, dataset) in enumerate(zip(curriculum.stages, datasets, strict=True)):
        where = f"curriculum.stages[{number - 1}]: " if number else ""
        check_batch_size(stage.batch_size, f"{where}batch_size")
        check_accumulation(train.accumulation, stage.batch_size, where)
        if stage.num_frames > (longest := dataset.frames_of("train")):
            raise ConfigError(
                f"config.{where or 'data.'}num_frames is {stage.num_frames}, but the videos have {longest} frames: "
                f"give {_shorter(config, longest)}, or make longer videos with --config.data.options.num_frames"
            )
    if config.eval.periodic_videos and (missing := {"train", "validation"} - set(datasets[0].splits)):
        split = "" if config.eval.split in datasets[0].splits else f" --config.eval.split={datasets[0].splits[0]}"
        raise ConfigError(
            f"the dataset has no {missing.pop()} videos: evaluate at the end only, with "
            f"--config.eval.periodic_videos=0{split}"
        )
    # A logged line is the mean since the previous one, so a run resumes exactly only at lines. Lines hold evaluations.
    for name in ("checkpoint_every", "eval_every"):
        if train[name] % train.log_every:
            raise ConfigError(
                f"config.train.{name} is {train[name]}, expected a multiple of config.train.log_every "
                f"({train.log_every}): change one of them"
            )
    if curriculum.held_out_patience and not config.eval.periodic_videos:
        raise ConfigError(
            f"config.curriculum.held_out_patience is {curriculum.held_out_patience}, but no videos are held out: give "
            "--config.eval.periodic_videos=4, or --config.curriculum.held_out_patience=0"
        )
    if warmup >= curriculum.num_steps:
        raise ConfigError(
            f"config.optim.warmup_steps is {warmup}, expected less than the run's {curriculum.num_steps} steps: "
            "change --config.optim.warmup_steps"
        )


def _shorter(config: ConfigDict, longest: int) -> str:
    """Return the settings, as command-line flags, that limit clips to the longest possible length."""
    stages = tuple((min(frames, longest), *rest) for frames, *rest in config.curriculum.stages)
    settings = {"data.num_frames": config.data.num_frames, "curriculum.stages": config.curriculum.stages}
    new = {"data.num_frames": min(config.data.num_frames, longest), "curriculum.stages": stages}
    return " ".join(
        f"--config.{key}={shlex.quote(repr(new[key]).replace(' ', ''))}" for key in new if new[key] != settings[key]
    )


def check_accumulation(accumulation: int, batch_size: int, where: str = "") -> None:
    """Raise `ConfigError` if a device cannot cut its part of a batch into equal pieces."""
    if (each := batch_size // jax.device_count()) % accumulation:
        raise ConfigError(
            f"config.train.accumulation is {accumulation}, expected a divisor of {each}, the videos per device of "
            f"{where}batch_size={batch_size}: change one of them, e.g. "
            f"--config.train.accumulation={math.gcd(each, accumulation)}"
        )


def untrained_frames(
    models: Sequence[VideoModel], evaluated_model: VideoModel, curriculum: Curriculum, config: ConfigDict
) -> str:
    """Return a warning if an evaluation has frames with fewer refinements than any in training, "" otherwise.

    Late frames get one refinement. A model that was never trained with so few loses its objects there. With four balls
    at the paper's size, F-ARI fell from .70 on clips of four to .37 at 40 frames (results/h200).
    """
    longest = max(stage.num_frames for stage in curriculum.stages)
    trained = {n for model, stage in zip(models, curriculum.stages) for n in model.schedule(stage.num_frames)}
    evaluated = evaluated_model.schedule(max(config.eval.lengths))
    late = next((frame for frame, refinements in enumerate(evaluated) if refinements not in trained), None)
    if late is None:
        return ""
    return (
        f"clips of at most {longest} frames train no frame with {evaluated[late]} refinements, but frame {late + 1} of "
        "an evaluated video has so many: the model may lose its objects there. Train on longer clips at the end, by "
        "--config.curriculum.stages, or with a lower --config.model.num_refinements"
    )
