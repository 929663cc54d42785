"""The training loop: a pure step, mapped over devices, fed by the data pipeline, saved so that it resumes exactly."""

import math
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from ml_collections import ConfigDict
from tqdm import tqdm

from stii_jax import metrics
from stii_jax.checkpoint import Checkpointer
from stii_jax.config import ConfigError
from stii_jax.curriculum import Curriculum, CurriculumState, Stage
from stii_jax.data import Source
from stii_jax.data.options import VideoConfig
from stii_jax.evaluate import Evaluator, example_keys, local_index, make_model, model_settings
from stii_jax.models.video_model import VideoModel
from stii_jax.optim import make_optimizer, make_schedule
from stii_jax.parallel import AXIS, DataParallel, check_batch_size, data_parallel
from stii_jax.state import TrainState, init_state, split_params
from stii_jax.types import Batch
from stii_jax.writers import MetricWriter

Logs = dict[str, jax.Array]


class TrainingError(RuntimeError):
    """Training cannot go on; says at which step, why, and what to try."""


def train_step(
    model: VideoModel,
    optimizer: optax.GradientTransformation,
    num_objects: int,
    state: TrainState,
    batch: Batch,
    index: jax.Array,
    accumulation: int = 1,
) -> tuple[TrainState, Logs]:
    """One step on one device's part of the batch; `index` numbers its videos within the whole batch.

    The device takes its part in `accumulation` pieces, one after the other, and so needs the memory of one.
    """
    keys = example_keys(jax.random.fold_in(state.rng, state.step), index)
    batch_size = lax.psum(index.size, AXIS)

    def of_piece(piece):
        return _loss_and_gradients(model, num_objects, batch_size, state.params, *piece)

    (loss, grads), per_video = _in_pieces(of_piece, (batch, keys), accumulation)
    loss, grads = lax.psum((loss, grads), AXIS)
    grad_norm = optax.global_norm(grads)
    updates, opt_state = optimizer.update(grads, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)

    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    failed = jnp.where((state.failed_step < 0) & ~finite, state.step, state.failed_step)
    params, opt_state = jax.tree.map(
        lambda new, old: jnp.where(failed < 0, new, old), (params, opt_state), (state.params, state.optimizer)
    )
    new_state = TrainState(state.step + 1, params, opt_state, state.rng, failed)
    logs = {name: _mean_over_videos(values) for name, values in per_video.items()}
    return new_state, {"loss": loss, "grad_norm": grad_norm, **logs}


def _loss_and_gradients(model, num_objects, batch_size, params, batch, keys):
    """Of some of the batch's videos: their share of the loss and its gradients, and what is logged of each."""
    video = batch["video"].astype(jnp.float32) / 255.0

    def loss_fn(params):
        outputs = model.loss(params, video, keys)
        return outputs.loss / batch_size, outputs

    (loss, outputs), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    per_video = {name: term.mean(1) for name, term in outputs.terms.items()}
    per_video |= {
        name: metrics.METRICS[name](outputs.decomposition, batch, num_objects)
        for name in ("mse", *(("ari", "f_ari") if "segmentation" in batch else ()))
    }
    return (loss, grads), per_video


def _in_pieces(function, inputs, count):
    """`function(inputs) -> (sums, per_video)`, computed of `count` pieces of the inputs one after the other."""
    if count == 1:
        return function(inputs)
    pieces = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), inputs)

    def add(total, piece):
        sums, per_video = function(piece)
        return jax.tree.map(jnp.add, total, sums), per_video

    first = jax.tree.map(lambda x: x[0], pieces)
    nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(function, first)[0])
    total, per_video = lax.scan(add, nothing, pieces)
    return total, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), per_video)


def _mean_over_videos(values: jax.Array) -> jax.Array:
    """Mean over the whole batch of the values that are defined: a video without foreground has no F-ARI."""
    defined = ~jnp.isnan(values)
    total, count = lax.psum((jnp.where(defined, values, 0.0).sum(), defined.sum()), AXIS)
    return total / count


def make_train_step(
    model: VideoModel,
    optimizer: optax.GradientTransformation,
    num_objects: int,
    parallel: str = "pmap",
    accumulation: int = 1,
) -> DataParallel:
    """`train_step` over all devices: `(state, batch, index) -> (state, logs)`; the state is donated."""

    def step(state, batch, index):
        return train_step(model, optimizer, num_objects, state, batch, index, accumulation)

    return data_parallel(step, parallel, shared_outputs=True, donate_first=True)


