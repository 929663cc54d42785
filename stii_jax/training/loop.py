"""The training loop: a pure step, mapped over devices, fed by the data pipeline, and saved for exact resumption."""

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stii_jax.config import stage_configs
from stii_jax.data.pipeline.source import VideoDataset
from stii_jax.devices.parallel import DataParallel, process_batch_indices
from stii_jax.devices.processes import check_same, is_first, print_on_first
from stii_jax.errors import Preempted, UserError
from stii_jax.evaluation.evaluator import Evaluator, Interrupted
from stii_jax.evaluation.lengths import describe_shortening, fit_to_videos
from stii_jax.models.registry import make_model, model_settings
from stii_jax.models.video_model import VideoModel
from stii_jax.storage.checkpoints import Checkpointer, CheckpointError
from stii_jax.storage.metric_log import MetricWriter
from stii_jax.training import nan_search
from stii_jax.training.checks import check_training, untrained_frames
from stii_jax.training.curriculum import CurriculumState, Stage, make_curriculum
from stii_jax.training.optimizer import make_optimizer, make_schedule
from stii_jax.training.preemption import Preemption
from stii_jax.training.reporter import Reporter
from stii_jax.training.state import TrainState, init_state, split_params, start_from
from stii_jax.training.step import Logs, make_train_step

_AHEAD = 3
"""Number of steps queued on the devices: enough to keep them busy, few enough to stop soon."""


class TrainingError(UserError, RuntimeError):
    """Training cannot continue; the message gives the step, the cause and advice."""


