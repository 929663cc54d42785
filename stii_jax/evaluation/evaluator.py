"""Evaluation on held-out videos, in chunks with carried state: scores at several lengths, and pictures."""

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
from stii_jax.evaluation import futures, metrics, novelty, occlusions, velocities
from stii_jax.evaluation.lengths import fit_to_videos
from stii_jax.models.registry import SYSTEMS, make_evaluated_model
from stii_jax.models.stii import STII
from stii_jax.models.video_model import EVALUATION_SEED, example_keys, future_keys
from stii_jax.storage.metric_log import MetricWriter
from stii_jax.types import Decomposition, Params
from stii_jax.visualization import trajectories, visualize

_FRAMES_PER_SECOND = 6
_FORECAST_LENGTHS = (3, 5, 7, 10)  # the paper's, as far as they are shorter than eval.predict_frames, which is added

Picture = tuple[np.ndarray, Decomposition, np.ndarray | None]


class Interrupted(Exception):
    """Raised when an evaluation is interrupted between two batches."""


def check_image_size(size: int) -> None:
    """Raise `ConfigError` unless the frame size is divisible by 4."""
    if size % 4:
        raise ConfigError(
            f"frames of {size}x{size} pixels: the encoder averages blocks of 4x4 pixels, so give a multiple of 4"
        )


def check_evaluation(config: ConfigDict, dataset: VideoConfig | VideoDataset) -> None:
    """Check that a config can be evaluated on a dataset, without reading videos or compiling.

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
    """Raise `ConfigError` unless the config's model can predict frames."""
    if not SYSTEMS[system := config.eval.system or config.system].predicts:
        raise ConfigError(f"config.system is {system!r}, which cannot predict frames: choose another system")


def check_samples(config: ConfigDict, asked: str) -> None:
    """Raise `ConfigError` unless the config's model can sample futures, for which the flag `asked` asks."""
    if not SYSTEMS[system := config.eval.system or config.system].model.can_sample:
        raise ConfigError(f"config.system is {system!r}, which predicts a single future: leave out {asked}")


def check_forecast(config: ConfigDict, dataset: VideoConfig | VideoDataset) -> None:
    """Raise `ConfigError` unless the model can predict and the videos have enough frames for it."""
    observed, ahead = config.eval.observed_frames, config.eval.predict_frames
    check_predicts(config)
    if config.eval.futures:
        check_samples(config, "--config.eval.futures")
    longest = dataset.frames_of(config.eval.split)
    if ahead < 1 or observed + ahead > longest:
        raise ConfigError(
            f"config.eval.observed_frames is {observed} and config.eval.predict_frames is {ahead}: give each at "
            f"least 1, and together at most the {longest} frames of the videos"
        )


def join(parts: list[Decomposition]) -> Decomposition:
    """Join consecutive clips of the same videos."""
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays, axis=1), *parts)


