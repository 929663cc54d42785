"""The progress display of a training run: the time left, and scores that are easy to judge."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 30.0  # in a log file
_SHOWN_SLOTS = 5
_MEMORY = 0.8  # share of the old value in the moving average of a step's time


class Timing(NamedTuple):
    """The run time of a program, in seconds."""

    first: float
    """Extra time of the first call, mostly compilation."""
    step: float
    """Time of every later call."""


def time_calls(call: Callable[[], object], enough: float = 2.0, most: int = 4) -> Timing:
    """Call a function that returns when its work is done, and time it.

    It is called at least twice, and then until the calls have taken `enough` seconds, but at most `most` times. The
    fastest call after the first one counts; slower ones were delayed.
    """
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) < most and sum(seconds[1:]) < enough):
        started = time.monotonic()
        call()
        seconds.append(time.monotonic() - started)
    step = max(min(seconds[1:]), 1e-9)
    return Timing(max(seconds[0] - step, 0.0), step)


class TimeEstimate:
    """An estimate of a run's remaining time, from timed steps at first and from actual steps later.

    Args:
        stages: steps and seconds per step of each stage, in order.
        evaluation: first estimate of the seconds per periodic evaluation.
        ending: seconds of everything after the last step.
    """

    def __init__(self, stages: Sequence[tuple[int, float]], evaluation: float = 0.0, ending: float = 0.0):
        self._stages, self._evaluation, self._ending = list(stages), evaluation, ending
        self._pace = 1.0
        """Ratio of actual to timed seconds per step; the same ratio is assumed for later stages."""
        self._num_evaluated = 0

    def seconds_per_step(self, stage: int) -> float:
        """Return the expected time of a step."""
        return self._pace * self._stages[stage][1]

    def record_steps(self, stage: int, num_steps: int, seconds: float) -> None:
        """Record the pace of a stage's last steps, if there are any."""
        if not num_steps:  # a run that stopped at a line starts with that line
            return
        pace = seconds / num_steps / self._stages[stage][1]
        self._pace = _MEMORY * self._pace + (1 - _MEMORY) * pace

    def record_evaluation(self, seconds: float) -> None:
        """Record the time of a periodic evaluation. The first one also compiles and does not count."""
        self._num_evaluated += 1
        if self._num_evaluated > 1:
            self._evaluation = seconds

    def evaluation_seconds(self, count: int) -> float:
        """Return the seconds of `count` periodic evaluations and of everything after the last step."""
        return count * self._evaluation + self._ending

    def seconds_left(self, stage: int, steps_left: int, evaluations_left: int) -> float:
        """Return the seconds left for `steps_left` steps of `stage` and all later stages."""
        later = sum(count * seconds for count, seconds in self._stages[stage + 1 :])
        steps = steps_left * self._stages[stage][1] + later
        return self._pace * steps + self.evaluation_seconds(evaluations_left)


class Display:
    """A progress bar in a terminal; in a file, one line every half minute.

    Args:
        enabled: False in processes that must not print.
    """

    def __init__(self, enabled: bool = True):
        self._enabled, self._is_terminal = enabled, sys.stderr.isatty()
        self._bar: tqdm | None = None
        self._stage, self._total = "", 0
        self._last_line = -_SECONDS_BETWEEN_LINES

    def begin(self, stage: str, step: int, total: int) -> None:
        """Start a stage after `step` of `total` steps and show its name."""
        self._stage, self._total = stage, total
        if self._bar is None and self._enabled and self._is_terminal:
            layout = "{desc}|{bar}| {n_fmt}/{total_fmt}{postfix}"
            self._bar = tqdm(desc=f"{stage} ", initial=step, total=total, bar_format=layout, dynamic_ncols=True)
        if self._bar is not None:
            self._bar.total, self._bar.n = total, step
            self._bar.set_description_str(f"{stage} ", refresh=False)

    def step(self) -> None:
        """Advance by one step."""
        if self._bar is not None:
            self._bar.update()

    def show(self, step: int, text: str) -> None:
        """Show the state after `step` steps."""
        if self._bar is not None:
            self._bar.n = step
            self._bar.set_postfix_str(text)
        elif self._enabled and (step == self._total or time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES):
            self._last_line = time.monotonic()
            print(f"step {step} of {self._total}, {self._stage}: {text}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.clear()
        if self._enabled:
            print(text, flush=True)
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is; `begin` would create a new one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def status(left: float, means: Mapping[str, float]) -> str:
    """Return the display's text: time left and, if logged, relative error, slots' shares of the frame and F-ARI.

    Args:
        left: seconds left.
        means: the scalars of a line of the log; see docs/metrics.md.
    """
    parts = [f"{duration(left)} left"]
    if "relative_error" in means:
        parts.append(f"error {means['relative_error']:.0%}")
    if shown := shares(means):
        parts.append(shown)
    if "f_ari" in means:
        parts.append(f"F-ARI {means['f_ari']:.2f}".replace("0.", "."))
    return ", ".join(parts)


def shares(means: Mapping[str, float]) -> str:
    """Return the slots' shares of the frame as text, such as `slots 71/15/14%`, or "" if there are none."""
    values = [value for key, value in means.items() if key.startswith("slot_share_")]
    shown = "/".join(f"{100 * share:.0f}" for share in values[:_SHOWN_SLOTS])
    return f"slots {shown}{'/..' * (len(values) > _SHOWN_SLOTS)}%" if values else ""


def duration(seconds: float) -> str:
    """Return a time as text, such as `40 s`, `11 min` or `2.2 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