class Trainer:
    """One run: built from a config, restored from a workdir, and trained from there.

    Args:
        config: the run's settings.
        sources: the training videos of each stage, or of all stages.
        eval_source: the videos for evaluation.
        workdir: the run's folder.
    """

    def __init__(
        self,
        config: ConfigDict,
        sources: VideoDataset | Sequence[VideoDataset],
        eval_source: VideoDataset,
        workdir: Path,
    ):
        first = sources if isinstance(sources, VideoDataset) else sources[0]
        self._note = describe_shortening(config, first)
        config = fit_to_videos(config, first)
        self.config, self.workdir, self.curriculum = config, workdir, make_curriculum(config)
        self.sources = [first] * len(self.curriculum.stages) if isinstance(sources, VideoDataset) else sources
        check_training(config, self.sources)
        self.model = make_model(config, eval_source.image_size)
        self.optimizer = make_optimizer(**config.optim, num_steps=self.curriculum.num_steps)
        settings = {k: config.optim[k] for k in ("learning_rate", "warmup_steps", "decay")}
        self.learning_rate = make_schedule(**settings, num_steps=self.curriculum.num_steps)
        self.evaluator = Evaluator(config, eval_source)
        self._configs = stage_configs(config)
        self.models, self._programs = self._make_stages()
        self.reporter = Reporter(config, self.models[-1], self.curriculum, self.evaluator, workdir)
        self._steps = list(self._programs)
        self._warning = untrained_frames(self.models, self.evaluator.model, self.curriculum, config)
        self._preemption = Preemption()

    def _make_stages(self) -> tuple[list[VideoModel], list[DataParallel]]:
        """Return each stage's model and step; stages that differ only in their clips share both."""
        num_objects = max(source.num_objects for source in self.sources)
        how = {key: self.config.train[key] for key in ("parallel", "accumulation")}
        made: dict[str, tuple[VideoModel, DataParallel]] = {}
        stages = []
        for config, source in zip(self._configs, self.sources):
            name = repr((config.model, config.loss, source.image_size))
            if name not in made:
                model = make_model(config, source.image_size)
                made[name] = model, make_train_step(model, self.optimizer, num_objects, **how)
            stages.append(made[name])
        models, programs = zip(*stages)
        return list(models), list(programs)

    @functools.cached_property
    def writer(self) -> MetricWriter:
        """The logs; their folder is created on first access."""
        return MetricWriter(self.workdir, enabled=is_first())

    @functools.cached_property
    def checkpointer(self) -> Checkpointer:
        """The checkpoints; their folder is created on first access."""
        return Checkpointer(self.workdir / "checkpoints")

    def run(self, initial: Mapping[str, jax.Array] | None = None) -> TrainState:
        """Train until the curriculum's end and return the last state.

        Args:
            initial: parameters to start with if there is no checkpoint, by path; the others are initialised.

        Raises:
            Preempted: SIGTERM was received and a checkpoint is saved.
        """
        if self._note:
            print_on_first(self._note)
        if self._warning and is_first():
            print(f"warning: {self._warning}", file=sys.stderr, flush=True)
        state, progress, pending = self.restore(initial)
        with self._preemption.watched():
            try:
                self._time_stages(state, progress)
                while (stage := self.curriculum.stage(progress, int(state.step))) is not None:
                    state, progress = self._run_stage(state, progress, stage, pending)
                    pending = []
            except KeyboardInterrupt:
                last = self.checkpointer.latest_step()
                again = "starts over, even with other settings"
                again = again if last is None else f"resumes from the checkpoint of step {last}"
                self.reporter.say(f"stopped by Ctrl-C: the same command {again}")
                raise
            finally:  # do not lose a checkpoint in progress to an error or Ctrl-C
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
                raise Preempted(f"stopped by SIGTERM before step {step + 1}: the same command resumes there")
            batch, index = next(self._batches(stage, there, step)), process_batch_indices(stage.batch_size)
            program = self._programs[there.stage]
            return lambda: jax.block_until_ready(program(jax.tree.map(jnp.copy, state), batch, index))

        if self.curriculum.stage(progress, step) is not None:
            self.reporter.time_stages(step, progress, make_call)

    def restore(self, initial: Mapping[str, jax.Array] | None = None) -> tuple[TrainState, CurriculumState, list[Logs]]:
        """Return the newest checkpoint's state, or a new one, and the logs since the last line.

        Log files are truncated to that state. Logs since the last line exist if SIGTERM stopped the run between lines.
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
        print_on_first(f"Resuming from the checkpoint of step {state.step}")
        return state, progress, pending

    def _run_stage(
        self, state: TrainState, progress: CurriculumState, stage: Stage, pending: list[Logs]
    ) -> tuple[TrainState, CurriculumState]:
        """Train to the end of one stage. `pending` holds the logs of the steps since the last line."""
        step, this = int(state.step), progress.stage
        index = process_batch_indices(stage.batch_size)
        batches = self._batches(stage, progress, step)
        self.reporter.begin_stage(step, progress)
        taken, started = 0, time.monotonic()
        while progress.stage == this and self.curriculum.stage(progress, step) is not None:
            if not self._line_due(step, progress, stage, pending):  # due at once if SIGTERM came just before a line
                state, logs = self._steps[this](state, next(batches), index)
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
        """Log the means of `pending`, evaluate and save if due, and advance the curriculum."""
        train = self.config.train
        means = {key: float(np.mean([logs[key] for logs in pending])) for key in pending[0]}
        self._check(state, means, progress)
        cells = stage.batch_size * sum(self.models[progress.stage].schedule(stage.num_frames))
        means |= {"learning_rate": float(self.learning_rate(step - 1)), "num_frames": stage.num_frames}
        means |= {"cells_per_second": cells / seconds, "seconds_per_step": seconds}
        if plain := means.pop("plain_mse", 0.0):
            means["relative_error"] = means["mse"] / plain
        kl = means["kl"] / self.model.num_slots if "kl" in means else None
        try:
            scores = self._evaluate(state, step) if step % train.eval_every == 0 else {}
        except Interrupted:
            self._stop(state, progress, step, pending)
        following = self.curriculum.advance(progress, step, means["loss"], kl, scores.get("eval_mse"))
        self.writer.write_scalars(step, means | scores)
        ended = self.curriculum.stage(following, step) is None
        if step % train.checkpoint_every == 0 or scores or ended:
            self._save(state, following, step, scores)
        self.reporter.line(step, progress, following, means)
        if self.reporter.preview_due():
            self._preview(state, step)
        return following

    def _batches(self, stage: Stage, progress: CurriculumState, step: int) -> Iterator[Mapping[str, np.ndarray]]:
        """Return this process's part of a stage's batches after `step` steps of the run."""
        return self.sources[progress.stage].train_batches(
            stage.num_frames,
            stage.batch_size,
            self.config.seed + progress.stage,
            start_step=step - progress.stage_start,
            recolored=self._configs[progress.stage].data.recolor,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def _line_due(self, step: int, progress: CurriculumState, stage: Stage, pending: list[Logs]) -> bool:
        ends = step == progress.stage_start + stage.num_steps
        return bool(pending) and (step % self.config.train.log_every == 0 or ends)

    def _evaluate(self, state: TrainState, step: int) -> dict[str, float]:
        """Evaluate held-out videos, draw some, and return scores such as `eval_ari`; none if no videos are set."""
        if self.config.eval.periodic_videos == 0:
            return {}
        started = time.monotonic()
        scores, pictures = self.evaluator.periodic(state.params, self._preemption.noticed)
        self.evaluator.draw(self.writer, step, pictures, "validation")
        self.reporter.evaluated(time.monotonic() - started)
        self.reporter.drawn(step)
        return {f"eval_{key}": value for key, value in scores.items()}

    def _preview(self, state: TrainState, step: int) -> None:
        """Draw held-out videos before the first evaluation is due; changes only `media`."""
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
        # A step saved on SIGTERM is not saved again, so it lacks scores if SIGTERM came during an evaluation.
        if step == self.checkpointer.latest_step():
            return
        model = model_settings(self.config)
        meta: dict[str, Any] = {"curriculum": progress._asdict(), "model": model, "step": step}
        meta["pending"] = [{key: float(value) for key, value in logs.items()} for logs in pending]
        score = {"f_ari": scores["eval_f_ari"]} if "eval_f_ari" in scores else None
        self.checkpointer.save(step, *split_params(state), meta, score)

    def _stop(self, state: TrainState, progress: CurriculumState, step: int, pending: list[Logs]) -> NoReturn:
        """Save everything, even between two lines, unless the run has failed by now."""
        if pending:
            self._check(state, {key: float(np.mean([logs[key] for logs in pending])) for key in pending[0]}, progress)
        self._save(state, progress, step, {}, pending)
        raise Preempted(f"stopped by SIGTERM after step {step}, which is saved: the same command resumes from there")

    def _check(self, state: TrainState, means: dict[str, float], progress: CurriculumState) -> None:
        """Raise `TrainingError` after a failed step, with the cause found by repeating it."""
        failed = int(state.failed_step)
        if failed < 0:
            return
        print_on_first(f"step {failed + 1} is not finite: repeating it to find the cause")
        try:
            batch = self._failed_batch(failed, progress)
            found = nan_search.explain(self.models[progress.stage], state, batch, self.workdir)
        except Exception as error:  # a failed search must not hide the original failure
            found = nan_search.unexplained(error)
        last = self.checkpointer.latest_step()
        raise TrainingError(
            f"step {failed + 1}: {found.cause}. The loss or its gradient is not finite (mean loss {means['loss']}). "
            f"Nothing after it was saved; the last good checkpoint is {'none' if last is None else f'step {last}'}. "
            f"{found.saved}Try {found.advice}"
        )

    def _failed_batch(self, step: int, progress: CurriculumState) -> nan_search.FailedBatch:
        """Read this process's part of a step's batch again."""
        stage = self.curriculum.stages[progress.stage]
        index = process_batch_indices(stage.batch_size)
        place = self.sources[progress.stage].clip_locations(stage.num_frames, self.config.seed + progress.stage)
        first = (step - progress.stage_start) * stage.batch_size
        places = np.array([place(first + i) for i in index.tolist()])
        return nan_search.FailedBatch(step, dict(next(self._batches(stage, progress, step))), index, places)


def _read_meta(meta: Mapping[str, Any], workdir: Path) -> tuple[CurriculumState, list[Logs]]:
    """Return the curriculum's state and the logs since the last line."""
    try:
        pending: list[Logs] = [
            {str(key): np.float32(value) for key, value in logs.items()} for logs in meta.get("pending", ())
        ]
        return CurriculumState(**meta["curriculum"]), pending
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"the newest checkpoint in {workdir} was not written by this program ({error!r}): change --workdir"
        ) from error
