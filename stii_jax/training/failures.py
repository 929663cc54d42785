"""The classic failures of training, as they show in the logged lines: nothing is drawn, or one slot takes all.

Each is reported once per stage, with the evidence and the settings to change; the run goes on.
"""

import json
import shlex
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from stii_jax.config import stage_configs
from stii_jax.data.catalog import resolve_config
from stii_jax.data.options import VideoConfig
from stii_jax.models.registry import SYSTEMS
from stii_jax.training.curriculum import CurriculumState
from stii_jax.training.progress import shares

_WINDOW, _FEWEST_LINES = 200, 4
"""Steps that a failure has to last, and logged lines that have to show it."""
_EARLIEST = 400
"""Steps of a run before any verdict; those that learn have left the start by then, after 125 to 350."""
_PLAIN, _FALLING = 0.9, 0.95
"""Least relative error of a model that draws nothing, and the ratio of its means over both halves of the window."""
_CHANCE, _MOST, _RISING = 0.1, 0.15, 0.02
"""Mean and greatest F-ARI where one slot holds all objects, and the most that it rises from half to half."""
_DRAWN = 0.75
"""Relative error of a model that draws objects, whichever slot does."""
_EVERYTHING = 0.999
"""Least share of the pixels where one slot holds everything. A background leaves more than that to objects."""

Line = Mapping[str, float]


class Failure(NamedTuple):
    """A failure and how it is told to the user."""

    name: str
    shows: Callable[[Sequence[Line]], bool]
    """True if the lines of the window show it."""
    evidence: Callable[[Sequence[Line]], str]
    remedies: Callable[[VideoConfig, bool], list[str]]
    """Changes to these training videos; the second argument is `data.recolor`."""


class FailureWatch:
    """Watches the logged lines of a run.

    Args:
        config: the run's settings.
    """

    def __init__(self, config: ConfigDict):
        self._config, self._stages = config, stage_configs(config)
        self._stage = -1
        self._lines: deque[tuple[int, Line]] = deque()
        self._reported: set[str] = set()

    def warning(self, step: int, progress: CurriculumState, means: Line) -> str:
        """A warning of one line after the lines so far, or "".

        Args:
            step: steps taken so far.
            progress: the place of these steps in the curriculum.
            means: the scalars logged; see docs/metrics.md.
        """
        if progress.stage != self._stage:
            self._stage, self._reported = progress.stage, set()
            self._lines.clear()
        self._lines.append((step, means))
        while self._lines[0][0] <= step - _WINDOW:
            self._lines.popleft()
        earliest = max(_EARLIEST, progress.stage_start + _WINDOW, self._config.optim.warmup_steps + _WINDOW)
        if step < earliest or len(self._lines) < _FEWEST_LINES:
            return ""
        lines = [line for _, line in self._lines]
        failure = next((one for one in FAILURES if one.shows(lines)), None)
        if failure is None or failure.name in self._reported:
            return ""
        self._reported.add(failure.name)
        data = self._stages[progress.stage].data
        videos = resolve_config(data.dataset, data.variant, data.options.to_dict())
        softer = _softer_mixture(self._config, self._stages)
        remedies = "; ".join([*softer, *failure.remedies(videos, data.recolor), *_easier_starts(self._config)])
        return f"step {step}: {failure.name}: for {_WINDOW} steps {failure.evidence(lines)}. Remedies: {remedies}"


def draws_nothing(lines: Sequence[Line]) -> bool:
    """True if the reconstructions stay as far off as frames of one plain colour each."""
    errors = _values(lines, "relative_error")
    half = len(errors) // 2
    return bool(errors) and min(errors) >= _PLAIN and _mean(errors[half:]) > _FALLING * _mean(errors[:half])


def takes_all_objects(lines: Sequence[Line]) -> bool:
    """True if labelled objects are drawn but stay in one slot, even if the background has another one."""
    scores, errors = _values(lines, "f_ari"), _values(lines, "relative_error")
    if not scores or (errors and _mean(errors) >= _DRAWN):
        return False
    half = len(scores) // 2
    rising = _mean(scores[half:]) - _mean(scores[:half]) > _RISING
    return max(scores) < _MOST and _mean(scores) < _CHANCE and not rising


def takes_everything(lines: Sequence[Line]) -> bool:
    """True if one of several slots wins all pixels, or all but a handful."""
    return "slot_share_2" in lines[0] and min(_values(lines, "slot_share_1")) >= _EVERYTHING


def _no_better_than_plain(lines: Sequence[Line]) -> str:
    error, mse = _mean(_values(lines, "relative_error")), _mean(_values(lines, "mse"))
    return f"its error has been {error:.0%} of that of one plain colour per frame (MSE {mse:.4f})"


def _objects_together(lines: Sequence[Line]) -> str:
    score = _mean(_values(lines, "f_ari"))
    return f"F-ARI has been {score:.2f} on average, which is chance, though something is drawn ({_drawn(lines[-1])})"


def _pixels_together(lines: Sequence[Line]) -> str:
    share = min(_values(lines, "slot_share_1"))
    return f"it has won {share:.1%} of the pixels or more ({_drawn(lines[-1])})"


def _drawn(line: Line) -> str:
    error = [f"error {line['relative_error']:.0%}"] if "relative_error" in line else []
    return ", ".join([*error, shares(line)])


def _inferred_backgrounds(videos: VideoConfig, recolored: bool) -> list[str]:
    del recolored
    missing = [name for name in ("random_background", "random_floor") if getattr(videos, name, None) is False]
    return [f"backgrounds that have to be inferred, --config.data.options.{name}=true" for name in missing]


def _changing_colors(videos: VideoConfig, recolored: bool) -> list[str]:
    option = ""
    if getattr(videos, "shuffle_colors", None) is False and getattr(videos, "num_colors", 0) >= videos.max_objects:
        option = "data.options.shuffle_colors"
    elif not hasattr(videos, "shuffle_colors") and not recolored:
        option = "data.recolor"
    return [f"colours that stand for no object, --config.{option}=true"] if option else []


def _softer_mixture(config: ConfigDict, stages: Sequence[ConfigDict]) -> list[str]:
    soft = any(stage.model.temperature > 1 or stage.model.likelihood == "channelwise" for stage in stages)
    if soft or not SYSTEMS[config.system].is_stii:
        return []
    first = ",".join(map(json.dumps, (*config.curriculum.first, "model.temperature=10")))
    return [f"if objects look alike, a soft mixture at first, --config.curriculum.first={shlex.quote(f'({first},)')}"]


def _easier_starts(config: ConfigDict) -> list[str]:
    shorter = ["single frames first, --config.data.num_frames=1"] if config.data.num_frames > 1 else []
    return [*shorter, "a start from a model of similar videos, --init", "another --config.seed"]


def _values(lines: Sequence[Line], name: str) -> list[float]:
    return [line[name] for line in lines if name in line]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


FAILURES = (
    Failure("the model draws nothing", draws_nothing, _no_better_than_plain, _inferred_backgrounds),
    Failure("one slot takes all objects", takes_all_objects, _objects_together, _changing_colors),
    Failure("one slot takes everything", takes_everything, _pixels_together, _changing_colors),
)
"""In the order in which they are looked for."""
