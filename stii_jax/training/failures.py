"""The classic failures of training, detected in the logged lines: nothing drawn, slots alike, one slot for all.

Each is reported once per stage, with the evidence and the settings to change; the run continues.
"""

import json
import math
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
"""Number of steps that a failure must last, and of logged lines that must show it."""
_EARLIEST = 400
"""Steps of a run before any verdict. Runs that learn have started to improve by then, after 125 to 350 steps."""
_PLAIN, _FALLING = 0.9, 0.95
"""Minimum relative error of a model that draws nothing, and minimum ratio of its means over the window's halves."""
_CHANCE, _MOST, _RISING = 0.1, 0.15, 0.02
"""Bounds if one slot holds all objects: mean F-ARI, maximum F-ARI, and its rise between the window's halves."""
_DRAWN = 0.75
"""Maximum relative error of a model that draws objects, in any slot."""
_UNIFORM = 0.99
"""Minimum entropy, relative to that of uniform masks, of masks that do not yet assign pixels to slots."""
_DRAWN_WELL = 0.4
"""Maximum relative error of slots that draw the frame without dividing it. Late learners divide it above .48."""
_APART = 0.3
"""Minimum mean F-ARI of separated objects, which may be too small to show in the entropy."""
_MOST_COLORS = 8
"""Number of colours in every palette of balls."""
_EVERYTHING = 0.999
"""Minimum share of the pixels of a slot that holds everything. A mere background leaves more to the objects."""

Line = Mapping[str, float]


class Case(NamedTuple):
    """A stage of a run."""

    config: ConfigDict
    """The run's settings."""
    stages: Sequence[ConfigDict]
    """The settings of each stage."""
    number: int
    """Index of the stage, from 0."""
    videos: VideoConfig
    """The videos of the stage."""

    @property
    def stage(self) -> ConfigDict:
        """The settings of this stage."""
        return self.stages[self.number]

    def change(self, setting: str) -> str:
        """Return the text that tells users how to set `key=value` in this stage."""
        curriculum = self.config.curriculum
        own = curriculum.stages[self.number - 1][3:] if self.number else curriculum.first
        key = setting.partition("=")[0]
        if any(one.partition("=")[0] == key for one in own):
            return f"{setting} in the settings of this stage"
        return f"--config.{setting}"


class Failure(NamedTuple):
    """A failure and its report to the user."""

    name: str
    shows: Callable[[Sequence[Line]], bool]
    """True if the lines of the window show it."""
    evidence: Callable[[Sequence[Line]], str]
    remedies: Sequence[Callable[[Case], list[str]]]


class FailureWatch:
    """A watcher of a run's logged lines.

    Args:
        config: the run's settings.
    """

    def __init__(self, config: ConfigDict):
        self._config, self._stages = config, stage_configs(config)
        self._case: Case | None = None
        self._lines: deque[tuple[int, Line]] = deque()
        self._reported: set[str] = set()

    def warning(self, step: int, progress: CurriculumState, means: Line) -> str:
        """Return a one-line warning after the lines so far, or "".

        Args:
            step: steps taken so far.
            progress: position of these steps in the curriculum.
            means: the logged scalars; see docs/metrics.md.
        """
        if self._case is None or progress.stage != self._case.number:
            data = self._stages[progress.stage].data
            videos = resolve_config(data.dataset, data.variant, data.options.to_dict())
            self._case = Case(self._config, self._stages, progress.stage, videos)
            self._reported = set()
            self._lines.clear()
        self._lines.append((step, {**means, **_uniformity(self._case, means)}))
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
        remedies = "; ".join(text for remedy in (*failure.remedies, _easier_starts) for text in remedy(self._case))
        return f"step {step}: {failure.name}: for {_WINDOW} steps {failure.evidence(lines)}. Remedies: {remedies}"


def draws_nothing(lines: Sequence[Line]) -> bool:
    """True if reconstructions stay no better than one plain colour per frame, and objects stay together."""
    errors, scores = _values(lines, "relative_error"), _values(lines, "f_ari")
    if not errors or min(errors) < _PLAIN or (scores and _come_apart(scores)):
        return False
    half = len(errors) // 2
    return _mean(errors[half:]) > _FALLING * _mean(errors[:half])


def stay_alike(lines: Sequence[Line]) -> bool:
    """True if frames are mostly reconstructed while masks stay uniform and labelled objects stay together."""
    errors, uniformity, scores = (_values(lines, name) for name in ("relative_error", "mask_uniformity", "f_ari"))
    if not errors or _mean(errors) >= _DRAWN_WELL or (scores and _mean(scores) >= _APART):
        return False
    return bool(uniformity) and min(uniformity) >= _UNIFORM


def takes_all_objects(lines: Sequence[Line]) -> bool:
    """True if labelled objects are drawn but stay in one slot, even if the background has its own."""
    scores, errors = _values(lines, "f_ari"), _values(lines, "relative_error")
    if not scores or (errors and _mean(errors) >= _DRAWN):
        return False
    if max(_values(lines, "mask_uniformity"), default=0.0) >= _UNIFORM:
        return False  # no slot has taken anything yet
    half = len(scores) // 2
    rising = _mean(scores[half:]) - _mean(scores[:half]) > _RISING
    return max(scores) < _MOST and _mean(scores) < _CHANCE and not rising


def takes_everything(lines: Sequence[Line]) -> bool:
    """True if one of several slots wins all pixels or nearly all."""
    return "slot_share_2" in lines[0] and min(_values(lines, "slot_share_1")) >= _EVERYTHING


