"""Evaluation: held-out videos in chunks with carried state, scored at several lengths, and drawn."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from stii_jax.config import ConfigError
from stii_jax.data.options import VideoConfig
from stii_jax.data.pipeline.source import VideoDataset
from stii_jax.devices.parallel import check_batch_size, data_parallel, process_batch_indices
from stii_jax.evaluation import metrics, novelty, velocities
from stii_jax.evaluation.lengths import fit_to_videos
from stii_jax.models.registry import SYSTEMS, make_evaluated_model
from stii_jax.models.video_model import EVALUATION_SEED, example_keys
from stii_jax.storage.metric_log import MetricWriter
from stii_jax.types import Decomposition, Params
from stii_jax.visualization import trajectories, visualize

_FRAMES_PER_SECOND = 6
_FORECAST_LENGTHS = (3, 5, 7, 10)  # the paper's, as far as they are shorter than eval.predict_frames, which is added

Picture = tuple[np.ndarray, Decomposition, np.ndarray | None]


class Interrupted(Exception):
    """An evaluation was told to stop between two batches."""


def check_image_size(size: int) -> None:
    """Raise `ConfigError` unless the frame size is divisible by 4."""
    if size % 4:
        raise ConfigError(f"frames of {size}x{size} pixels: the encoder averages 4x4 pixels, give a multiple of 4")


def check_evaluation(config: ConfigDict, dataset: VideoConfig | VideoDataset) -> None:
    """Stops a config that cannot be evaluated on a dataset; reads and compiles nothing.

    Raises:
        ConfigError: a setting does not fit the videos.
        DeviceError: the devices cannot share a batch.
    """
    settings, size = config.eval, dataset.image_size
    check_batch_size(settings.batch_size, "eval.batch_size")
    check_image_size(size)
    if settings.split not in dataset.splits:
        raise ConfigError(f"config.eval.split is {settings.split!r}, expected one of {', '.join(dataset.splits)}")
    periodic = ("validation",) if settings.periodic_videos and "validation" in dataset.splits else ()
    longest = min(map(dataset.frames_of, (settings.split, *periodic)))
    if settings.lengths[0] > longest:
        raise ConfigError(
            f"config.eval.lengths is {settings.lengths}, but the videos have {longest} frames: "
            "change --config.eval.lengths"
        )


def check_predicts(config: ConfigDict) -> None:
    """Stops a config whose model predicts nothing; raises `ConfigError`."""
    if not SYSTEMS[system := config.eval.system or config.system].predicts:
        raise ConfigError(f"config.system is {system!r}, which knows no motion and predicts nothing")


def check_forecast(config: ConfigDict, dataset: VideoConfig | VideoDataset) -> None:
    """Stops a forecast that has no frames or more than the videos, or no model for it; raises `ConfigError`."""
    observed, ahead = config.eval.observed_frames, config.eval.predict_frames
    check_predicts(config)
    longest = dataset.frames_of(config.eval.split)
    if ahead < 1 or observed + ahead > longest:
        raise ConfigError(
            f"config.eval.observed_frames is {observed} and config.eval.predict_frames is {ahead}: give at least 1 to "
            f"each, and not more in all than the {longest} frames of the videos"
        )


def join(parts: list[Decomposition]) -> Decomposition:
    """Consecutive clips of the same videos as one."""
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays, axis=1), *parts)


def _gather(tree: Any) -> Any:
    """Per-video values of all processes, on the host of each."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return jax.tree.map(np.concatenate, multihost_utils.process_allgather(tree))


