"""Runs that are stopped, killed, started twice, or lose one of their processes, and the steps they lose."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time

import pytest
from breaking import TRIALS, fill, flip_bit, small_disk
from launching import bits_of
from toy import TIMES

from stii_jax.storage.checkpoints import restore_params
from stii_jax.storage.metric_log import read_metrics

pytestmark = pytest.mark.faults

# A checkpoint every few steps, so that many kills happen during a save.
RUN = {
    "train__num_steps": 400,
    "train__log_every": 4,
    "train__checkpoint_every": 8,
    "train__eval_every": 100,
    "eval__lengths": (2,),
    "eval__periodic_videos": 8,
    "curriculum__stages": ((3, 4, 40),),
}
ONE_DEVICE = {"JAX_NUM_CPU_DEVICES": "1"}
RNG = random.Random(2)
STOP_WITHIN = 30
"""Maximum time from SIGTERM to the end of the process, in seconds."""


def start(launcher, workdir, processes=1, environment=None, **changes):
    return launcher.start(workdir, processes, environment=ONE_DEVICE | (environment or {}), **(RUN | changes))


def finish(launcher, workdir, processes=1, environment=None, **changes):
    return launcher.run(workdir, processes, environment=ONE_DEVICE | (environment or {}), **(RUN | changes))


def wait_for_step(process, workdir, step):
    """Wait until the run has logged a step."""
    until = time.monotonic() + 200
    while not any(line["step"] >= step for line in read_metrics(workdir / "metrics.jsonl")):
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < until, "no progress"
        time.sleep(0.01)


def end(process, seconds):
    """Return exit code and output, within a time limit in seconds."""
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def children(process):
    """Return the processes that a script has started, by their number in the run."""
    found = {}
    for pid in subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split():
        command = (f"/proc/{pid}/cmdline", "rb")
        with open(*command) as file:
            words = file.read().decode().split("\0")
        if "--process_id" in words:
            found[int(words[words.index("--process_id") + 1])] = int(pid)
    return found


def kept(workdir):
    """Return everything that is left of a run, except its timings."""
    params, meta = restore_params(workdir / "checkpoints")
    lines = [
        {k: repr(v) for k, v in line.items() if k not in TIMES} for line in read_metrics(workdir / "metrics.jsonl")
    ]
    return bits_of(params), meta["step"], meta["curriculum"], lines


@pytest.fixture(scope="module")
def straight(launcher, tmp_path_factory):
    """The files of an undisturbed run."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    finish(launcher, workdir)
    return kept(workdir)


