"""Group runs into experiments by seed, order them, and compute statistics over seeds."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from stii_jax.report.entries import DEFAULT_MODEL, Run, Score, model_name
from stii_jax.report.files import is_number

LOWER_IS_BETTER = ("mse", "error", "switches", "loss", "missed", "split", "merged")
"""Words in the names of metrics whose worst value is the largest."""
NO_METRICS = ("num_frames", "num_videos")


class Summary(NamedTuple):
    """One metric over seeds."""

    seeds: Mapping[int, float]
    """The values by seed; seeds where the metric is undefined or missing are left out."""
    total: int
    """Number of seeds, including those without a value."""
    mean: float
    standard_error: float | None
    """Standard error over seeds, sd / sqrt(n); None for one seed."""
    median: float
    worst: float
    sd: float | None


class Series(NamedTuple):
    """The scores of one experiment under one evaluation, by seed and length."""

    label: str
    model: str
    dataset: str
    seeds: Mapping[int, Sequence[Score]]
    facts: Mapping[str, str] = {}
    """Label, split, system and number of slots, if the evaluation differs from the run's own."""

    def lengths(self) -> list[int]:
        """Return the clip lengths in frames, ascending."""
        return sorted({score["num_frames"] for scores in self.seeds.values() for score in scores})

    def at_longest(self) -> "Series":
        """Keep only the scores of the longest clips."""
        top = self.lengths()[-1]
        kept = {s: [score for score in scores if score["num_frames"] == top] for s, scores in self.seeds.items()}
        return self._replace(seeds=kept)

    def metrics(self) -> list[str]:
        """Return the names of the metrics, without their spreads over videos."""
        names = {name for scores in self.seeds.values() for score in scores for name in score}
        return sorted(name for name in names - {*NO_METRICS} if not name.endswith(("_stderr", "_count")))

    def summary(self, num_frames: int, metric: str) -> Summary | None:
        """Summarize one metric over seeds at one length; None if no seed has a number."""
        found = {
            seed: score.get(metric)
            for seed, scores in self.seeds.items()
            for score in scores
            if score["num_frames"] == num_frames
        }
        return summarize(found, metric)


class Experiment(NamedTuple):
    """A group of runs that differ only in their seed."""

    label: str
    """The name in tables and figures: the sweep's variant, or the name of the runs if that is ambiguous."""
    runs: Sequence[Run]
    """The runs, sorted by seed."""

    @property
    def dataset(self) -> str:
        """The experiment's dataset, with changed options."""
        return self.runs[0]["dataset"]

    @property
    def model(self) -> str:
        """The paper's name for the experiment's model."""
        return self.runs[0].get("model", DEFAULT_MODEL)

    @property
    def sweep(self) -> str:
        """The name of the sweep that the experiment belongs to; "" for none."""
        return str(_sweep(self.runs).get("name", ""))

    def main(self) -> Series:
        """Return the scores of `results.json`."""
        return Series(self.label, self.model, self.dataset, {run["seed"]: run["scores"] for run in self.runs})

    def prediction(self) -> Series | None:
        """Return the scores of predicted frames, if any seed has them."""
        seeds = {run["seed"]: run["prediction"] for run in self.runs if "prediction" in run}
        return Series(self.label, self.model, self.dataset, seeds) if seeds else None

    def evaluations(self) -> list[Series]:
        """Return the further evaluations, ordered by label."""
        labels = sorted({label for run in self.runs for label in run.get("evaluations", {})})
        return [self._evaluation(label) for label in labels]

    def _evaluation(self, label: str) -> Series:
        found = {r["seed"]: r["evaluations"][label] for r in self.runs if label in r.get("evaluations", {})}
        first: Mapping[str, Any] = next(iter(found.values()))
        facts = {"evaluation": label} | {key: str(first[key]) for key in ("split", "system", "num_slots")}
        scores = {seed: evaluation["scores"] for seed, evaluation in found.items()}
        return Series(self.label, model_name(first["system"]), first["dataset"], scores, facts)


def experiments(runs: Iterable[Run]) -> list[Experiment]:
    """Group runs by name, in the order of their sweep, or else by name; see `sort_runs`."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run["name"], []).append(run)
    labels = [_sweep(group).get("variant", name) for name, group in groups.items()]
    found = []
    for label, (name, group) in zip(labels, groups.items()):
        unique = label if labels.count(label) == 1 else name
        found.append(Experiment(unique, sorted(group, key=lambda run: run["seed"])))
    return sorted(found, key=_order)


def differences(found: Iterable[Experiment]) -> list[Series]:
    """Return every sweep variant minus the sweep's first one on the same data, seed by seed, at one common length.

    Within one system, a seed fixes the initial parameters and the order of the data. Effects of the seed therefore
    cancel, and the standard error is that of the difference. Variants without a common seed are left out.
    """
    firsts: dict[str, Experiment] = {}
    series = []
    for experiment in found:
        first = firsts.setdefault(f"{experiment.sweep} on {experiment.dataset}", experiment)
        if experiment.sweep and first is not experiment and (pairs := _pairs(experiment.main(), first.main())):
            label = f"{experiment.label} - {first.label}"
            series.append(Series(label, experiment.model, experiment.dataset, pairs))
    return series


def _pairs(series: Series, first: Series) -> dict[int, list[Score]]:
    """Return the scores of `series` minus those of `first` at their longest common length, per common seed."""
    common = sorted({*series.lengths()} & {*first.lengths()})
    pairs: dict[int, list[Score]] = {}
    for seed in sorted(series.seeds.keys() & first.seeds.keys()) if common else ():
        ours, theirs = (_at(one.seeds[seed], common[-1]) for one in (series, first))
        if known := [name for name in series.metrics() if is_number(ours.get(name)) and is_number(theirs.get(name))]:
            pairs[seed] = [{"num_frames": common[-1], **{name: ours[name] - theirs[name] for name in known}}]
    return pairs


def _at(scores: Sequence[Score], num_frames: int) -> Score:
    return next((score for score in scores if score["num_frames"] == num_frames), {})


def summarize(values: Mapping[int, Any], metric: str) -> Summary | None:
    """Summarize one metric's values by seed. Values that are not finite count as undefined; None if all are."""
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
    """True if the worst value of a metric is its largest."""
    return any(word in metric.split("_") for word in LOWER_IS_BETTER)


def _sweep(group: Sequence[Run]) -> Mapping[str, Any]:
    return group[0].get("sweep", {})


def _order(experiment: Experiment) -> tuple[str, int, str]:
    order = int(_sweep(experiment.runs).get("order", 0))
    return experiment.sweep, order, experiment.runs[0]["name"]
