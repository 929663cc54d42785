"""Clips grow in stages, by steps or when the loss stalls; a collapsed posterior stops the run. Paper appendix D."""

import dataclasses
import math
from typing import NamedTuple

from ml_collections import ConfigDict

from stii_jax.errors import UserError


class PosteriorCollapse(UserError, RuntimeError):
    """The posterior says nothing of the video any more."""


class Stage(NamedTuple):
    """A part of the training."""

    num_frames: int
    batch_size: int
    num_steps: int
    """At most this many."""
    settings: tuple[str, ...] = ()
    """Settings of this stage alone: `key=value`, as on the command line."""


class CurriculumState(NamedTuple):
    """Where a run is; part of its checkpoints."""

    stage: int = 0
    stage_start: int = 0
    """Step at which the stage began."""
    smoothed_loss: float | None = None
    best_loss: float | None = None
    best_step: int = 0
    collapsed_since: int | None = None
    """First logged step of an unbroken collapse."""


@dataclasses.dataclass(frozen=True)
class Curriculum:
    """The stages and the rules by which they follow one another; the arguments are those of `config.curriculum`."""

    stages: tuple[Stage, ...]
    patience: int = 0
    min_improvement: float = 0.0
    collapse_kl: float = 0.0
    collapse_patience: int = 0
    smoothing: float = 0.9

    @property
    def num_steps(self) -> int:
        """Steps of the whole run, unless stages end early."""
        return sum(stage.num_steps for stage in self.stages)

    def stage(self, state: CurriculumState, step: int) -> Stage | None:
        """The stage to train after `step` steps; None at the end. A run out of steps goes on once it is given more."""
        if state.stage == len(self.stages):
            return None
        stage = self.stages[state.stage]
        return None if self._is_last(state) and step - state.stage_start >= stage.num_steps else stage

    def advance(self, state: CurriculumState, step: int, loss: float, kl: float | None) -> CurriculumState:
        """The state after `step` steps, by the loss and the KL (nats a slot and frame) logged there.

        A model without a KL, which is None, has no posterior that could collapse.

        Raises:
            PosteriorCollapse: the KL stayed under `collapse_kl` for `collapse_patience` steps.
        """
        state = state if kl is None else self._watch_collapse(state, step, kl)
        old = state.smoothed_loss
        smoothed = loss if old is None else self.smoothing * old + (1 - self.smoothing) * loss
        best = math.inf if state.best_loss is None else state.best_loss
        if smoothed < best - self.min_improvement * (abs(best) if math.isfinite(best) else 0.0):
            state = state._replace(best_loss=smoothed, best_step=step)
        state = state._replace(smoothed_loss=smoothed)
        stalled = self.patience > 0 and step - max(state.best_step, state.stage_start) >= self.patience
        used_up = step - state.stage_start >= self.stages[state.stage].num_steps
        if stalled or (used_up and not self._is_last(state)):
            return CurriculumState(stage=state.stage + 1, stage_start=step, collapsed_since=state.collapsed_since)
        return state

    def _is_last(self, state: CurriculumState) -> bool:
        return state.stage == len(self.stages) - 1

    def _watch_collapse(self, state: CurriculumState, step: int, kl: float) -> CurriculumState:
        if kl >= self.collapse_kl:
            return state._replace(collapsed_since=None)
        since = step if state.collapsed_since is None else state.collapsed_since
        if self.collapse_patience and step - since >= self.collapse_patience:
            raise PosteriorCollapse(
                f"step {step}: the posterior has collapsed onto the prior: its KL is {kl:.3g} nats a slot and frame, "
                f"under curriculum.collapse_kl={self.collapse_kl} since step {since}. Try a smaller loss.kl, a larger "
                "loss.log_likelihood, shorter clips at first, or another seed; curriculum.collapse_patience=0 turns "
                "this check off"
            )
        return state._replace(collapsed_since=since)


def make_curriculum(config: ConfigDict) -> Curriculum:
    """The stages of a run: `data.num_frames`, `batch_size` and `train.num_steps`, then `curriculum.stages`."""
    settings = config.curriculum.to_dict()
    first = (config.data.num_frames, config.batch_size, config.train.num_steps, *settings.pop("first"))
    stages = tuple(Stage(T, B, steps, tuple(own)) for T, B, steps, *own in (first, *settings.pop("stages")))
    return Curriculum(stages, **settings)
