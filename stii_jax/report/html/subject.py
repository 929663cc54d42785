"""The subject of a page: a run in a workdir, or a trained model's file. Either may come from a stranger."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from stii_jax import pretrained
from stii_jax.config import ConfigError
from stii_jax.evaluation import novelty
from stii_jax.pretrained.trained import Trained
from stii_jax.report.entries import Score
from stii_jax.report.files import ReportError, is_number, read_json
from stii_jax.runs.settings import open_config
from stii_jax.runs.setup import restore
from stii_jax.runs.trust import check_data_dir, check_links
from stii_jax.storage.metric_log import read_metrics

_FILES = ("results", "prediction")


class Evaluation(NamedTuple):
    """The scores in one file."""

    label: str
    """Description of the scored videos, for the table."""
    step: Any
    """Step of the checkpoint these scores belong to."""
    lengths: Sequence[Score]
    """Finite scores, one dict per length; each has `num_frames`."""


class Subject(NamedTuple):
    """A run or a trained model, with its scores and logs."""

    name: str
    config: ConfigDict
    """The config, with this machine's dataset folders."""
    trained: Trained
    evaluations: list[Evaluation]
    log: list[dict[str, Any]]
    """Lines of `metrics.jsonl`; empty for a model's file."""
    held_out: Any = None
    """Statistics of held-out videos, see `novelty.summarize`; None if they were not measured."""


def open_subject(run: str, before_jax: Callable[[ConfigDict], None] = lambda _: None) -> Subject:
    """Open a workdir, or else a model by its name or file.

    Raises:
        ReportError: `run` is neither, or a file of scores is broken.
        CheckpointError, ConfigError, LogError, ModelFileError: the run or model is damaged.
    """
    folder = Path(run)
    if (folder / "config.json").exists():
        return _open_workdir(folder, before_jax)
    if run not in pretrained.names() and (folder.is_dir() or not folder.exists()):
        known = " or ".join(["the folder of a decomposition", *pretrained.names(), "a .safetensors file"])
        raise ReportError(f"{run}: neither a run (it has no config.json) nor a model: give --html a workdir, {known}")
    before_jax(config := pretrained.read_config(run))
    trained = pretrained.load(run)
    path = pretrained.find(run)
    scored = [(name, trained.facts[name]) for name in _FILES if name in trained.facts]
    evaluations = [_evaluation(path, name, content)._replace(step=trained.step) for name, content in scored]
    return Subject(path.stem, config, trained, evaluations, [], _held_out(trained.facts.get("results")))


def _open_workdir(folder: Path, before_jax: Callable[[ConfigDict], None]) -> Subject:
    check_links(folder)
    config = open_config(None, folder, [])
    try:
        check_data_dir(folder, config.data.data_dir, [])
    except ConfigError:
        config.data.data_dir = ""  # a folder on another machine: use the default one
    before_jax(config)
    paths = [path for name in _FILES for path in sorted(folder.glob(f"{name}*.json"))]
    contents = {path.name: read_json(path) for path in paths}
    evaluations = [_evaluation(path, path.stem, contents[path.name]) for path in paths]
    log = read_metrics(folder / "metrics.jsonl")
    held_out = _held_out(contents.get("results.json"))
    return Subject(folder.resolve().name, config, restore(config, folder), evaluations, log, held_out)


def _held_out(results: Any) -> Any:
    return results.get(novelty.KEY) if isinstance(results, Mapping) else None


def _evaluation(path: Path, name: str, content: Any) -> Evaluation:
    """Read the scores in a file; `name` is `results` or `prediction`, with a label if any, as in `results_LABEL`."""
    if not isinstance(content, Mapping):
        raise ReportError(f"{path}: `{name}` holds no scores: evaluate the run again")
    lengths = content.get("lengths") or [content]
    scores = [
        {key: value for key, value in length.items() if is_number(value)}
        for length in (lengths if isinstance(lengths, list) else ())
        if isinstance(length, Mapping) and is_number(length.get("num_frames"))
    ]
    if not scores:
        raise ReportError(f"{path}: `{name}` has no scores with `num_frames`: evaluate the run again")
    kind, _, other = name.partition("_")
    what = f"{content.get('split', 'held-out')} videos"
    if kind == "prediction":
        what = f"predicted after {content.get('observed_frames', 'some')} frames"
    return Evaluation(f"{what}, {other}" if other else what, content.get("step"), scores)
