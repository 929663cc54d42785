"""Add a motion model to a trained model: decompose training videos, learn from their tracks, write both."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict
from tqdm import tqdm

from stii_jax import pretrained
from stii_jax.config import ConfigError
from stii_jax.data.pipeline.source import VideoDataset
from stii_jax.models.motion import HISTORY
from stii_jax.models.registry import SYSTEMS, make_evaluated_model
from stii_jax.models.stii import STII
from stii_jax.models.video_model import EVALUATION_SEED, example_keys
from stii_jax.pretrained.trained import Trained
from stii_jax.runs.dataset import dataset_of
from stii_jax.runs.setup import load_dataset
from stii_jax.storage.digests import digest_json, digest_leaves
from stii_jax.storage.files import write_atomic
from stii_jax.training.motion import STEPS_PER_CALL, Learned, Tracks, learn
from stii_jax.types import Params

_FOLDER = "tracks"
_VIDEOS_PER_FILE = 16
_OF_TRACKS = (
    *("num_slots", "num_refinements", "restarts", "reseeds", "reseed_every", "slot_cost", "schedule", "first_noise"),
    "segmentation",
)
"""The settings of `config.eval` that the tracks depend on."""


def check_motion(config: ConfigDict, num_frames: int, num_videos: int) -> None:
    """Check that a motion model can be learned, before any video is decomposed.

    Args:
        config: the complete config.
        num_frames: length of the dataset's training videos.
        num_videos: number of training videos.

    Raises:
        ConfigError: the system has no slots that can be moved, or there are too few videos, or they are too short.
    """
    if config.system != "stii":
        known = ", ".join(name for name, system in SYSTEMS.items() if system.is_stii and system.predicts)
        raise ConfigError(f"--mode learn_motion needs a model of the system {known}, but this one is {config.system!r}")
    settings = config.motion
    needed = HISTORY + settings.horizon
    if min(settings.num_frames, num_frames) < needed:
        raise ConfigError(
            f"learning a motion needs clips of {needed} frames ({HISTORY} + config.motion.horizon), but the videos "
            f"have {num_frames} and config.motion.num_frames is {settings.num_frames}: give a shorter "
            "--config.motion.horizon, or longer videos"
        )
    if min(settings.num_videos, num_videos) < 2:
        raise ConfigError("learning a motion needs at least two videos, one of them held out: give more videos")


def learn_motion(config: ConfigDict, workdir: Path, trained: Trained, output: Path) -> None:
    """Learn a motion model for `trained`, and write both to the file `output`.

    The tracks are saved in `workdir`, so that the same command resumes after an interruption.
    """
    pretrained.check_output(output)
    source = load_dataset(config)
    check_motion(config, source.frames_of("train"), source.split_sizes["train"])
    config = config.copy_and_resolve_references()
    config.model.predictor, config.eval.predictor = "motion", ""
    model = make_evaluated_model(config, source.image_size)
    assert isinstance(model, STII)  # see check_motion
    tracks = collect_tracks(config, model, trained.params, source, workdir / _FOLDER)
    learned = _learn(config, model, tracks)
    params = {**trained.params, "motion": learned.params}
    size, horizon = source.image_size, config.motion.horizon
    facts = {"num_videos": len(tracks.area), "num_frames": tracks.area.shape[1], "horizon": horizon}
    facts |= {f"{name}_error": error for name, error in learned.errors.items()}
    kept = {name: fact for name, fact in trained.facts.items() if name != "prediction"}  # scores of another predictor
    with_motion = trained.config.copy_and_resolve_references()
    with_motion.model.predictor, with_motion.motion = "motion", config.motion
    pretrained.save(output, Trained(with_motion, params, {**kept, "motion": facts}))
    pixels = {name: error * size for name, error in learned.errors.items()}
    print(
        f"{output}: after {horizon} predicted frames, held-out objects are {pixels['motion']:.1f} pixels from where "
        f"they were found (with constant velocity {pixels['velocity']:.1f}), in frames of {size}"
    )


def collect_tracks(config: ConfigDict, model: STII, params: Params, source: VideoDataset, folder: Path) -> Tracks:
    """Decompose `config.motion.num_videos` training videos. Tracks that are already in `folder` are read instead."""
    count = min(config.motion.num_videos, source.split_sizes["train"])
    length = min(config.motion.num_frames, source.frames_of("train"))
    of = digest_json(
        {
            "params": digest_json(digest_leaves({k: v for k, v in params.items() if k != "motion"})),
            "data": repr(dataset_of(config, evaluated=False)),
            "eval": {k: v for k, v in config.eval.to_dict().items() if k in _OF_TRACKS},
            "length": length,
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    numbers = range(0, count, _VIDEOS_PER_FILE)
    missing = [first for first in numbers if not _path(folder, of, first).exists()]
    if len(missing) < len(numbers):
        print(f"{len(numbers) - len(missing)} of {len(numbers)} files of tracks are already in {folder}", flush=True)
    videos = _videos(source, length, count) if missing else iter(())
    decompose = jax.jit(lambda params, video, index: _tracks(model, params, video, index))
    for first in tqdm(numbers, desc="videos decomposed", unit="batch", mininterval=5):
        path = _path(folder, of, first)
        if path.exists():
            parts.append(_read(path))
            continue
        video = next(batch for number, batch in videos if number == first)
        index = np.arange(first, first + _VIDEOS_PER_FILE)
        tracks = Tracks(*map(np.asarray, decompose(params, video, index)))
        tracks = Tracks(*(a[: count - first] for a in tracks))
        _write(path, tracks)
        parts.append(tracks)
    return Tracks(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _videos(source: VideoDataset, length: int, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield batches of training videos, each with the number of its first video."""
    batches = source.eval_batches("train", length, _VIDEOS_PER_FILE, count)
    yield from ((i * _VIDEOS_PER_FILE, batch["video"]) for i, batch in enumerate(batches))


def _tracks(model: STII, params: Params, video: Any, index: Any) -> Tracks:
    """The tracks of whole videos, computed frame by frame without storing images."""
    keys = example_keys(jax.random.key(EVALUATION_SEED), index)

    def step(state, frame):
        _, state = model.stream(params, state, frame.astype(jnp.float32) / 255.0, keys)
        recent = state.recent
        return state, Tracks(recent.code, recent.position[:, :, -1], recent.area[:, :, -1])

    _, tracks = lax.scan(step, model.initial_state(params, len(video)), jnp.swapaxes(jnp.asarray(video), 0, 1))
    return jax.tree.map(lambda a: a.swapaxes(0, 1), tracks)


def _learn(config: ConfigDict, model: STII, tracks: Tracks) -> Learned:
    settings = config.motion.to_dict()
    kept = ("num_steps", "batch_size", "learning_rate", "horizon", "symmetries")
    with tqdm(total=settings["num_steps"], desc="steps of learning", unit="step", mininterval=5) as bar:

        def report(step, loss):
            bar.update(min(STEPS_PER_CALL, step - bar.n))
            bar.set_postfix_str(f"loss {loss:.3f}")

        return learn(model.motion, tracks, **{k: settings[k] for k in kept}, seed=config.seed, report=report)


def _path(folder: Path, of: str, first: int) -> Path:
    return folder / f"{of[:12]}-{first:05}.npz"


def _write(path: Path, tracks: Tracks) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **tracks._asdict())
    write_atomic(path, buffer.getvalue())


def _read(path: Path) -> Tracks:
    try:
        with np.load(path, allow_pickle=False) as file:
            return Tracks(*(file[name] for name in Tracks._fields))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} is damaged: delete it and run the same command again") from error
