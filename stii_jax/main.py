"""Trains, evaluates and predicts: `python -m stii_jax.main --config NAME --workdir FOLDER [--mode MODE]`.

Any setting can be changed on the command line: `--config.model.num_slots=7`. The same command resumes a run that was
stopped at any moment. See README.md for the files of a workdir.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from stii_jax import metrics, visualize
from stii_jax.checkpoint import CheckpointError, restore_params
from stii_jax.config import ConfigError, differences, from_json, load_config, split_overrides, to_json
from stii_jax.curriculum import PosteriorCollapse
from stii_jax.data import DataError, Source, open_dataset
from stii_jax.evaluate import Evaluator
from stii_jax.parallel import DeviceError, use_all_cores
from stii_jax.provenance import provenance
from stii_jax.train import Trainer, TrainingError
from stii_jax.writers import MetricWriter, write_atomic, write_results

CONFIG = flags.DEFINE_string("config", None, "A name as listed in configs/ (with :argument), or a .py or .json file.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, logs, pictures, results.")
MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate", "predict"], "What to do.")

ERRORS = (ConfigError, DataError, DeviceError, CheckpointError, TrainingError, PosteriorCollapse, OSError)
"""What is the user's to mend: shown as one line, without a traceback."""
NOT_OF_THE_RUN = ("train.num_steps", "train.log_every", "train.eval_every", "train.checkpoint_every", "eval", "data.data_dir", "data.num_threads", "train.parallel")
"""Settings that may differ from those that a workdir was begun with."""

_overrides: list[str] = []


def run(mode: str, config_name: str | None, workdir: Path, overrides: Sequence[str]) -> None:
    """Does what the command line says; see the module's docstring."""
    config = open_config(config_name, workdir, overrides, begin=mode == "train")
    if mode == "train":
        train(config, workdir)
    if mode in ("train", "evaluate"):
        evaluate(config, workdir)
    if mode == "predict":
        predict(config, workdir)


def open_config(name: str | None, workdir: Path, overrides: Sequence[str], begin: bool) -> ConfigDict:
    """The config given, which must agree with the workdir's, or the workdir's own.

    Raises:
        ConfigError: neither is there, or they disagree in what a checkpoint depends on.
    """
    saved_path = workdir / "config.json"
    saved = from_json(saved_path.read_text()) if saved_path.exists() else None
    if name is None and saved is None:
        raise ConfigError(f"no --config given, and no run in {workdir}: give --config, e.g. --config quickstart")
    config = load_config(name or str(saved_path), overrides)
    if saved is not None:
        if changed := differences(saved, config, ignore=NOT_OF_THE_RUN):
            raise ConfigError(
                f"{workdir} holds a run with other settings ({'; '.join(changed[:5])}): give those, or another --workdir"
            )
    elif begin:
        workdir.mkdir(parents=True, exist_ok=True)
        write_atomic(saved_path, to_json(config).encode())
    return config


def open_source(config: ConfigDict, variant: str = "") -> Source:
    """The config's dataset, built if it is not there, or another variant of it."""
    data = config.data
    options = data.options.to_dict()
    return open_dataset(data.dataset, variant or data.variant, options, data.data_dir, num_threads=data.num_threads)


def train(config: ConfigDict, workdir: Path) -> None:
    """Trains to the end, from the newest checkpoint if there is one."""
    write_results(workdir / "provenance.json", provenance())
    source = open_source(config)
    eval_source = open_source(config, config.eval.variant) if config.eval.variant else source
    Trainer(config, source, eval_source, workdir).run()
    visualize.curve(workdir / "media" / "curve.png", workdir / "metrics.jsonl")


def evaluate(config: ConfigDict, workdir: Path) -> None:
    """Scores the newest checkpoint on held-out videos, writes `results.json` and pictures, prints the scores."""
    params, meta = restore_params(workdir / "checkpoints")
    evaluator = Evaluator(config, open_source(config, config.eval.variant))
    results, pictures = evaluator.final(params)
    writer = MetricWriter(workdir, enabled=jax.process_index() == 0)
    evaluator.draw(writer, meta["step"], pictures, config.eval.split)
    writer.close()
    data = config.data
    facts = {"dataset": f"{data.dataset}/{config.eval.variant or data.variant}", "split": config.eval.split}
    facts |= {"step": meta["step"], "seed": config.seed, **_provenance_of(workdir)}
    if jax.process_index() == 0:
        write_results(workdir / "results.json", facts | results)
    print_scores(results["lengths"], workdir)


def predict(config: ConfigDict, workdir: Path) -> None:
    """Imagines frames after observed ones, scores them against the true future, and draws them."""
    params, meta = restore_params(workdir / "checkpoints")
    settings, source = config.eval, open_source(config, config.eval.variant)
    evaluator = Evaluator(config, source)
    observed, total = settings.observed_frames, settings.observed_frames + settings.predict_frames
    size = settings.batch_size
    count = min(settings.num_videos, source.split_sizes[settings.split])
    values, valid, pictures, first = [], [], [], 0
    for batch in source.eval_batches(settings.split, total, size, count):
        index = np.arange(first, first + size)
        past, future = evaluator.predict(params, batch["video"][:, :observed], index, settings.predict_frames)
        labels = {key: batch[key][:, observed:] for key in ("video", "segmentation") if key in batch}
        values.append(jax.device_get(metrics.evaluate_video(future, labels, source.num_objects)))
        valid.append(batch["valid"])
        first += size
    joined = {name: np.concatenate([part[name] for part in values]) for name in values[0]}
    del past, pictures
    write_results(workdir / "prediction.json", metrics.summarize(joined, np.concatenate(valid)))


def print_scores(lengths: Sequence[dict], workdir: Path) -> None:
    """A line a length, and where the pictures are."""
    for scores in lengths:
        shown = [f"{name} {scores[name]:.4f} +- {scores[name + '_stderr']:.4f}" for name in metrics.METRICS if name in scores]
        print(f"{scores['num_frames']} frames, {scores['num_videos']} videos: {', '.join(shown)}")
    print(f"scores: {workdir / 'results.json'}, pictures: {workdir / 'media'}")


def _provenance_of(workdir: Path) -> dict:
    path = workdir / "provenance.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _parse(argv: Sequence[str]) -> list[str]:
    global _overrides
    try:
        _overrides, rest = split_overrides(argv)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    return flags.FLAGS(rest)


def _main(_: Sequence[str]) -> None:
    if WORKDIR.value is None:
        sys.exit("error: give --workdir, the folder of the run, e.g. --workdir runs/quickstart")
    try:
        run(MODE.value, CONFIG.value, Path(WORKDIR.value), _overrides)
    except ERRORS as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    use_all_cores()
    app.run(_main, flags_parser=_parse)
