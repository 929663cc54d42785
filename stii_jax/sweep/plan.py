"""The definition of a sweep, and the runs that follow from it."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stii_jax.config import ConfigError, config_folder, load_config, run_file
from stii_jax.errors import UserError
from stii_jax.report.entries import read_entry

MAIN = (sys.executable, "-m", "stii_jax.main")
MODES = ("evaluate", "predict", "disentangle")
"""The modes for a trained model; see `stii_jax.main`."""


class SweepError(UserError, ValueError):
    """A sweep cannot be found or used, or the results are another sweep's; the message is one line."""


@dataclass(frozen=True)
class Job:
    """A further job on a run's trained model: `python -m stii_jax.main --mode MODE` on its workdir."""

    mode: str
    overrides: Sequence[str] = ()
    """Overrides in addition to the run's settings, such as `eval.split=validation`."""


@dataclass(frozen=True)
class Variant:
    """One way to train: overrides such as `model.num_refinements=2`."""

    overrides: Sequence[str] = ()
    config: str = ""
    """Name of the config; "" is the sweep's."""
    after: Sequence[Job] | None = None
    """Further jobs; None means the sweep's."""


@dataclass(frozen=True)
class Sweep:
    """The variants to compare. A variant may be given by its overrides alone."""

    config: str
    variants: Mapping[str, Variant | Sequence[str]]
    after: Sequence[Job] = ()
    """Further jobs of every variant."""


@dataclass(frozen=True)
class Run:
    """One variant with one seed."""

    sweep: str
    variant: str
    order: int
    """Position of the variant in the sweep."""
    seed: int
    config: str
    overrides: tuple[str, ...]
    after: tuple[Job, ...]
    output: Path

    @property
    def workdir(self) -> Path:
        """Folder of the run."""
        return self.output / self.variant / f"seed{self.seed}"

    @property
    def entry(self) -> Path:
        """Results file of a finished run."""
        return self.output / f"{self.variant}-seed{self.seed}.json"

    @property
    def checkpoints(self) -> Path:
        """Checkpoint folder, the largest part of the workdir."""
        return self.workdir / "checkpoints"

    def commands(self, program: Sequence[str] = MAIN) -> list[list[str]]:
        """Return the commands: training with evaluation, then the further jobs."""
        workdir = ["--workdir", str(self.workdir)]
        train = [*program, "--config", self.config, *workdir, *flags([f"seed={self.seed}", *self.overrides])]
        return [train, *([*program, *workdir, "--mode", job.mode, *flags(job.overrides)] for job in self.after)]

    def facts(self) -> dict[str, Any]:
        """Return the facts about the sweep for the run's entry."""
        return {
            "name": self.sweep,
            "variant": self.variant,
            "order": self.order,
            "config": self.config,
            "overrides": list(self.overrides),
            "after": [{"mode": job.mode, "overrides": list(job.overrides)} for job in self.after],
        }


def load_sweep(name: str) -> tuple[str, Sweep]:
    """Load a sweep and its name from `configs/sweeps/NAME.py` or a .py file. Runs the file.

    Raises:
      SweepError: there is no such file, it raises an error, or it has no `get_sweep` that returns a `Sweep`.
    """
    folder = config_folder() / "sweeps"
    path = Path(name) if name.endswith(".py") else folder / f"{name}.py"
    if not path.is_file():
        names = ", ".join(sorted(found.stem for found in folder.glob("[!_]*.py"))) or "none"
        raise SweepError(f"no sweep {name!r}: give --sweep one of {folder} ({names}), or the path of a .py file")
    try:
        sweep = run_file(path).get_sweep()
    except Exception as error:  # the sweep's own code may raise anything; `from` keeps the traceback
        raise SweepError(f"{path}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if not isinstance(sweep, Sweep):
        raise SweepError(f"{path}: get_sweep() returned {type(sweep).__name__}, expected stii_jax.sweep.Sweep")
    return path.stem, sweep


def plan(
    name: str,
    sweep: Sweep,
    output: Path,
    num_seeds: int,
    only: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> list[Run]:
    """Return all runs in their order: every variant with seed 0, then with seed 1, and so on.

    Args:
      name: name of the sweep.
      sweep: the sweep.
      output: folder of its results.
      num_seeds: number of seeds, which are 0 to `num_seeds - 1`.
      only: variants to run; all if empty.
      overrides: overrides for every run, in addition to its variant's.

    Raises:
      SweepError: there is no such variant, or a variant has an invalid name or invalid settings.
    """
    if num_seeds < 1:
        raise SweepError(f"--seeds is {num_seeds}, expected at least 1")
    if unknown := [variant for variant in only if variant not in sweep.variants]:
        raise SweepError(f"--only {unknown[0]!r}: the variants of {name} are {', '.join(sweep.variants)}")
    runs = []
    for order, (variant, given) in enumerate(sweep.variants.items()):
        settings = given if isinstance(given, Variant) else Variant(given)
        config, after = settings.config or sweep.config, sweep.after if settings.after is None else settings.after
        run = Run(name, variant, order, 0, config, (*settings.overrides, *overrides), tuple(after), output)
        _check(run)
        runs.append(run)
    chosen = [run for run in runs if not only or run.variant in only]
    return [replace(run, seed=seed) for seed in range(num_seeds) for run in chosen]


def is_done(run: Run) -> bool:
    """True if a run has its entry. A run whose entry lacks one of the sweep's further jobs must run again.

    Raises:
      SweepError: the entry has other settings, or it lacks a further job and no checkpoint is left to run it.
    """
    if not run.entry.exists():
        return False
    entry = read_entry(run.entry)
    made, now = (entry or {}).get("sweep", {}), run.facts()
    for key in ("config", "overrides"):
        if made.get(key) != now[key]:
            raise SweepError(
                f"{run.entry} was made with {key} {made.get(key)}, and the sweep has {now[key]}: give another "
                f"--output, or delete that file and {run.workdir}"
            )
    if all(job in made["after"] for job in now["after"]):
        return True
    if not run.checkpoints.is_dir():
        raise SweepError(
            f"{run.entry} lacks further jobs of the sweep, and {run.checkpoints} is gone: give another --output, or "
            "delete that file to train it again"
        )
    return False


def flags(overrides: Sequence[str]) -> list[str]:
    """Return overrides as flags of `stii_jax.main`."""
    return [f"--config.{override}" for override in overrides]


def _check(run: Run) -> None:
    """Check a run now that would otherwise fail only when its turn comes."""
    where = f"variant {run.variant!r} of {run.sweep}"
    # Names become folder names, and file names separate the seed by `-seed`.
    if not re.fullmatch(r"[\w.-]+", run.variant) or run.variant.startswith(".") or "-seed" in run.variant:
        raise SweepError(f"{where}: expected a name of letters, digits, '.', '_' and '-', without '-seed'")
    if any(override.partition("=")[0] == "seed" for override in run.overrides):
        raise SweepError(f"{where}: sets seed, which --seeds does already: remove it")
    if unknown := [job.mode for job in run.after if job.mode not in MODES]:
        raise SweepError(f"{where}: mode {unknown[0]!r} of a further job, expected one of {', '.join(MODES)}")
    for overrides in ((), *(job.overrides for job in run.after)):
        try:
            load_config(run.config, [*run.overrides, *overrides])
        except ConfigError as error:
            raise SweepError(f"{where}: {error}") from error