def _gather(tree: Any) -> Any:
    """Gather the per-video values of all processes on every host."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return jax.tree.map(np.concatenate, multihost_utils.process_allgather(tree))


class Evaluator:
    """Run a model on held-out videos. Its functions are compiled once, at their first call."""

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
        """Score a few validation videos at the shortest of `eval.lengths`; also return some pictures.

        Raises:
            Interrupted: `interrupted()` was true before a batch.
        """
        length, count = self.settings.lengths[0], self.settings.periodic_videos
        scores, pictures = self.evaluate(params, "validation", (length,), count, interrupted)
        return scores[0], pictures

    def preview(self, params: Params, interrupted: Callable[[], bool] = lambda: False) -> list[Picture]:
        """Return pictures of validation videos at the shortest of `eval.lengths`, without scores.

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
        """Score `eval.num_videos` videos of `eval.split` at every length; also return some pictures.

        The scores are the content of `results.json`.
        """
        started = time.monotonic()
        longest = self.source.frames_of(self.settings.split)
        lengths = tuple(length for length in self.settings.lengths if length <= longest)
        fits: list[dict[str, np.ndarray]] = []
        hidden = occlusions.Summary()
        split, count = self.settings.split, self.settings.num_videos
        scores, pictures = self.evaluate(params, split, lengths, count, fits=fits, hidden=hidden)
        fit = {name: np.concatenate([part[name] for part in fits]) for name in novelty.STATISTICS}
        seconds = time.monotonic() - started
        found = {"lengths": scores, novelty.KEY: novelty.summarize(fit), occlusions.KEY: hidden.rows()}
        return {**scores[-1], **found, "seconds": seconds}, pictures

    def evaluate(
        self,
        params: Params,
        split: str,
        lengths: tuple[int, ...],
        num_videos: int,
        interrupted: Callable[[], bool] = lambda: False,
        fits: list[dict[str, np.ndarray]] | None = None,
        hidden: occlusions.Summary | None = None,
    ) -> tuple[list[dict[str, Any]], list[Picture]]:
        """Score the first frames of videos at each length, with standard errors; also return some pictures.

        If `fits` is given, the `novelty.STATISTICS` of every batch are appended to it, each of shape [N, T]. If
        `hidden` is given, the occlusions in labelled videos are added to it.
        """

        def decomposed():
            for batch, index in self._batches(split, max(lengths), num_videos):
                if interrupted():
                    raise Interrupted
                decomposition = self.observe(params, batch["video"], index)[0]
                if fits is not None:
                    fits.append(self._fit(decomposition, batch))
                if hidden is not None and "segmentation" in batch:
                    hidden.add(_gather(self._sightings(decomposition, batch)), _gather(batch["valid"]))
                yield batch, decomposition, decomposition

        return self._score(decomposed(), lengths)

    def forecast(
        self, params: Params, sampled: list[dict[str, Any]] | None = None
    ) -> tuple[list[dict[str, Any]], list[Picture]]:
        """Score the frames predicted after `eval.observed_frames`, at several lengths; see section 4.3 of the paper.

        The pictures show the observed frames, then the predicted ones. If `sampled` is given, `eval.futures` futures
        are scored as well, and the `futures.Summary.rows` are appended to it.
        """
        observed, ahead = self.settings.observed_frames, self.settings.predict_frames
        scored = futures.Summary()

        def predictions():
            for batch, index in self._batches(self.settings.split, observed + ahead, self.settings.num_videos):
                past, state = self.observe(params, batch["video"][:, :observed], index)
                future = self._predict(params, state, ahead)
                if sampled is not None:
                    samples = self._sample(params, state, index, ahead)
                    scored.add(_gather(self._future_scores(batch, past, future, samples)), _gather(batch["valid"]))
                yield batch, future, join([past, future])

        scores = self._score(predictions(), (*(n for n in _FORECAST_LENGTHS if n < ahead), ahead))
        if sampled is not None:
            sampled += scored.rows()
        return scores

    def _batches(self, split: str, num_frames: int, num_videos: int) -> Iterator[tuple[dict, np.ndarray]]:
        """Yield batches of held-out videos in order, with the videos' numbers."""
        num_videos = min(num_videos, self.source.split_sizes[split])
        size = self.settings.batch_size
        processes = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        for i, batch in enumerate(self.source.eval_batches(split, num_frames, size, num_videos, **processes)):
            yield batch, i * size + process_batch_indices(size)

    def _score(
        self, items: Iterable[tuple[dict, Decomposition, Decomposition]], lengths: tuple[int, ...]
    ) -> tuple[list[dict[str, Any]], list[Picture]]:
        """Average the scores of items `(batch, scored, drawn)`, and select pictures.

        `drawn` decomposes all frames of the batch, and `scored` the last ones.
        """
        values: list[list[dict[str, np.ndarray]]] = [[] for _ in lengths]
        pictures: list[Picture] = []
        valid = []
        for batch, scored, drawn in items:
            skip = drawn.masks.shape[1] - scored.masks.shape[1]
            labels = {key: batch[key][:, skip:] for key in ("video", "segmentation") if key in batch}
            for of_length, length in zip(values, lengths):
                scores = dict(self._scores(scored, labels, length))
                if skip and "segmentation" in labels:  # a forecast, whose motion starts in the last observed frame
                    steps = slice(skip - 1, skip + length)
                    last_and_predicted = jax.tree.map(lambda a, steps=steps: a[:, steps], drawn)
                    scores |= self._velocity_scores(last_and_predicted, batch["segmentation"][:, steps])
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
        """The first videos of a batch, with their decompositions and labels."""
        labels = batch.get("segmentation", [None] * len(batch["video"]))
        count = min(most, int(batch["valid"].sum()))
        return [(batch["video"][i], jax.device_get(visualize.one_video(drawn, i)), labels[i]) for i in range(count)]

    def observe(self, params: Params, video: np.ndarray, index: np.ndarray) -> tuple[Decomposition, Any]:
        """Decompose videos of any length in chunks of `eval.chunk_frames`; also return the final state."""
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
        """Decompose the given frames and predict the next `num_frames`."""
        observed, state = self.observe(params, video, index)
        return observed, self._predict(params, state, num_frames)

    def _predict(self, params: Params, state: Any, num_frames: int) -> Decomposition:
        """Predict the frames after a state of `observe`."""

        def predict_frames(params, state):
            local = state._replace(frame=state.frame[0])
            return self.model.predict(params, local, num_frames)[0]

        if ("predict", num_frames) not in self._compiled:
            self._compiled["predict", num_frames] = data_parallel(predict_frames, self.kind, shared_outputs=False)
        return self._compiled["predict", num_frames](params, state)

    def _sample(self, params: Params, state: Any, index: np.ndarray, num_frames: int) -> velocities.Positions:
        """The positions of all slots in `eval.futures` sampled futures, with the futures as first axis."""
        model = self.model
        assert isinstance(model, STII)  # see check_samples

        def sample(params, state, index, number):
            local, keys = state._replace(frame=state.frame[0]), future_keys(EVALUATION_SEED, number[0], index)
            future, _ = model.predict(params, local, num_frames, keys)
            return velocities.positions(future.segmentation, model.num_slots)

        if ("sample", num_frames) not in self._compiled:
            self._compiled["sample", num_frames] = data_parallel(sample, self.kind, shared_outputs=False)
        program = self._compiled["sample", num_frames]
        samples = [program(params, state, index, np.full_like(index, i)) for i in range(self.settings.futures)]
        return jax.tree.map(lambda *arrays: jnp.stack(arrays), *samples)

    def draw(
        self, writer: MetricWriter, step: int, pictures: list[Picture], name: str, num_observed: int | None = None
    ) -> None:
        """Write a strip and an animation of each video, `media/NAME_0.png` and so on; see `visualize.strip`."""
        for i, picture in enumerate(pictures):
            writer.write_images(step, {f"{name}_{i}": visualize.strip(*picture, num_observed=num_observed)})
            writer.write_gif(
                step, f"{name}_{i}", visualize.animation(*picture, num_observed=num_observed), _FRAMES_PER_SECOND
            )

    def draw_trajectories(
        self, writer: MetricWriter, step: int, pictures: list[Picture], num_observed: int | None = None
    ) -> None:
        """Write the trajectories of each video's objects: `media/trajectories_0.png`, `.gif` and so on."""
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
        """The `novelty.STATISTICS` of a batch's valid videos, from all processes."""
        if "fit" not in self._compiled:
            self._compiled["fit"] = jax.jit(lambda d, video: novelty.frame_fit(self.model, video, d))
        values = _gather(self._compiled["fit"](decomposition, batch["video"]))
        valid = _gather(batch["valid"])
        return {name: array[valid] for name, array in values.items()}

    def _sightings(self, decomposition: Decomposition, batch: dict[str, np.ndarray]) -> occlusions.Sightings:
        if "sightings" not in self._compiled:
            num_objects = self.source.num_objects
            self._compiled["sightings"] = jax.jit(
                lambda d, labels: occlusions.sightings(d, {"segmentation": labels}, num_objects)
            )
        return self._compiled["sightings"](decomposition, batch["segmentation"])

    def _velocity_scores(self, decomposition: Decomposition, segmentation: np.ndarray) -> dict[str, jax.Array]:
        if "velocity" not in self._compiled:
            num_objects = self.source.num_objects
            self._compiled["velocity"] = jax.jit(
                lambda d, labels: velocities.velocity_scores(d, {"segmentation": labels}, num_objects)
            )
        return self._compiled["velocity"](decomposition, segmentation)

    def _future_scores(
        self, batch: dict[str, np.ndarray], past: Decomposition, future: Decomposition, samples: velocities.Positions
    ) -> dict[str, jax.Array]:
        if "segmentation" not in batch:
            raise ConfigError("config.eval.futures needs true objects, but the videos have no labels: leave it out")
        if "futures" not in self._compiled:
            num_objects, num_slots = self.source.num_objects, self.model.num_slots

            def score(labels, last, future, samples):
                last, predicted = (velocities.positions(found, num_slots) for found in (last, future))
                return futures.future_scores(labels, last, predicted, samples, num_objects)

            self._compiled["futures"] = jax.jit(score)
        last = past.masks.shape[1] - 1
        labels = batch["segmentation"][:, last:]
        return self._compiled["futures"](labels, past.segmentation[:, last], future.segmentation, samples)

    def _chunk(self, start: int, num_frames: int):
        """The compiled `(params, frames, index[, state]) -> (decomposition, state)` of one chunk."""

        def chunk(params, frames, index, state=None):
            keys = example_keys(jax.random.key(EVALUATION_SEED), index)
            # All videos share one frame count. It is repeated per video because outputs are joined by video.
            state = state if state is None else state._replace(frame=state.frame[0])
            video = frames.astype(jnp.float32) / 255.0
            decomposition, state = self.model.decompose(params, video, keys, state, start)
            return decomposition, state._replace(frame=jnp.broadcast_to(state.frame, index.shape))

        # Chunks with the same schedule share a program, except those at a video's start.
        program = (self.model.schedule(num_frames, start), start == 0)
        if program not in self._compiled:
            self._compiled[program] = data_parallel(chunk, self.kind, shared_outputs=False)
        return self._compiled[program]
