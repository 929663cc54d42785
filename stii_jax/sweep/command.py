"""The command line of a sweep; see the package."""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from stii_jax.config import ConfigError, split_overrides
from stii_jax.errors import UserError, check_platform
from stii_jax.report.entries import Run as Entry
from stii_jax.report.entries import read_entry, sort_runs
from stii_jax.report.seeds import experiments
from stii_jax.report.tables import main_table
from stii_jax.sweep.plan import MAIN, Run, is_done, load_sweep, plan
from stii_jax.sweep.runner import run_all


def main(arguments: Sequence[str] | None = None, program: Sequence[str] = MAIN) -> int:
    """Run the command line and return the exit code. `program` is the command that trains and evaluates."""
    parser = argparse.ArgumentParser(prog="python -m stii_jax.sweep", description="Variants of a config, with seeds.")
    parser.add_argument("--sweep", required=True, help="name in configs/sweeps/, or path of a .py file, which is run")
    parser.add_argument("--output", required=True, help="folder of all runs")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0")
    parser.add_argument("--workers", type=int, default=1, help="number of parallel runs; they share the cores")
    parser.add_argument("--only", nargs="+", default=[], metavar="VARIANT", help="run only these variants")
    parser.add_argument("--list", action="store_true", help="show the runs and their commands, and exit")
    parser.add_argument("--delete_checkpoints", action="store_true", help="delete the checkpoints of finished runs")
    parser.add_argument("--config.KEY", metavar="VALUE", help="a setting for every run, in addition to its variant's")
    try:
        overrides, others = split_overrides(sys.argv[1:] if arguments is None else arguments)
    except ConfigError as error:
        parser.error(str(error))
    options = parser.parse_args(others)
    if options.workers < 1:
        parser.error(f"--workers is {options.workers}, expected at least 1")
    try:
        check_platform()
        name, sweep = load_sweep(options.sweep)
        runs = plan(name, sweep, Path(options.output), options.seeds, options.only, overrides)
        waiting = [run for run in runs if not is_done(run)]
        if options.list:
            _show(runs, waiting)
            return 0
        failed = _carry_out(runs, waiting, options, program)
        _print_table(runs)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: the same command resumes the sweep", file=sys.stderr)
        return 130
    return 1 if failed else 0


def _show(runs: Sequence[Run], waiting: Sequence[Run]) -> None:
    for run in runs:
        print(f"{run.variant}, seed {run.seed}: {'to do' if run in waiting else 'done'}")
        for command in run.commands(("python", *MAIN[1:])):
            print(f"    {shlex.join(command)}")


def _carry_out(
    runs: Sequence[Run], waiting: Sequence[Run], options: argparse.Namespace, program: Sequence[str]
) -> list[Run]:
    print(f"{len(waiting)} of {len(runs)} runs to do", flush=True)
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        failed = run_all(waiting, options.workers, program, options.delete_checkpoints)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if failed:
        names = ", ".join(f"{run.variant} seed {run.seed}" for run in failed)
        print(f"{len(failed)} failed: {names}; the same command retries them", file=sys.stderr)
    return failed


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def _print_table(runs: Sequence[Run]) -> None:
    entries: list[Entry] = [entry for run in runs if run.entry.exists() and (entry := read_entry(run.entry))]
    if entries:
        print(f"\n{main_table(experiments(sort_runs(entries)), None).markdown}")
