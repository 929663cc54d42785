"""Reports on a training run: its time, its quality so far, and the location of its pictures."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
from ml_collections import ConfigDict

from stii_jax.devices.processes import is_first
from stii_jax.evaluation.evaluator import Evaluator
from stii_jax.models.video_model import VideoModel
from stii_jax.training.curriculum import Curriculum, CurriculumState, Stage
from stii_jax.training.failures import FailureWatch
from stii_jax.training.progress import Display, TimeEstimate, Timing, duration, status, time_calls

PREVIEW_AFTER = 60.0
"""Seconds of training after which held-out videos are drawn for the first time, if no evaluation has done so."""
_EVALUATION_COST = 0.45
"""Time per evaluation cell relative to a training cell, assumed until an evaluation has been timed."""


class Reporter:
    """The messages and the progress display of one run. Only the first process prints; the run is not affected."""

    def __init__(
        self, config: ConfigDict, model: VideoModel, curriculum: Curriculum, evaluator: Evaluator, workdir: Path
    ):
        self._train, self._eval, self._media = config.train, config.eval, workdir / "media"
        self._model, self._curriculum, self._evaluator = model, curriculum, evaluator
        self._display = Display(enabled=is_first())
        self._estimate, self._failures = TimeEstimate([]), FailureWatch(config)
        self._since = self._begun = time.monotonic()
        self._draws = bool(config.eval.periodic_videos and config.eval.num_pictures)
        self._last = 0
        self._drawn = False

    def time_stages(
        self, step: int, progress: CurriculumState, make_call: Callable[[Stage, CurriculumState], Callable[[], object]]
    ) -> None:
        """Compile and time a step of each stage to come, and announce the run's time.

        Training uses the same compiled programs. A stage that does not fit into memory fails here, before training
        starts.

        Args:
            step: steps taken so far.
            progress: position in the curriculum.
            make_call: factory of a function that takes a step of a stage and discards its result.
        """
        stages, timings = self._curriculum.stages, dict[int, Timing]()
        for number in range(progress.stage, len(stages)):
            clips = f"{stages[number].batch_size} clips of {_frames(stages[number].num_frames)}"
            own = "".join(f", {setting}" for setting in stages[number].settings)
            self._display.say(f"stage {number + 1} of {len(stages)}: compiling the step, for {clips}{own}")
            there = progress if number == progress.stage else CurriculumState(stage=number, stage_start=step)
            timings[number] = time_calls(make_call(stages[number], there))
        of_steps = [(stage.num_steps, timings[n].step if n in timings else 0.0) for n, stage in enumerate(stages)]
        self._estimate = TimeEstimate(of_steps, *self._guess_evaluations(timings[len(stages) - 1]))
        for line in self._announcement(step, progress):
            self._display.say(line)
        self._since = self._begun = time.monotonic()
        self._last = step

    def begin_stage(self, step: int, progress: CurriculumState) -> None:
        """Show that a stage starts after `step` steps."""
        name = f"stage {progress.stage + 1}/{len(self._curriculum.stages)}"
        self._display.begin(name, step, step + self._steps_left(step, progress)[1])

    def step(self) -> None:
        """Advance the display by one step."""
        self._display.step()

    def line(
        self, step: int, progress: CurriculumState, following: CurriculumState, means: Mapping[str, float]
    ) -> None:
        """Show the state after `step` steps.

        Args:
            step: steps taken so far.
            progress: position in the curriculum during these steps.
            following: position in the curriculum now.
            means: the logged scalars; see docs/metrics.md.
        """
        now = time.monotonic()
        self._estimate.record_steps(progress.stage, step - self._last, now - self._since)
        self._since, self._last = now, step
        self._display.show(step, status(self._left(step, following), means))
        if self._curriculum.ended_early(step, progress, following):
            count = len(self._curriculum.stages)
            self._display.say(f"step {step}: stage {following.stage}/{count} ends early, as it no longer improves")
        if warning := self._failures.warning(step, progress, means):
            self._display.say(f"warning: {warning}")

    def evaluated(self, seconds: float) -> None:
        """Record the time of a periodic evaluation."""
        self.paused(seconds)
        self._estimate.record_evaluation(seconds)

    def paused(self, seconds: float) -> None:
        """Exclude a pause between steps from their pace."""
        self._since += seconds

    def preview_due(self) -> bool:
        """True after a minute of training if there are no pictures yet."""
        if self._drawn or not self._draws or jax.process_count() > 1:
            return False
        return time.monotonic() - self._begun >= PREVIEW_AFTER and not (self._media / "validation_0.png").exists()

    def drawn(self, step: int) -> None:
        """Report the location of the pictures of held-out videos when they are first drawn."""
        if self._draws and not self._drawn:
            every = self._train.eval_every
            self._display.say(
                f"step {step}: pictures of held-out videos are in {self._media} (validation_0.png, validation_0.gif); "
                f"they are redrawn every {every} steps"
            )
        self._drawn = True

    def say(self, text: str) -> None:
        """Print a line in the first process."""
        self._display.say(text)

    def close(self) -> None:
        """Leave the display as it is."""
        self._display.close()

    def _guess_evaluations(self, timing: Timing) -> tuple[float, float]:
        """Estimate the seconds of a periodic evaluation, and of everything after the last step.

        Args:
            timing: timing of the last stage, whose clips are most similar to the evaluated videos.
        """
        stage, settings, evaluator = self._curriculum.stages[-1], self._eval, self._evaluator
        of_cell = _EVALUATION_COST * timing.step / (stage.batch_size * sum(self._model.schedule(stage.num_frames)))
        periodic = 0
        if settings.periodic_videos:
            periodic = evaluator.num_cells("validation", settings.lengths[0], settings.periodic_videos)
        longest = max(n for n in settings.lengths if n <= evaluator.source.frames_of(settings.split))
        final = evaluator.num_cells(settings.split, longest, settings.num_videos)
        return of_cell * periodic, of_cell * final + timing.first

    def _announcement(self, step: int, progress: CurriculumState) -> list[str]:
        """Return lines about the run's time and its first pictures."""
        count = len(self._curriculum.stages) - progress.stage
        stages = f"{count} stage{'s' * (count > 1)}"
        most = "at most" if self._curriculum.may_end_early else "about"
        left, evaluating = (
            self._left(step, progress),
            self._estimate.evaluation_seconds(self._evaluations_left(step, progress)),
        )
        lines = [
            f"{stages}, {most} {duration(left)} {'more' if step else 'in all'} on this machine: training "
            f"{duration(left - evaluating)}, evaluation {duration(evaluating)}"
        ]
        if self._draws and not (self._media / "validation_0.png").exists():
            at = self._train.eval_every - step % self._train.eval_every
            until = at * self._estimate.seconds_per_step(progress.stage)
            until = min(until, PREVIEW_AFTER) if jax.process_count() == 1 else until
            lines.append(f"first pictures of held-out videos: in about {duration(until)}, in {self._media}")
        return lines

    def _steps_left(self, step: int, progress: CurriculumState) -> tuple[int, int]:
        """Return the number of steps left in the current stage, and in total."""
        stages = self._curriculum.stages
        if self._curriculum.stage(progress, step) is None:
            return 0, 0
        here = stages[progress.stage].num_steps - (step - progress.stage_start)
        return here, here + sum(stage.num_steps for stage in stages[progress.stage + 1 :])

    def _evaluations_left(self, step: int, progress: CurriculumState) -> int:
        every, last = self._train.eval_every, step + self._steps_left(step, progress)[1]
        return (last // every - step // every) if self._eval.periodic_videos else 0

    def _left(self, step: int, progress: CurriculumState) -> float:
        """Return the seconds left of the run."""
        stage = min(progress.stage, len(self._curriculum.stages) - 1)
        here = self._steps_left(step, progress)[0]
        return self._estimate.seconds_left(stage, here, self._evaluations_left(step, progress))


def _frames(count: int) -> str:
    return f"{count} frame{'s' * (count > 1)}"
