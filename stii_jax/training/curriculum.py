"""The curriculum: clips grow in stages, by steps or when the loss or the held-out error stalls. Paper appendix D.

A collapsed posterior stops the run.
"""

import dataclasses
import math
from typing import NamedTuple

from ml_collections import ConfigDict

from stii_jax.errors import UserError


class PosteriorCollapse(UserError, RuntimeError):
    """The posterior no longer carries information about the video."""


class Stage(NamedTuple):
    """A stage of training."""

    num_frames: int
    batch_size: int
    num_steps: int
    """Maximum number of steps."""
    settings: tuple[str, ...] = ()
    """Settings of this stage alone: `key=value`, as on the command line."""


class CurriculumState(NamedTuple):
    """A run's position in the curriculum; part of its checkpoints."""

    stage: int = 0
    stage_start: int = 0
    """Step at which the stage started."""
    smoothed_loss: float | None = None
    best_loss: float | None = None
    best_step: int = 0
    collapsed_since: int | None = None
    """First logged step of an unbroken collapse."""
    best_error: float | None = None
    """Lowest squared error on held-out videos in this stage."""
    best_error_step: int = 0


@dataclasses.dataclass(frozen=True)
class Curriculum:
    """The stages and the rules for moving between them; the arguments are those of `config.curriculum`."""

    stages: tuple[Stage, ...]
    patience: int = 0
    held_out_patience: int = 0
    min_improvement: float = 0.0
    collapse_kl: float = 0.0
    collapse_patience: int = 0
    smoothing: float = 0.9

    @property
    def num_steps(self) -> int:
        """Number of steps of the whole run, unless stages end early."""
        return sum(stage.num_steps for stage in self.stages)

    @property
    def may_end_early(self) -> bool:
        """True if a stage ends when it no longer improves."""
        return self.patience > 0 or self.held_out_patience > 0

    def ended_early(self, step: int, before: CurriculumState, after: CurriculumState) -> bool:
        """True if a stage ended at `step` with steps left."""
        return after.stage > before.stage and step - before.stage_start < self.stages[before.stage].num_steps

    def stage(self, state: CurriculumState, step: int) -> Stage | None:
        """Return the stage after `step` steps; None at the end. A finished run continues if given more steps."""
        if state.stage == len(self.stages):
            return None
        stage = self.stages[state.stage]
        return None if self._is_last(state) and step - state.stage_start >= stage.num_steps else stage

    def advance(
        self, state: CurriculumState, step: int, loss: float, kl: float | None, error: float | None = None
    ) -> CurriculumState:
        """Return the state after `step` steps.

        Args:
            state: the position before these steps.
            step: number of steps so far.
            loss: the logged loss.
            kl: nats per slot and frame. None for a model without a posterior, which cannot collapse.
            error: squared error on held-out videos, if they were evaluated after this step.

        Raises:
            PosteriorCollapse: the KL stayed under `collapse_kl` for `collapse_patience` steps.
        """
        state = state if kl is None else self._watch_collapse(state, step, kl)
        old = state.smoothed_loss
        smoothed = loss if old is None else self.smoothing * old + (1 - self.smoothing) * loss
        if self._is_better(smoothed, state.best_loss):
            state = state._replace(best_loss=smoothed, best_step=step)
        if error is not None and self._is_better(error, state.best_error):
            state = state._replace(best_error=error, best_error_step=step)
        state = state._replace(smoothed_loss=smoothed)
        watched = ((self.patience, state.best_step), (self.held_out_patience, state.best_error_step))
        stalled = any(0 < patience <= step - max(best, state.stage_start) for patience, best in watched)
        used_up = step - state.stage_start >= self.stages[state.stage].num_steps
        if stalled or (used_up and not self._is_last(state)):
            return CurriculumState(stage=state.stage + 1, stage_start=step, collapsed_since=state.collapsed_since)
        return state

    def _is_better(self, value: float, best: float | None) -> bool:
        """True if a value is below the best one by more than `min_improvement`, a fraction of it."""
        return value < (math.inf if best is None else best - self.min_improvement * abs(best))

    def _is_last(self, state: CurriculumState) -> bool:
        return state.stage == len(self.stages) - 1

    def _watch_collapse(self, state: CurriculumState, step: int, kl: float) -> CurriculumState:
        if kl >= self.collapse_kl:
            return state._replace(collapsed_since=None)
        since = step if state.collapsed_since is None else state.collapsed_since
        if self.collapse_patience and step - since >= self.collapse_patience:
            raise PosteriorCollapse(
                f"step {step}: the posterior has collapsed onto the prior: its KL is {kl:.3g} nats per slot and frame, "
                f"under curriculum.collapse_kl={self.collapse_kl} since step {since}. Try a smaller loss.kl, a larger "
                "loss.log_likelihood, shorter clips at first, or another seed; curriculum.collapse_patience=0 disables "
                "this check"
            )
        return state._replace(collapsed_since=since)


def make_curriculum(config: ConfigDict) -> Curriculum:
    """Return the curriculum: `data.num_frames`, `batch_size` and `train.num_steps`, then `curriculum.stages`."""
    settings = config.curriculum.to_dict()
    first = (config.data.num_frames, config.batch_size, config.train.num_steps, *settings.pop("first"))
    stages = tuple(Stage(T, B, steps, tuple(own)) for T, B, steps, *own in (first, *settings.pop("stages")))
    return Curriculum(stages, **settings)
