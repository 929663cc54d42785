"""The remaining time, and the text of the progress display."""

import os
import sys
import termios

import pytest

from stii_jax.training import progress
from stii_jax.training.progress import Display, TimeEstimate, duration, status, time_calls


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock.monotonic)
    return clock


@pytest.mark.parametrize(
    ("costs", "first", "step"),
    [
        ([9, 3], 6, 3),  # one call after the first takes long enough
        ([9, 1.5, 1, 7], 8, 1),
        ([3, 0.1, 0.3, 0.2, 9], 2.9, 0.1),  # at most four calls
        ([1, 2], 0, 2),
    ],
)
def test_calls_are_timed_without_the_first(clock, costs, first, step):
    left = iter(costs)

    def call():
        clock.now += next(left)

    assert time_calls(call) == pytest.approx((first, step))


def test_forecast_by_timed_steps():
    estimate = TimeEstimate([(100, 0.5), (20, 3.0), (10, 6.0)], evaluation=5.0, ending=40.0)
    assert estimate.seconds_left(0, 100, 2) == 50 + 60 + 60 + 2 * 5 + 40
    assert estimate.seconds_left(1, 5, 0) == 15 + 60 + 40
    assert estimate.seconds_left(2, 0, 0) == estimate.evaluation_seconds(0) == 40


def test_forecast_follows_the_pace():
    """If steps take twice as long as timed, so will those of later stages."""
    estimate = TimeEstimate([(100, 0.5), (20, 3.0)])
    for _ in range(60):
        estimate.record_steps(0, 10, 10.0)
    assert estimate.seconds_left(0, 10, 0) == pytest.approx(2 * (5 + 60), rel=1e-4)
    assert estimate.seconds_per_step(1) == pytest.approx(6.0, rel=1e-4)
    estimate.record_steps(0, 0, 3.0)  # no steps, no pace
    assert estimate.seconds_per_step(1) == pytest.approx(6.0, rel=1e-4)


def test_forecast_of_evaluations():
    """The first evaluation includes compilation."""
    estimate = TimeEstimate([(10, 1.0)], evaluation=5.0)
    estimate.record_evaluation(60.0)
    assert estimate.evaluation_seconds(2) == 10
    estimate.record_evaluation(7.0)
    assert estimate.evaluation_seconds(2) == 14


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89.0, "89 s"), (91.0, "2 min"), (5340.0, "89 min"), (7800.0, "2.2 h"), (1e5, "27.8 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_status():
    shares = {f"slot_share_{number + 1}": share for number, share in enumerate((0.714, 0.146, 0.14))}
    means = {"loss": -2.6e5, "relative_error": 0.123, **shares, "f_ari": 0.853}
    assert status(420.0, means) == "7 min left, error 12%, slots 71/15/14%, F-ARI .85"
    assert status(42.0, {"loss": 1.0}) == "42 s left"
    many = {f"slot_share_{number + 1}": 0.1 for number in range(8)}
    assert status(42.0, many) == "42 s left, slots 10/10/10/10/10/..%"


def test_the_bar_fits_a_terminal_of_80_columns(monkeypatch):
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        display = Display()
        display.begin("stage 2/3", 1900, 4500)
        shares = {f"slot_share_{number + 1}": 0.25 for number in range(4)}
        display.show(1920, status(5400.0, {"relative_error": 0.123, **shares, "f_ari": 0.853}))
        display.close()
        monkeypatch.undo()
        shown = b""
        while b"F-ARI" not in shown:  # it arrives in pieces
            shown += os.read(ours, 10_000)
    os.close(ours)
    last = shown.decode().rstrip().split("\r")[-1].rstrip()
    assert len(last) <= 80 and last.startswith("stage 2/3 |")
    assert last.endswith("| 1920/4500, 1.5 h left, error 12%, slots 25/25/25/25%, F-ARI .85")


def test_a_log_file_gets_a_line_every_half_minute(monkeypatch, clock, capsys):
    display = Display()
    display.begin("stage 1/2", 0, 50)
    for step in range(10, 60, 10):
        for _ in range(10):
            display.step()
        display.show(step, "a text")
        clock.now += 20
    display.say("a message")
    display.close()
    out, err = capsys.readouterr()
    assert out == "a message\n"
    assert err.splitlines() == [f"step {step} of 50, stage 1/2: a text" for step in (10, 30, 50)]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_other_processes_show_nothing(monkeypatch, capsys, is_terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    display = Display(enabled=False)
    display.begin("stage 1/1", 0, 1)
    display.step()
    display.show(1, "a text")
    display.say("a message")
    display.close()
    assert capsys.readouterr() == ("", "")
