"""The training loop: a pure step, mapped over devices, fed by the data pipeline, saved so that it resumes exactly."""

import contextlib
import functools
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stii_jax.config import ConfigError
from stii_jax.data.options import VideoConfig
from stii_jax.data.pipeline.source import Source
from stii_jax.devices.parallel import check_batch_size, local_index
from stii_jax.devices.processes import check_same, is_first, say
from stii_jax.errors import Preempted, UserError
from stii_jax.evaluation.evaluator import Evaluator, Interrupted
from stii_jax.evaluation.lengths import fitted, shortened
from stii_jax.models.registry import make_model, model_settings
from stii_jax.models.video_model import VideoModel
from stii_jax.storage.checkpoints import Checkpointer, CheckpointError
from stii_jax.storage.metric_log import MetricWriter
from stii_jax.training import nan_search
from stii_jax.training.curriculum import Curriculum, CurriculumState, Stage
from stii_jax.training.optimizer import make_optimizer, make_schedule
from stii_jax.training.preemption import Preemption
from stii_jax.training.reporter import Reporter
from stii_jax.training.state import TrainState, init_state, split_params, start_from
from stii_jax.training.step import Logs, make_train_step

_AHEAD = 3
"""Steps that may wait for the devices: enough that these never wait for the host, few enough to stop soon."""


class TrainingError(UserError, RuntimeError):
    """Training cannot go on; says at which step, why, and what to try."""


