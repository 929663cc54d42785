"""Evaluation: held-out videos in chunks with carried state, scored at several lengths, and drawn."""

import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key
from ml_collections import ConfigDict

from stii_jax import metrics, visualize
from stii_jax.data import Source
from stii_jax.models.stii import STII, VideoState
from stii_jax.parallel import check_batch_size, data_parallel
from stii_jax.types import Batch, Decomposition, Params
from stii_jax.writers import MetricWriter

_EVALUATION_SEED = 0  # of the posterior's noise; the same for every run, so that scores differ by parameters alone
_FRAMES_PER_SECOND = 6

Picture = tuple[np.ndarray, Decomposition, np.ndarray | None]


def make_model(config: ConfigDict, image_size: int, num_slots: int = 0) -> STII:
    """The model of a config for square colour frames, with another number of slots where one is given."""
    settings, weights = config.model.to_dict(), config.loss.to_dict()
    settings["num_slots"] = num_slots or settings["num_slots"]
    kind = weights.pop("refinement_weights")
    frame = {"height": image_size, "width": image_size, "channels": 3}
    return STII(**frame, weights=weights, refinement_weights=kind, **settings)


def example_keys(key: Key[Array, ""], index: Int[Array, " B"]) -> Key[Array, " B"]:
    """One key a video, by its number alone: independent of how videos are batched or sharded."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)


def join(parts: list[Decomposition]) -> Decomposition:
    """Consecutive clips of the same videos as one."""
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays, axis=1), *parts)


class Evaluator:
    """Runs the model on held-out videos. Its functions are compiled once, at the first call."""

    def __init__(self, config: ConfigDict, source: Source):
        self.settings, self.source = config.eval, source
        check_batch_size(self.settings.batch_size, "eval.batch_size")
        self.model = make_model(config, source.image_size, self.settings.num_slots)
        self.kind = config.train.parallel
        self._compiled: dict[Any, Any] = {}

    def periodic(self, params: Params) -> tuple[dict[str, float], list[Picture]]:
        """Scores of a few validation videos at the shortest of `eval.lengths`, and some of them to draw."""
        length, count = self.settings.lengths[0], self.settings.periodic_videos
        scores, pictures = self.evaluate(params, "validation", (length,), count)
        return scores[0], pictures

    def final(self, params: Params) -> tuple[dict[str, Any], list[Picture]]:
        """Scores of `eval.num_videos` videos of `eval.split` at every length: the content of `results.json`."""
        started = time.monotonic()
        lengths = tuple(length for length in self.settings.lengths if length <= self.source.num_frames)
        scores, pictures = self.evaluate(params, self.settings.split, lengths, self.settings.num_videos)
        return {**scores[-1], "lengths": scores, "seconds": time.monotonic() - started}, pictures

    def evaluate(
        self, params: Params, split: str, lengths: tuple[int, ...], num_videos: int
    ) -> tuple[list[dict[str, Any]], list[Picture]]:
        """Scores at each length (videos' first frames), with standard errors over videos, and some videos to draw."""
        values: list[list[dict[str, np.ndarray]]] = [[] for _ in lengths]
        valid, pictures = [], []
        num_videos = min(num_videos, self.source.split_sizes[split])
        for batch, decomposition in self.decompose(params, split, max(lengths), num_videos):
            labels = {key: batch[key] for key in ("video", "segmentation") if key in batch}
            for of_length, length in zip(values, lengths):
                of_length.append(jax.device_get(self._scores(decomposition, labels, length)))
            valid.append(batch["valid"])
            for i in range(min(self.settings.num_pictures - len(pictures), int(batch["valid"].sum()))):
                one = jax.device_get(visualize.one_video(decomposition, i))
                truth = batch["segmentation"][i] if "segmentation" in batch else None
                pictures.append((batch["video"][i], one, truth))
        results = []
        for of_length, length in zip(values, lengths):
            joined = {name: np.concatenate([part[name] for part in of_length]) for name in of_length[0]}
            scores = metrics.summarize(joined, np.concatenate(valid))
            results.append({**scores, "num_frames": length, "num_videos": num_videos})
        return results, pictures

    def decompose(
        self, params: Params, split: str, num_frames: int, num_videos: int
    ) -> Iterator[tuple[dict[str, np.ndarray], Decomposition]]:
        """Batches of videos with their decomposition, in order."""
        size = self.settings.batch_size
        first = 0
        for batch in self.source.eval_batches(split, num_frames, size, num_videos):
            yield batch, self.run(params, batch["video"], np.arange(first, first + size))
            first += size

    def run(self, params: Params, video: np.ndarray, index: np.ndarray) -> Decomposition:
        """Decomposes whole videos in chunks of `eval.chunk_frames`; memory does not grow with their length."""
        return self.observe(params, video, index)[0]

    def observe(
        self, params: Params, video: np.ndarray, index: np.ndarray
    ) -> tuple[Decomposition, VideoState]:
        """The same, and the state after the last frame."""
        chunk, state, parts = self.settings.chunk_frames, None, []
        for start in range(0, video.shape[1], chunk):
            frames = video[:, start : start + chunk]
            schedule = self.model.schedule(frames.shape[1], start)
            part, state = self._chunk(schedule, state is None)(params, frames, index, *(() if state is None else (state,)))
            parts.append(part)
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

    def draw(self, writer: MetricWriter, step: int, pictures: list[Picture], name: str, **marks: int) -> None:
        """Writes a strip and an animation of each video, `media/NAME_0.png` and so on."""
        for i, picture in enumerate(pictures):
            writer.write_images(step, {f"{name}_{i}": visualize.strip(*picture, **marks)})
            writer.write_gif(step, f"{name}_{i}", visualize.animation(*picture, **marks), _FRAMES_PER_SECOND)

    def _scores(self, decomposition: Decomposition, batch: Batch, length: int) -> dict[str, jax.Array]:
        if "scores" not in self._compiled:
            num_objects = self.source.num_objects
            self._compiled["scores"] = jax.jit(lambda d, b: metrics.evaluate_video(d, b, num_objects))
        return self._compiled["scores"](*jax.tree.map(lambda a: a[:, :length], (decomposition, dict(batch))))

    def _chunk(self, schedule: tuple[int, ...], first: bool):
        """The compiled `(params, frames, index[, state]) -> (decomposition, state)` of one chunk."""

        def chunk(params, frames, index, state=None):
            keys = example_keys(jax.random.key(_EVALUATION_SEED), index)
            # The frame count is one for all videos; it travels as one a video because outputs are joined by video.
            state = state if state is None else state._replace(frame=state.frame[0])
            outputs, state = self.model.unroll(params, frames.astype(jnp.float32) / 255.0, keys, state, schedule)
            return outputs.decomposition, state._replace(frame=jnp.broadcast_to(state.frame, index.shape))

        if (schedule, first) not in self._compiled:
            self._compiled[schedule, first] = data_parallel(chunk, self.kind, shared_outputs=False)
        return self._compiled[schedule, first]