def _no_better_than_plain(lines: Sequence[Line]) -> str:
    error, mse = _mean(_values(lines, "relative_error")), _mean(_values(lines, "mse"))
    return f"its error has been {error:.0%} of that of one plain colour per frame (MSE {mse:.4f})"


def _drawn_by_all(lines: Sequence[Line]) -> str:
    uniformity = min(_values(lines, "mask_uniformity"))
    return (
        f"their masks have had {uniformity:.1%} of the entropy of uniform masks or more, so that each slot draws the "
        f"whole frame ({_drawn(lines[-1])})"
    )


def _objects_together(lines: Sequence[Line]) -> str:
    score = _mean(_values(lines, "f_ari"))
    return f"F-ARI has been {score:.2f} on average, which is chance, though something is drawn ({_drawn(lines[-1])})"


def _pixels_together(lines: Sequence[Line]) -> str:
    share = min(_values(lines, "slot_share_1"))
    return f"it has won {share:.1%} of the pixels or more ({_drawn(lines[-1])})"


def _drawn(line: Line) -> str:
    error = [f"error {line['relative_error']:.0%}"] if "relative_error" in line else []
    return ", ".join([*error, shares(line)])


def _inferred_backgrounds(case: Case) -> list[str]:
    missing = [name for name in ("random_background", "random_floor") if getattr(case.videos, name, None) is False]
    return [f"backgrounds that must be inferred, {case.change(f'data.options.{name}=true')}" for name in missing]


def _changing_colors(case: Case) -> list[str]:
    videos, option = case.videos, ""
    if getattr(videos, "shuffle_colors", None) is False and getattr(videos, "num_colors", 0) >= videos.max_objects:
        option = "data.options.shuffle_colors"
    elif not hasattr(videos, "shuffle_colors") and not case.stage.data.recolor:
        option = "data.recolor"
    return [f"colours that do not identify objects, {case.change(f'{option}=true')}"] if option else []


def _mixed_kinds(case: Case) -> list[str]:
    videos = case.videos
    if not (_all_white(videos) and hasattr(videos, "white_share") and videos.max_objects <= _MOST_COLORS):
        return []
    num_colors = videos.num_colors if videos.num_colors >= videos.max_objects else _MOST_COLORS
    wanted = {"num_colors": num_colors, "shuffle_colors": True, "random_background": True, "white_share": 0.1}
    missing = [f"data.options.{name}={json.dumps(to)}" for name, to in wanted.items() if getattr(videos, name) != to]
    return [f"videos with random colours and backgrounds beside white on black, {' '.join(map(case.change, missing))}"]


def _larger_objects(case: Case) -> list[str]:
    option = "--config.data.options.crop"
    return [f"a crop in which objects are larger, {option}"] if hasattr(case.videos, "crop") else []


def _softer_mixture(case: Case) -> list[str]:
    if any(map(_softness, case.stages)) or not SYSTEMS[case.config.system].is_stii:
        return []
    first = ",".join(map(json.dumps, (*case.config.curriculum.first, "model.temperature=10")))
    return [f"if objects look alike, a soft mixture at first, --config.curriculum.first={shlex.quote(f'({first},)')}"]


def _sharper_mixture(case: Case) -> list[str]:
    if _all_white(case.videos) or not (soft := _softness(case.stage)):
        return []
    return [f"if objects differ in colour, a sharper mixture, {' '.join(map(case.change, soft))}"]


def _softness(config: ConfigDict) -> list[str]:
    """Return the settings that would make a softened mixture exact again."""
    temperature = ["model.temperature=1"] if config.model.temperature > 1 else []
    return [*temperature, *(["model.likelihood=joint"] if config.model.likelihood == "channelwise" else [])]


def _all_white(videos: VideoConfig) -> bool:
    return getattr(videos, "num_colors", None) == 0 or getattr(videos, "white_share", 0.0) == 1


def _easier_starts(case: Case) -> list[str]:
    shorter = ["single frames first, --config.data.num_frames=1"] if case.config.data.num_frames > 1 else []
    return [*shorter, "a start from a model of similar videos, --init", "another --config.seed"]


def _uniformity(case: Case, means: Line) -> Line:
    """Return the masks' entropy relative to uniform masks, if there are masks of several slots."""
    num_slots = case.stage.model.num_slots
    if "mask_entropy" not in means or num_slots == 1:
        return {}
    return {"mask_uniformity": means["mask_entropy"] / (case.videos.image_size**2 * math.log(num_slots))}


def _come_apart(scores: Sequence[float]) -> bool:
    """True if F-ARI has risen above chance and doubled, which can happen before the error falls."""
    half = len(scores) // 2
    return _mean(scores[half:]) > max(_CHANCE, 2 * _mean(scores[:half]))


def _values(lines: Sequence[Line], name: str) -> list[float]:
    return [line[name] for line in lines if name in line]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


FAILURES = (
    Failure("the model draws nothing", draws_nothing, _no_better_than_plain, (_softer_mixture, _inferred_backgrounds)),
    Failure("slots stay alike", stay_alike, _drawn_by_all, (_sharper_mixture, _mixed_kinds, _larger_objects)),
    Failure("one slot takes all objects", takes_all_objects, _objects_together, (_softer_mixture, _changing_colors)),
    Failure("one slot takes everything", takes_everything, _pixels_together, (_softer_mixture, _changing_colors)),
)
"""The failures, in the order in which they are checked."""