class Trainer:
    """One run: builds everything from a config, restores what a workdir holds, and trains on from there."""

    def __init__(self, config: ConfigDict, source: Source, eval_source: Source, workdir: Path):
        self._note = shortened(config, source)
        config = fitted(config, source)
        check_training(config, source)
        self.config, self.source, self.workdir = config, source, workdir
        self.curriculum = make_curriculum(config)
        self.model = make_model(config, source.image_size)
        self.optimizer = make_optimizer(**config.optim, num_steps=self.curriculum.num_steps)
        settings = {k: config.optim[k] for k in ("learning_rate", "warmup_steps", "decay")}
        self.learning_rate = make_schedule(**settings, num_steps=self.curriculum.num_steps)
        self.evaluator = Evaluator(config, eval_source)
        self.reporter = Reporter(config, self.curriculum, self.evaluator, workdir)
        how = {key: config.train[key] for key in ("parallel", "accumulation")}
        self._step = self._program = make_train_step(self.model, self.optimizer, source.num_objects, **how)
        self._preemption = Preemption()

    @functools.cached_property
    def writer(self) -> MetricWriter:
        """The logs; the folder is made when this is first asked for."""
        return MetricWriter(self.workdir, enabled=is_first())

    @functools.cached_property
    def checkpointer(self) -> Checkpointer:
        """The checkpoints; their folder is made when this is first asked for."""
        return Checkpointer(self.workdir / "checkpoints")

    def run(self, initial: Mapping[str, jax.Array] | None = None) -> TrainState:
        """Trains until the curriculum's end and returns the last state.

        Args:
            initial: parameters to start with where there is no checkpoint, by their path; the others are initialised.

        Raises:
            Preempted: SIGTERM came; all is saved.
        """
        if self._note:
            say(self._note)
        if (warning := untrained_frames(self.model, self.curriculum, self.config)) and is_first():
            print(f"warning: {warning}", file=sys.stderr, flush=True)
        state, progress, pending = self.restore(initial)
        with self._preemption.watched():
            try:
                self._time_stages(state, progress)
                while (stage := self.curriculum.stage(progress, int(state.step))) is not None:
                    state, progress = self._run_stage(state, progress, stage, pending)
                    pending = []
            except KeyboardInterrupt:
                last = self.checkpointer.latest_step()
                again = "begins anew, in this --workdir also with other settings"
                again = again if last is None else f"goes on from the checkpoint of step {last}"
                self.reporter.say(f"stopped by Ctrl-C: the same command {again}")
                raise
            finally:  # an error or Ctrl-C does not lose the checkpoint that is being written
                self.reporter.close()
                self.checkpointer.wait()
                self.writer.close()
            if self._preemption.noticed():
                raise Preempted(f"stopped by SIGTERM after the last step, {int(state.step)}, which is saved")
        return state

    def _time_stages(self, state: TrainState, progress: CurriculumState) -> None:
        """Compile and time a step of each stage to come, on copies of the state."""
        step = int(state.step)

        def make_call(stage: Stage, there: CurriculumState) -> Callable[[], object]:
            if self._preemption.noticed():
                raise Preempted(f"stopped by SIGTERM before step {step + 1}: the same command begins there")
            batch, index = next(self._batches(stage, there, step)), local_index(stage.batch_size)
            return lambda: jax.block_until_ready(self._program(jax.tree.map(jnp.copy, state), batch, index))

        if self.curriculum.stage(progress, step) is not None:
            self.reporter.time_stages(step, progress, make_call)

    def restore(self, initial: Mapping[str, jax.Array] | None = None) -> tuple[TrainState, CurriculumState, list[Logs]]:
        """The newest checkpoint's state, or a new one, and the logs since the last line; log files are cut back to it.

        There are such logs where SIGTERM stopped the run between two lines.
        """
        state = init_state(self.model, self.optimizer, self.config.seed)
        if self.checkpointer.latest_step() is None:
            self.writer.truncate(-1)
            check_same(-1, "step")
            state = state if initial is None else start_from(state, self.optimizer, initial)
            return state, CurriculumState(), []
        params, rest, meta = self.checkpointer.restore(*split_params(state))
        state = TrainState(params=params, **rest)
        progress, pending = _read_meta(meta, self.workdir)
        check_same(int(state.step), "step")
        self.writer.truncate(int(state.step) - bool(pending))
        say(f"Resuming from the checkpoint of step {state.step}")
        return state, progress, pending

    def _run_stage(
        self, state: TrainState, progress: CurriculumState, stage: Stage, pending: list[Logs]
    ) -> tuple[TrainState, CurriculumState]:
        """Trains to the end of one stage. Logs are means over the steps since the last line: those in `pending`."""
        step, this = int(state.step), progress.stage
        index = local_index(stage.batch_size)
        batches = self._batches(stage, progress, step)
        self.reporter.begin_stage(step, progress)
        taken, started = 0, time.monotonic()
        while progress.stage == this and self.curriculum.stage(progress, step) is not None:
            if not self._line_due(step, progress, stage, pending):  # it is where SIGTERM came while one was due
                state, logs = self._step(state, next(batches), index)
                step, taken = step + 1, taken + 1
                pending.append(logs)
                jax.block_until_ready(pending[-_AHEAD:][0])
                self.reporter.step()
            told = self._preemption.agreed(step)
            if self._line_due(step, progress, stage, pending):
                seconds = (time.monotonic() - started) / max(taken, 1)
                progress = self._line(state, progress, step, stage, pending, seconds)
                pending, taken, started = [], 0, time.monotonic()
            if told:
                self._stop(state, progress, step, pending)
        return state, progress

    def _line(
        self,
        state: TrainState,
        progress: CurriculumState,
        step: int,
        stage: Stage,
        pending: list[Logs],
        seconds: float,
    ) -> CurriculumState:
        """Logs the means of `pending`, evaluates and saves if it is time, and moves the curriculum on."""
        train = self.config.train
        means = {key: float(np.mean([logs[key] for logs in pending])) for key in pending[0]}
        self._check(state, means, progress)
        cells = stage.batch_size * sum(self.model.schedule(stage.num_frames))
        means |= {"learning_rate": float(self.learning_rate(step - 1)), "num_frames": stage.num_frames}
        means |= {"cells_per_second": cells / seconds, "seconds_per_step": seconds}
        if plain := means.pop("plain_mse", 0.0):
            means["relative_error"] = means["mse"] / plain
        kl = means["kl"] / self.model.num_slots if "kl" in means else None
        following = self.curriculum.advance(progress, step, means["loss"], kl)
        try:
            scores = self._evaluate(state, step) if step % train.eval_every == 0 else {}
        except Interrupted:
            self._stop(state, progress, step, pending)
        self.writer.write_scalars(step, means | scores)
        ended = self.curriculum.stage(following, step) is None
        if step % train.checkpoint_every == 0 or scores or ended:
            self._save(state, following, step, scores)
        self.reporter.line(step, progress, following, means)
        if self.reporter.preview_due():
            self._preview(state, step)
        return following

    def _batches(self, stage: Stage, progress: CurriculumState, step: int) -> Iterator[Mapping[str, np.ndarray]]:
        """This process's part of the batches that a stage trains on after `step` steps of the run."""
        return self.source.train_batches(
            stage.num_frames,
            stage.batch_size,
            self.config.seed + progress.stage,
            start_step=step - progress.stage_start,
            recolored=self.config.data.recolor,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def _line_due(self, step: int, progress: CurriculumState, stage: Stage, pending: list[Logs]) -> bool:
        ends = step == progress.stage_start + stage.num_steps
        return bool(pending) and (step % self.config.train.log_every == 0 or ends)

    def _evaluate(self, state: TrainState, step: int) -> dict[str, float]:
        """Scores and pictures on held-out videos, as `eval_ari` and so on; nothing of `eval.periodic_videos=0`."""
        if self.config.eval.periodic_videos == 0:
            return {}
        started = time.monotonic()
        scores, pictures = self.evaluator.periodic(state.params, self._preemption.noticed)
        self.evaluator.draw(self.writer, step, pictures, "validation")
        self.reporter.evaluated(time.monotonic() - started)
        self.reporter.drawn(step)
        return {f"eval_{key}": value for key, value in scores.items()}

    def _preview(self, state: TrainState, step: int) -> None:
        """Draw held-out videos before the first evaluation is due; changes nothing but `media`."""
        started = time.monotonic()
        with contextlib.suppress(Interrupted):
            pictures = self.evaluator.preview(state.params, self._preemption.noticed)
            self.evaluator.draw(self.writer, step, pictures, "validation")
            self.reporter.drawn(step)
        self.reporter.paused(time.monotonic() - started)

    def _save(
        self,
        state: TrainState,
        progress: CurriculumState,
        step: int,
        scores: dict[str, float],
        pending: Sequence[Logs] = (),
    ) -> None:
        # A step that SIGTERM has saved stays as it is: without scores, if it came while they were computed.
        if step == self.checkpointer.latest_step():
            return
        model = model_settings(self.config)
        meta: dict[str, Any] = {"curriculum": progress._asdict(), "model": model, "step": step}
        meta["pending"] = [{key: float(value) for key, value in logs.items()} for logs in pending]
        score = {"f_ari": scores["eval_f_ari"]} if "eval_f_ari" in scores else None
        self.checkpointer.save(step, *split_params(state), meta, score)

    def _stop(self, state: TrainState, progress: CurriculumState, step: int, pending: list[Logs]) -> NoReturn:
        """Saves all, though it be between two lines, unless the run has failed by now."""
        if pending:
            self._check(state, {key: float(np.mean([logs[key] for logs in pending])) for key in pending[0]}, progress)
        self._save(state, progress, step, {}, pending)
        raise Preempted(f"stopped by SIGTERM after step {step}, which is saved: the same command goes on from there")

    def _check(self, state: TrainState, means: dict[str, float], progress: CurriculumState) -> None:
        """Raises `TrainingError` after a step that failed; says what its repetition shows."""
        failed = int(state.failed_step)
        if failed < 0:
            return
        say(f"step {failed + 1} is not finite: repeating it to find where that began")
        try:
            batch = self._failed_batch(failed, progress)
            found = nan_search.explain(self.model, state, batch, self.workdir)
        except Exception as error:  # whatever stops the search is not to hide what it is for
            found = nan_search.unexplained(error)
        last = self.checkpointer.latest_step()
        raise TrainingError(
            f"step {failed + 1}: {found.cause}. The loss or its gradient is not finite (mean loss {means['loss']}). "
            f"Nothing after it was saved; the last good checkpoint is {'none' if last is None else f'step {last}'}. "
            f"{found.saved}Try {found.advice}"
        )

    def _failed_batch(self, step: int, progress: CurriculumState) -> nan_search.FailedBatch:
        """This process's part of a step's batch, read once more."""
        stage = self.curriculum.stages[progress.stage]
        index = local_index(stage.batch_size)
        place = self.source.places(stage.num_frames, self.config.seed + progress.stage)
        first = (step - progress.stage_start) * stage.batch_size
        places = np.array([place(first + i) for i in index.tolist()])
        return nan_search.FailedBatch(step, dict(next(self._batches(stage, progress, step))), index, places)


def _read_meta(meta: Mapping[str, Any], workdir: Path) -> tuple[CurriculumState, list[Logs]]:
    """Where the curriculum was, and the logs since the last line."""
    try:
        pending: list[Logs] = [
            {str(key): np.float32(value) for key, value in logs.items()} for logs in meta.get("pending", ())
        ]
        return CurriculumState(**meta["curriculum"]), pending
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"the newest checkpoint in {workdir} is of no training of ours ({error!r}): change --workdir"
        ) from error


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
                f"config.{where or 'data.'}num_frames is {stage.num_frames}, but the videos have {longest} frames: "
                f"give {_shorter(config, longest)}, or make longer videos with --config.data.options.num_frames"
            )
    if config.eval.periodic_videos and (missing := {"train", "validation"} - set(dataset.splits)):
        split = "" if config.eval.split in dataset.splits else f" --config.eval.split={dataset.splits[0]}"
        raise ConfigError(
            f"the dataset has no {missing.pop()} videos: evaluate at the end only, with "
            f"--config.eval.periodic_videos=0{split}"
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


def _shorter(config: ConfigDict, longest: int) -> str:
    """The settings, as a command takes them, with no stage of longer clips."""
    stages = tuple((min(frames, longest), *rest) for frames, *rest in config.curriculum.stages)
    settings = {"data.num_frames": config.data.num_frames, "curriculum.stages": config.curriculum.stages}
    new = {"data.num_frames": min(config.data.num_frames, longest), "curriculum.stages": stages}
    return " ".join(
        f"--config.{key}={shlex.quote(repr(new[key]).replace(' ', ''))}" for key in new if new[key] != settings[key]
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