def test_sigterm_saves_between_two_lines(launcher, tmp_path):
    changes = {"train__log_every": 20, "train__checkpoint_every": 100}
    expected, workdir, moments = tmp_path / "straight", tmp_path / "run", random.Random(0)
    finish(launcher, expected, **changes)
    slowest, stopped_at = 0.0, [0]
    while len(stopped_at) <= TRIALS and stopped_at[-1] < 400:
        process = start(launcher, workdir, **changes)
        wait_for_step(process, workdir, stopped_at[-1] // 20 * 20 + 20)
        time.sleep(moments.uniform(0, 0.1))
        told = time.monotonic()
        process.terminate()
        code, output = end(process, STOP_WITHIN)
        slowest = max(slowest, time.monotonic() - told)
        assert code == 143, output[-3000:]
        stopped_at.append(restore_params(workdir / "checkpoints")[1]["step"])
        assert f"stopped by SIGTERM after step {stopped_at[-1]}, which is saved" in output
    assert any(step % 20 for step in stopped_at), "no stop was between two lines"
    finish(launcher, workdir, **changes)
    assert kept(workdir) == kept(expected)
    print(
        f"\nSIGTERM: {len(stopped_at) - 1} times, after steps {stopped_at[1:]}, at most {slowest:.1f} s; lost: nothing"
    )


def test_sigterm_during_an_evaluation(launcher, straight, tmp_path):
    workdir = tmp_path / "run"
    slow = {"TOY_SLOW_EVALUATION": "4"}
    process = start(launcher, workdir, environment=slow)
    wait_for_step(process, workdir, 96)  # the next line comes with an evaluation, of two batches
    time.sleep(1.5)
    process.terminate()
    code, output = end(process, STOP_WITHIN)
    assert code == 143, output[-3000:]
    assert "after step 100, which is saved" in output
    assert read_metrics(workdir / "metrics.jsonl")[-1]["step"] == 96
    finish(launcher, workdir)
    assert kept(workdir) == straight


def test_kill_at_random_moments(launcher, straight, tmp_path):
    """Kill -9 repeatedly: while the program starts, trains, evaluates and saves."""
    workdir, moments, lost = tmp_path / "run", random.Random(1), []
    for trial in range(TRIALS):
        process = start(launcher, workdir)
        if moments.random() < 0.2:
            time.sleep(moments.uniform(0, 10))
        else:
            wait_for_step(process, workdir, 4 + trial * 400 // TRIALS)
            time.sleep(moments.uniform(0, 0.3))  # of two or three checkpoints
        assert process.poll() is None, process.communicate()[0][-3000:]
        process.kill()
        process.communicate()
        lines = read_metrics(workdir / "metrics.jsonl")
        lost.append((lines[-1]["step"] if lines else 0) - max(saved_steps(workdir), default=0))
    finish(launcher, workdir)
    assert kept(workdir) == straight
    print(f"\nkill -9: {TRIALS} times; steps taken again: at most {max(lost)}; final parameters: the same bits")


def saved_steps(workdir):
    """Return the steps of complete checkpoints."""
    folder = workdir / "checkpoints"
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.exists() else []


def test_sigterm_to_one_of_two_processes_is_for_both(launcher, tmp_path):
    expected, workdir = tmp_path / "straight", tmp_path / "run"
    finish(launcher, expected, 2)
    process = start(launcher, workdir, 2)
    wait_for_step(process, workdir, 40)
    told = time.monotonic()
    os.kill(children(process)[1], signal.SIGTERM)
    code, output = end(process, STOP_WITHIN)
    seconds = time.monotonic() - told
    assert code == 143, output[-3000:]
    assert output.count("ended with exit code 143") == 2
    finish(launcher, workdir, 2)
    assert kept(workdir) == kept(expected)
    print(f"\nSIGTERM to one of two: both stopped in {seconds:.1f} s; lost: nothing")


@pytest.mark.parametrize("killed", [0, 1])
def test_one_of_two_processes_killed(launcher, tmp_path, killed):
    workdir = tmp_path / "run"
    process = start(launcher, workdir, 2)
    wait_for_step(process, workdir, 40)
    began = time.monotonic()
    os.kill(children(process)[killed], signal.SIGKILL)
    code, output = end(process, 100)
    seconds = time.monotonic() - began
    assert code == 137, output[-3000:]
    survivor = 1 - killed
    assert f"process {killed} of 2 ended with exit code 137" in output
    assert f"process {survivor} of 2 ended with exit code " in output
    # The first message is ours, if the connection breaks in a step or in a save; the other is the runtime's.
    assert re.search("error: .*another process has stopped|another task died", output), output[-3000:]
    finish(launcher, workdir, 2)
    assert restore_params(workdir / "checkpoints")[1]["step"] == 440
    print(f"\nprocess {killed} of two killed: the other stopped in {seconds:.1f} s")


def test_two_processes_go_back_from_a_damaged_checkpoint_together(launcher, tmp_path):
    expected, workdir = tmp_path / "straight", tmp_path / "run"
    few = {"train__num_steps": 48, "curriculum__stages": ()}
    finish(launcher, expected, 2, **few)
    shutil.copytree(expected, workdir)
    newest = workdir / "checkpoints" / "48"
    flip_bit(max((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size), RNG)
    output = finish(launcher, workdir, 2, **few)
    assert "checkpoints/48 is damaged" in output and output.count("Resuming from the checkpoint of step 40") == 1
    assert kept(workdir) == kept(expected)
    assert (workdir / "checkpoints" / "damaged_48_1").is_dir()


def test_a_second_run_in_a_workdir_is_refused(launcher, straight, tmp_path):
    workdir = tmp_path / "run"
    first = start(launcher, workdir)
    wait_for_step(first, workdir, 8)
    os.kill(first.pid, signal.SIGSTOP)  # otherwise it would end in the meantime
    for processes in (1, 2):
        output = launcher.run(workdir, processes, expect=1, environment=ONE_DEVICE, **RUN)
        assert f"error: another run is training in {workdir} (process {first.pid} on " in output
    os.kill(first.pid, signal.SIGCONT)
    code, output = end(first, 300)
    assert code == 0, output[-3000:]
    assert kept(workdir) == straight


def test_a_clock_that_jumps(launcher, straight, tmp_path):
    """The wall clock jumps back and forth by days, every second, while a run trains.

    Orbax aborts a save that takes minutes by that clock. The run then stops, and resumes when it is started again.
    """
    workdir, stops = tmp_path / "run", 0
    while True:
        process = start(launcher, workdir, environment={"TOY_CLOCK_JUMPS": "1"})
        code, output = end(process, 300)
        if code == 0:
            break
        assert "check that it can be reached and that the clock is right" in output, output[-3000:]
        stops += 1
        assert stops < 20, "it does not come to its end"
    assert kept(workdir) == straight
    times = [line["time"] for line in read_metrics(workdir / "metrics.jsonl")]
    assert times == sorted(times) and times[-1] < 1000
    print(f"\nclock: a jump every second; {stops} times a save was given up, and the run stopped; lost: nothing")


def test_a_workdir_on_a_disk_that_fills_up(launcher, straight, tmp_path):
    """Training stops with one line; with free space again, the same command reaches the same end."""
    with small_disk(tmp_path / "disk", megabytes=16) as disk:
        workdir = disk / "run"
        process = start(launcher, workdir)
        wait_for_step(process, workdir, 100)
        ballast = fill(disk, left=0)
        code, output = end(process, 100)
        assert code == 1, output[-3000:]
        # Before it, tensorstore may report writes that nobody waits for any more.
        last = output.splitlines()[-1]
        assert last.startswith("error: ") and str(workdir) in last and "free space there" in last, output[-3000:]
        ballast.unlink()
        finish(launcher, workdir)
        assert kept(workdir) == straight


def test_the_lock_is_not_of_the_evaluation(launcher, straight, tmp_path):
    """A run can be evaluated while it trains."""
    workdir = tmp_path / "run"
    process = start(launcher, workdir)
    while not saved_steps(workdir):
        wait_for_step(process, workdir, 8)
    os.kill(process.pid, signal.SIGSTOP)
    launcher.run(workdir, 1, "--mode", "evaluate", environment=ONE_DEVICE, **RUN)
    os.kill(process.pid, signal.SIGCONT)
    assert json.loads((workdir / "results.json").read_text())["step"] >= 8
    process.kill()
    process.communicate()
    shutil.rmtree(workdir)