class Evaluator:
    """Runs the model on held-out videos. Its functions are compiled once, at the first call."""

    def __init__(self, config: ConfigDict, source: VideoDataset):
        config = fit_to_videos(config, source)
        check_evaluation(config, source)
        self.settings, self.source = config.eval, source
        self.model = make_evaluated_model(config, source.image_size)
        self.kind = config.train.parallel
        self._compiled: dict[Any, Any] = {}

    def periodic(
        self, params: Params, interrupted: Callable[[], bool] = lambda: False
    ) -> tuple[dict[str, float], list[Picture]]:
        """Scores of a few validation videos at the shortest of `eval.lengths`, and some of them to draw.

        Raises:
            Interrupted: `interrupted()` was true before a batch.
        """
        length, count = self.settings.lengths[0], self.settings.periodic_videos
        scores, pictures = self.evaluate(params, "validation", (length,), count, interrupted)
        return scores[0], pictures

    def preview(self, params: Params, interrupted: Callable[[], bool] = lambda: False) -> list[Picture]:
        """Some validation videos to draw, at the shortest of `eval.lengths`, without scores.

        Raises:
            Interrupted: `interrupted()` was true.
        """
        count = min(self.settings.num_pictures, self.settings.batch_size)
        batch, index = next(self._batches("validation", self.settings.lengths[0], count))
        if interrupted():
            raise Interrupted
        return self._pictures(batch, self.observe(params, batch["video"], index)[0], count)

    def num_cells(self, split: str, num_frames: int, num_videos: int) -> int:
        """Number of inference steps in an evaluation of `num_videos` videos, padded to whole batches."""
        count, size = min(num_videos, self.source.split_sizes.get(split, 0)), self.settings.batch_size
        return -(-count // size) * size * self.model.num_steps(num_frames)

    def final(self, params: Params) -> tuple[dict[str, Any], list[Picture]]:
        """Scores of `eval.num_videos` videos of `eval.split` at every length: the content of `results.json`."""
        started = time.monotonic()
        longest = self.source.frames_of(self.settings.split)
        lengths = tuple(length for length in self.settings.lengths if length <= longest)
        fits: list[dict[str, np.ndarray]] = []
        scores, pictures = self.evaluate(params, self.settings.split, lengths, self.settings.num_videos, fits=fits)
        fit = {name: np.concatenate([part[name] for part in fits]) for name in novelty.STATISTICS}
        seconds = time.monotonic() - started
        return {**scores[-1], "lengths": scores, novelty.KEY: novelty.summarize(fit), "seconds": seconds}, pictures

    def evaluate(
        self,
        params: Params,
        split: str,
        lengths: tuple[int, ...],
        num_videos: int,
        interrupted: Callable[[], bool] = lambda: False,
        fits: list[dict[str, np.ndarray]] | None = None,
    ) -> tuple[list[dict[str, Any]], list[Picture]]:
        """Scores at each length (videos' first frames), with standard errors over videos, and some videos to draw.

        Appends to `fits`, where given, the `novelty.STATISTICS` of every batch's videos, each of shape [N, T].
        """

        def decomposed():
            for batch, index in self._batches(split, max(lengths), num_videos):
                if interrupted():
                    raise Interrupted
                decomposition = self.observe(params, batch["video"], index)[0]
                if fits is not None:
                    fits.append(self._fit(decomposition, batch))
                yield batch, decomposition, decomposition

        return self._score(decomposed(), lengths)

    def forecast(self, params: Params) -> tuple[list[dict[str, Any]], list[Picture]]:
        """Scores of the frames imagined after `eval.observed_frames` seen ones, at several lengths; paper section 4.3.

        The pictures show the frames seen and then those imagined.
        """
        observed, ahead = self.settings.observed_frames, self.settings.predict_frames

        def imagined():
            for batch, index in self._batches(self.settings.split, observed + ahead, self.settings.num_videos):
                past, future = self.predict(params, batch["video"][:, :observed], index, ahead)
                yield batch, future, join([past, future])

        return self._score(imagined(), (*(n for n in _FORECAST_LENGTHS if n < ahead), ahead))

    def _batches(self, split: str, num_frames: int, num_videos: int) -> Iterator[tuple[dict, np.ndarray]]:
        """Held-out videos in order, and their numbers."""
        num_videos = min(num_videos, self.source.split_sizes[split])
        size = self.settings.batch_size
        processes = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        for i, batch in enumerate(self.source.eval_batches(split, num_frames, size, num_videos, **processes)):
            yield batch, i * size + process_batch_indices(size)

    def _score(
        self, items: Iterable[tuple[dict, Decomposition, Decomposition]], lengths: tuple[int, ...]
    ) -> tuple[list[dict[str, Any]], list[Picture]]:
        """Reduces `(batch, scored, drawn)`: `scored` decomposes the last frames of the batch, `drawn` all of them."""
        values: list[list[dict[str, np.ndarray]]] = [[] for _ in lengths]
        pictures: list[Picture] = []
        valid = []
        for batch, scored, drawn in items:
            skip = drawn.masks.shape[1] - scored.masks.shape[1]
            labels = {key: batch[key][:, skip:] for key in ("video", "segmentation") if key in batch}
            for of_length, length in zip(values, lengths):
                scores = dict(self._scores(scored, labels, length))
                if skip and "segmentation" in labels:  # a forecast: its motion begins in the last observed frame
                    steps = slice(skip - 1, skip + length)
                    last_and_imagined = jax.tree.map(lambda a, steps=steps: a[:, steps], drawn)
                    scores |= self._velocity_scores(last_and_imagined, batch["segmentation"][:, steps])
                of_length.append(_gather(scores))
            valid.append(_gather(batch["valid"]))
            pictures += self._pictures(batch, drawn, self.settings.num_pictures - len(pictures))
        results = []
        for of_length, length in zip(values, lengths):
            joined = {name: np.concatenate([part[name] for part in of_length]) for name in of_length[0]}
            summary = metrics.summarize(joined, np.concatenate(valid))
            results.append({**summary, "num_frames": length, "num_videos": int(np.concatenate(valid).sum())})
        return results, pictures

    def _pictures(self, batch: dict[str, np.ndarray], drawn: Decomposition, most: int) -> list[Picture]:
        """The first videos of a batch, with what they were decomposed into."""
        labels = batch.get("segmentation", [None] * len(batch["video"]))
        count = min(most, int(batch["valid"].sum()))
        return [(batch["video"][i], jax.device_get(visualize.one_video(drawn, i)), labels[i]) for i in range(count)]

    def observe(self, params: Params, video: np.ndarray, index: np.ndarray) -> tuple[Decomposition, Any]:
        """Decomposes whole videos in chunks of `eval.chunk_frames`, whatever their length; and the state after them."""
        chunk, parts = self.settings.chunk_frames, []
        state: Any = None
        for start in range(0, video.shape[1], chunk):
            frames = video[:, start : start + chunk]
            part, state = self._chunk(start, frames.shape[1])(
                params, frames, index, *(() if state is None else (state,))
            )
            parts.append(part)
        assert state is not None  # there is at least one frame
        return join(parts), state

    def predict(
        self, params: Params, video: np.ndarray, index: np.ndarray, num_frames: int
    ) -> tuple[Decomposition, Decomposition]:
        """Decomposition of the frames given, and of the `num_frames` imagined after them."""
        observed, state = self.observe(params, video, index)

        def imagine(params, state):
            local = state._replace(frame=state.frame[0])
            return self.model.predict(params, local, num_frames)[0]

        if ("predict", num_frames) not in self._compiled:
            self._compiled["predict", num_frames] = data_parallel(imagine, self.kind, shared_outputs=False)
        return observed, self._compiled["predict", num_frames](params, state)

    def draw(
        self, writer: MetricWriter, step: int, pictures: list[Picture], name: str, num_observed: int | None = None
    ) -> None:
        """Writes a strip and an animation of each video, `media/NAME_0.png` and so on; see `visualize.strip`."""
        for i, picture in enumerate(pictures):
            writer.write_images(step, {f"{name}_{i}": visualize.strip(*picture, num_observed=num_observed)})
            writer.write_gif(
                step, f"{name}_{i}", visualize.animation(*picture, num_observed=num_observed), _FRAMES_PER_SECOND
            )

    def draw_trajectories(
        self, writer: MetricWriter, step: int, pictures: list[Picture], num_observed: int | None = None
    ) -> None:
        """Writes the paths of each video's objects, `media/trajectories_0.png` and `.gif` and so on."""
        for i, picture in enumerate(pictures):
            name, still = f"trajectories_{i}", trajectories.draw_trajectories(*picture, num_observed=num_observed)
            writer.write_images(step, {name: still})
            frames = trajectories.trajectory_animation(*picture, num_observed=num_observed)
            writer.write_gif(step, name, frames, _FRAMES_PER_SECOND)

    def _scores(self, decomposition: Decomposition, batch: dict[str, np.ndarray], length: int) -> dict[str, jax.Array]:
        if "scores" not in self._compiled:
            num_objects = self.source.num_objects
            self._compiled["scores"] = jax.jit(lambda d, b: metrics.evaluate_video(d, b, num_objects))
        return self._compiled["scores"](*jax.tree.map(lambda a: a[:, :length], (decomposition, batch)))

    def _fit(self, decomposition: Decomposition, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The `novelty.STATISTICS` of the valid videos of a batch, of all processes."""
        if "fit" not in self._compiled:
            self._compiled["fit"] = jax.jit(lambda d, video: novelty.frame_fit(self.model, video, d))
        values = _gather(self._compiled["fit"](decomposition, batch["video"]))
        valid = _gather(batch["valid"])
        return {name: array[valid] for name, array in values.items()}

    def _velocity_scores(self, decomposition: Decomposition, segmentation: np.ndarray) -> dict[str, jax.Array]:
        if "velocity" not in self._compiled:
            num_objects = self.source.num_objects
            self._compiled["velocity"] = jax.jit(
                lambda d, labels: velocities.velocity_scores(d, {"segmentation": labels}, num_objects)
            )
        return self._compiled["velocity"](decomposition, segmentation)

    def _chunk(self, start: int, num_frames: int):
        """The compiled `(params, frames, index[, state]) -> (decomposition, state)` of one chunk."""

        def chunk(params, frames, index, state=None):
            keys = example_keys(jax.random.key(EVALUATION_SEED), index)
            # The frame count is one for all videos; it travels as one a video because outputs are joined by video.
            state = state if state is None else state._replace(frame=state.frame[0])
            video = frames.astype(jnp.float32) / 255.0
            decomposition, state = self.model.decompose(params, video, keys, state, start)
            return decomposition, state._replace(frame=jnp.broadcast_to(state.frame, index.shape))

        # Chunks of the same schedule are one program, whichever frame they start at.
        program = (self.model.schedule(num_frames, start), start == 0)
        if program not in self._compiled:
            self._compiled[program] = data_parallel(chunk, self.kind, shared_outputs=False)
        return self._compiled[program]
