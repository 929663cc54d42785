"""The execution of a sweep's runs: commands, their cores, and the handling of failures and interruptions."""

import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from stii_jax.report.entries import result_entry
from stii_jax.report.files import ReportError
from stii_jax.storage.files import write_results
from stii_jax.sweep.plan import MAIN, Run, SweepError, flags

LOG_LINES = 15
"""Number of lines shown from the log of a failed run."""
GRACE = 10
"""Seconds between SIGTERM and SIGKILL."""


class Processes:
    """The commands that are running, in any thread."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ | (environment or {})
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen] = set()
        self._stopped = False

    def run(self, command: Sequence[str], log: Path) -> int:
        """Run a command to its end, append its output to `log`, and return its exit code."""
        with log.open("a") as file:
            print(f"$ {shlex.join(command)}", file=file, flush=True)
            with self._lock:
                if self._stopped:
                    return -signal.SIGTERM
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=self._environment
                )
                self._running.add(process)
        code = process.wait()
        with self._lock:
            self._running.discard(process)
        return code

    def stop(self) -> None:
        """Terminate the running commands, and start no new ones."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()


def run_one(run: Run, processes: Processes, program: Sequence[str] = MAIN) -> dict[str, Any]:
    """Train and evaluate a run, do its further jobs, and write and return its entry.

    Raises:
      SweepError: a command failed; the message has the end of its log.
      ReportError: the workdir lacks a result.
    """
    run.workdir.mkdir(parents=True, exist_ok=True)
    log, results = run.workdir / "log.txt", run.workdir / "results.json"
    scores = None
    for command in run.commands(program):
        if code := processes.run(command, log):
            lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            raise SweepError("\n".join([f"exit code {code}, see {log}:", *(f"    {line}" for line in lines)]))
        now = results.read_bytes() if results.exists() else None
        if scores is not None and now != scores:
            raise SweepError(f"{shlex.join(command)} replaced {results}: give that job its own label")
        scores = now
    public = ["python", *MAIN[1:], "--config", run.config, "--workdir", f"runs/{run.variant}", *flags(run.overrides)]
    made_by = shlex.join([*public, "--config.seed=SEED"])
    entry = result_entry(run.workdir, f"{run.sweep}-{run.variant}", command=made_by, sweep=run.facts())
    write_results(run.entry, entry)
    return entry


def run_all(
    runs: Sequence[Run], workers: int = 1, program: Sequence[str] = MAIN, delete_checkpoints: bool = False
) -> list[Run]:
    """Execute runs, `workers` at a time, and print one line for each; returns those that failed.

    Any exception stops the commands as well, including Ctrl-C and SIGTERM if they raise.
    """
    shares = core_shares(workers)
    # If cores cannot be assigned, use one device per run: more might not divide the batch.
    environment = {"JAX_NUM_CPU_DEVICES": "1"} if workers > 1 and not shares else {}
    processes, failed, started = Processes(environment), [], time.monotonic()
    with ThreadPoolExecutor(workers, initializer=_take_cores, initargs=(shares,)) as pool:
        try:
            futures = {pool.submit(run_one, run, processes, program): run for run in runs}
            for number, future in enumerate(as_completed(futures), 1):
                run = futures[future]
                try:
                    what = _scores(future.result())
                    if delete_checkpoints:
                        shutil.rmtree(run.checkpoints, ignore_errors=True)
                except (SweepError, ReportError, OSError) as error:
                    failed.append(run)
                    what = f"FAILED: {error}"
                seconds = time.monotonic() - started
                left = seconds / number * (len(runs) - number)
                head = f"[{number}/{len(runs)}] {run.variant}, seed {run.seed}"
                print(f"{head} ({_duration(seconds)} so far, {_duration(left)} left): {what}", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.stop()
            raise
    return failed


def core_shares(workers: int) -> list[set[int]]:
    """Return the cores of each worker; none for a single worker, or if the system does not list its cores."""
    if workers == 1 or not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    each = max(1, len(cores) // workers)
    return [{cores[(worker * each + i) % len(cores)] for i in range(each)} for worker in range(workers)]


def _take_cores(shares: list[set[int]]) -> None:
    """Assign cores to a worker's thread. Its commands inherit them, and `stii_jax.main` makes one device per core."""
    if shares:
        os.sched_setaffinity(0, shares.pop())


def _scores(entry: Mapping[str, Any]) -> str:
    """Return the scores of the longest clips as text."""
    last = max(entry["scores"], key=lambda score: score["num_frames"])
    shown = [f"{key} {last[key]:.4f}" for key in ("ari", "f_ari", "video_f_ari", "mse") if last[key] is not None]
    return f"{', '.join(shown)} at {last['num_frames']} frames"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
