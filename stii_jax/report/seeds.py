"""Runs as experiments with seeds: what belongs together, in which order, and the statistics over seeds."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from stii_jax.report.entries import DEFAULT_MODEL, Run, Score, model_name
from stii_jax.report.files import is_number

LOWER_IS_BETTER = ("mse", "error", "switches", "loss")
"""Words of the names of metrics whose worst value is the largest."""
NO_METRICS = ("num_frames", "num_videos")


class Summary(NamedTuple):
    """A metric over seeds. `seeds` has those with a number; the others are undefined or lack it."""

    seeds: Mapping[int, float]
    total: int
    """How many seeds there are, those without a number included."""
    mean: float
    standard_error: float | None
    """sd / sqrt(n) over seeds; None for one seed."""
    median: float
    worst: float
    sd: float | None


class Series(NamedTuple):
    """One experiment, evaluated in one way: scores at every length, for every seed."""

    label: str
    model: str
    dataset: str
    seeds: Mapping[int, Sequence[Score]]
    facts: Mapping[str, str] = {}
    """How it was evaluated, where that is not the run's own way: label, split, system, slots."""

    def lengths(self) -> list[int]:
        """Numbers of frames, ascending."""
        return sorted({score["num_frames"] for scores in self.seeds.values() for score in scores})

    def at_longest(self) -> "Series":
        """The scores of the longest clips alone."""
        top = self.lengths()[-1]
        kept = {s: [score for score in scores if score["num_frames"] == top] for s, scores in self.seeds.items()}
        return self._replace(seeds=kept)

    def metrics(self) -> list[str]:
        """What is scored, without the spreads over videos."""
        names = {name for scores in self.seeds.values() for score in scores for name in score}
        return sorted(name for name in names - {*NO_METRICS} if not name.endswith(("_stderr", "_count")))

    def summary(self, num_frames: int, metric: str) -> Summary | None:
        """Over seeds at one length; None where no seed has a number."""
        found = {
            seed: score.get(metric)
            for seed, scores in self.seeds.items()
            for score in scores
            if score["num_frames"] == num_frames
        }
        return summarize(found, metric)


class Experiment(NamedTuple):
    """Runs that differ in their seed alone."""

    label: str
    """What tables and figures call it: the sweep's variant, or the name of its runs where that is ambiguous."""
    runs: Sequence[Run]
    """By seed."""

    @property
    def dataset(self) -> str:
        """Its dataset, with changed options."""
        return self.runs[0]["dataset"]

    @property
    def model(self) -> str:
        """The paper's name of its model."""
        return self.runs[0].get("model", DEFAULT_MODEL)

    @property
    def sweep(self) -> str:
        """Name of the sweep that it is a variant of; "" for none."""
        return str(_sweep(self.runs).get("name", ""))

    def main(self) -> Series:
        """The scores of `results.json`."""
        return Series(self.label, self.model, self.dataset, {run["seed"]: run["scores"] for run in self.runs})

    def prediction(self) -> Series | None:
        """The scores of imagined frames, if any seed has them."""
        seeds = {run["seed"]: run["prediction"] for run in self.runs if "prediction" in run}
        return Series(self.label, self.model, self.dataset, seeds) if seeds else None

    def evaluations(self) -> list[Series]:
        """The further evaluations, by their labels."""
        labels = sorted({label for run in self.runs for label in run.get("evaluations", {})})
        return [self._evaluation(label) for label in labels]

    def _evaluation(self, label: str) -> Series:
        found = {r["seed"]: r["evaluations"][label] for r in self.runs if label in r.get("evaluations", {})}
        first: Mapping[str, Any] = next(iter(found.values()))
        facts = {"evaluation": label} | {key: str(first[key]) for key in ("split", "system", "num_slots")}
        scores = {seed: evaluation["scores"] for seed, evaluation in found.items()}
        return Series(self.label, model_name(first["system"]), first["dataset"], scores, facts)


def experiments(runs: Iterable[Run]) -> list[Experiment]:
    """Runs by name, in the order of their sweep, or else of their names; see `sort_runs`."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run["name"], []).append(run)
    labels = [_sweep(group).get("variant", name) for name, group in groups.items()]
    found = []
    for label, (name, group) in zip(labels, groups.items()):
        unique = label if labels.count(label) == 1 else name
        found.append(Experiment(unique, sorted(group, key=lambda run: run["seed"])))
    return sorted(found, key=_order)


def summarize(values: Mapping[int, Any], metric: str) -> Summary | None:
    """Of one metric, by seed; values that are no finite number count as undefined. None where all are."""
    known = {seed: float(value) for seed, value in sorted(values.items()) if is_number(value)}
    if not known:
        return None
    numbers = list(known.values())
    sd = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Summary(
        seeds=known,
        total=len(values),
        mean=statistics.fmean(numbers),
        standard_error=None if sd is None else sd / math.sqrt(len(numbers)),
        median=statistics.median(numbers),
        worst=max(numbers) if lower_is_better(metric) else min(numbers),
        sd=sd,
    )


def lower_is_better(metric: str) -> bool:
    """Whether the worst value of a metric is its largest."""
    return any(word in metric.split("_") for word in LOWER_IS_BETTER)


def _sweep(group: Sequence[Run]) -> Mapping[str, Any]:
    return group[0].get("sweep", {})


def _order(experiment: Experiment) -> tuple[str, int, str]:
    order = int(_sweep(experiment.runs).get("order", 0))
    return experiment.sweep, order, experiment.runs[0]["name"]