class Trainer:
    """One run: builds everything from a config, restores what a workdir holds, and trains on from there."""

    def __init__(self, config: ConfigDict, source: Source, eval_source: Source, workdir: Path):
        check_training(config, source)
        self.config, self.source = config, source
        self.curriculum = make_curriculum(config)
        self.model = make_model(config, source.image_size)
        self.optimizer = make_optimizer(**config.optim, num_steps=self.curriculum.num_steps)
        settings = {k: config.optim[k] for k in ("learning_rate", "warmup_steps", "decay")}
        self.learning_rate = make_schedule(**settings, num_steps=self.curriculum.num_steps)
        self.writer = MetricWriter(workdir, enabled=jax.process_index() == 0)
        self.checkpointer = Checkpointer(workdir / "checkpoints")
        self.evaluator = Evaluator(config, eval_source)
        how = {key: config.train[key] for key in ("parallel", "accumulation")}
        self._step = make_train_step(self.model, self.optimizer, source.num_objects, **how)

    def run(self) -> TrainState:
        """Trains until the curriculum's end and returns the last state."""
        if (warning := untrained_frames(self.model, self.curriculum, self.config)) and jax.process_index() == 0:
            print(f"warning: {warning}", file=sys.stderr, flush=True)
        state, progress = self.restore()
        with tqdm(total=self.curriculum.num_steps, initial=int(state.step), unit="step", dynamic_ncols=True) as bar:
            try:
                while (stage := self.curriculum.stage(progress, int(state.step))) is not None:
                    state, progress = self._run_stage(state, progress, stage, bar)
            finally:  # an error or Ctrl-C does not lose the checkpoint that is being written
                self.checkpointer.wait()
                self.writer.close()
        return state

    def restore(self) -> tuple[TrainState, CurriculumState]:
        """The newest checkpoint's state, or a new one; log files are cut back to it."""
        state = init_state(self.model, self.optimizer, self.config.seed)
        if self.checkpointer.latest_step() is None:
            self.writer.truncate(-1)
            return state, CurriculumState()
        params, rest, meta = self.checkpointer.restore(*split_params(state))
        state = TrainState(params=params, **rest)
        self.writer.truncate(int(state.step))
        if jax.process_index() == 0:
            print(f"Resuming from the checkpoint of step {state.step}", flush=True)
        return state, CurriculumState(**meta["curriculum"])

    def _run_stage(self, state: TrainState, progress: CurriculumState, stage: Stage, bar: tqdm):
        """Trains to the end of one stage. Logs are means over the steps since the last line."""
        train, step = self.config.train, int(state.step)
        index = local_index(stage.batch_size)
        batches = self.source.train_batches(
            stage.num_frames,
            stage.batch_size,
            self.config.seed + progress.stage,
            start_step=step - progress.stage_start,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        cells = stage.batch_size * sum(self.model.schedule(stage.num_frames))
        pending: list[Logs] = []
        started = time.monotonic()
        this = progress.stage
        while progress.stage == this and self.curriculum.stage(progress, step) is not None:
            state, logs = self._step(state, next(batches), index)
            step += 1
            pending.append(logs)
            if step % train.log_every and step != progress.stage_start + stage.num_steps:
                continue
            means = {key: float(np.mean([logs[key] for logs in pending])) for key in pending[0]}
            self._check(state, means)
            seconds = (time.monotonic() - started) / len(pending)
            means |= {"learning_rate": float(self.learning_rate(step - 1)), "num_frames": stage.num_frames}
            means |= {"cells_per_second": cells / seconds, "seconds_per_step": seconds}
            kl = means["kl"] / self.model.num_slots if "kl" in means else None
            progress = self.curriculum.advance(progress, step, means["loss"], kl)
            scores = self._evaluate(state, step) if step % train.eval_every == 0 else {}
            self.writer.write_scalars(step, means | scores)
            ended = self.curriculum.stage(progress, step) is None
            if step % train.checkpoint_every == 0 or scores or ended:
                self._save(state, progress, step, scores)
            bar.update(step - bar.n)
            shown = {key: means[key] for key in ("loss", "f_ari", "cells_per_second") if key in means}
            bar.set_postfix({key: f"{value:.4g}" for key, value in shown.items()})
            pending, started = [], time.monotonic()
        return state, progress

    def _evaluate(self, state: TrainState, step: int) -> dict[str, float]:
        """Scores and pictures on held-out videos, as `eval_ari` and so on; nothing of `eval.periodic_videos=0`."""
        if self.config.eval.periodic_videos == 0:
            return {}
        scores, pictures = self.evaluator.periodic(state.params)
        self.evaluator.draw(self.writer, step, pictures, "validation")
        return {f"eval_{key}": value for key, value in scores.items()}

    def _save(self, state: TrainState, progress: CurriculumState, step: int, scores: dict[str, float]) -> None:
        if step == self.checkpointer.latest_step():
            return
        model = model_settings(self.config)
        meta: dict[str, Any] = {"curriculum": progress._asdict(), "model": model, "step": step}
        score = {"f_ari": scores["eval_f_ari"]} if "eval_f_ari" in scores else None
        self.checkpointer.save(step, *split_params(state), meta, score)

    def _check(self, state: TrainState, means: dict[str, float]) -> None:
        failed = int(state.failed_step)
        if failed >= 0:
            last = self.checkpointer.latest_step()
            raise TrainingError(
                f"step {failed + 1}: the loss or its gradient is not finite (mean loss {means['loss']}). Nothing after "
                f"it was saved; the last good checkpoint is {'none' if last is None else f'step {last}'}. Try a lower "
                "optim.learning_rate, more optim.warmup_steps, a larger model.sigma, or another seed"
            )


def check_training(config: ConfigDict, dataset: VideoConfig | Source) -> None:
    """Stops a config that cannot be trained on a dataset; reads and compiles nothing.

    Raises:
        ConfigError: settings do not fit the videos, or one another.
        DeviceError: the devices cannot share a batch.
    """
    curriculum, train, warmup = make_curriculum(config), config.train, config.optim.warmup_steps
    for number, stage in enumerate(curriculum.stages):
        where = f"curriculum.stages[{number - 1}]: " if number else ""
        check_batch_size(stage.batch_size, f"{where}batch_size")
        check_accumulation(train.accumulation, stage.batch_size, where)
        if stage.num_frames > (longest := dataset.frames_of("train")):
            raise ConfigError(
                f"config.{where or 'data.'}num_frames is {stage.num_frames}, but the videos have {longest} "
                "frames: give fewer, or make longer videos with --config.data.options.num_frames"
            )
    if config.eval.periodic_videos and (missing := {"train", "validation"} - set(dataset.splits)):
        raise ConfigError(
            f"the dataset has no {missing.pop()} videos: evaluate at the end only, with --config.eval.periodic_videos=0"
        )
    # Logged lines are means since the last one: a run resumes exactly at lines only. Evaluations stand in them.
    for name in ("checkpoint_every", "eval_every"):
        if train[name] % train.log_every:
            raise ConfigError(
                f"config.train.{name} is {train[name]}, expected a multiple of config.train.log_every "
                f"({train.log_every}): change one of them"
            )
    if warmup >= curriculum.num_steps:
        raise ConfigError(
            f"config.optim.warmup_steps is {warmup}, expected less than the run's {curriculum.num_steps} steps: "
            "change --config.optim.warmup_steps"
        )


def check_accumulation(accumulation: int, batch_size: int, where: str = "") -> None:
    """Raises `ConfigError` where a device cannot cut its part of a batch into equal pieces."""
    if (each := batch_size // jax.device_count()) % accumulation:
        raise ConfigError(
            f"config.train.accumulation is {accumulation}, expected a divisor of {each}, the videos that each of "
            f"{jax.device_count()} devices gets of {where}batch_size={batch_size}: change one of them, e.g. "
            f"--config.train.accumulation={math.gcd(each, accumulation)}"
        )


def untrained_frames(model: VideoModel, curriculum: Curriculum, config: ConfigDict) -> str:
    """What to tell of a run that evaluates frames with so few refinements as none has in training; "" of others.

    Late frames get one refinement. A model that has never had to do with so few loses its objects there: four balls
    at the paper's size went from F-ARI .70 on clips of four to .37 at 40 frames (results/h200).
    """
    longest = max(stage.num_frames for stage in curriculum.stages)
    trained = set(model.schedule(longest))
    evaluated = model.schedule(max(config.eval.lengths))
    late = next((frame for frame, refinements in enumerate(evaluated) if refinements not in trained), None)
    if late is None:
        return ""
    return (
        f"clips of at most {longest} frames train no frame with {evaluated[late]} refinements, as frame {late + 1} of "
        f"an evaluated video has: it may lose its objects there. Train on longer clips at the end, by "
        "--config.curriculum.stages, or with a lower --config.model.num_refinements"
    )


def make_curriculum(config: ConfigDict) -> Curriculum:
    """The stages of a run: `data.num_frames`, `batch_size` and `train.num_steps`, then `curriculum.stages`."""
    settings = config.curriculum.to_dict()
    first = (config.data.num_frames, config.batch_size, config.train.num_steps)
    stages = tuple(Stage(*stage) for stage in (first, *settings.pop("stages")))
    return Curriculum(stages, **settings)
