"""A run: its settings, its dataset, and what it has learned; from a workdir, or from the file of a trained model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from stii_jax.checkpoint import CheckpointError, restore_params
from stii_jax.config import ConfigError, differences, load_config
from stii_jax.data import Source, open_dataset, resolve_config
from stii_jax.data.options import VideoConfig
from stii_jax.evaluate import check_evaluation, check_forecast, model_settings
from stii_jax.pretrained import Trained, read_config
from stii_jax.train import check_training
from stii_jax.trust import read_object
from stii_jax.writers import read_metrics

NOT_OF_THE_RUN = (
    "probe",
    "train.num_steps",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "eval",
    "data.data_dir",
    "data.manual_dir",
    "data.num_threads",
    "train.parallel",
    "train.accumulation",
)
"""Settings that may differ from those that a workdir was begun with.

With other devices, `train.parallel` or `train.accumulation` a run goes on with the same videos and noise; sums of
another order round differently, so it is no longer the same bit for bit.
"""


def open_config(name: str | None, workdir: Path, overrides: Sequence[str]) -> ConfigDict:
    """The config given, which must agree with the workdir's, or the workdir's own.

    Raises:
        ConfigError: neither is there, or they disagree in what a checkpoint depends on.
    """
    saved_path = workdir / "config.json"
    saved = load_config(saved_path) if saved_path.exists() else None
    if name is None and saved is None:
        raise ConfigError(
            f"no run in {workdir}, and no --config given to train one: e.g. --config quickstart --workdir {workdir}"
        )
    config = load_config(name or saved_path, overrides)
    if saved is not None and (changed := differences(saved, config, ignore=NOT_OF_THE_RUN)):
        raise ConfigError(
            f"{workdir} holds a run with other settings ({'; '.join(changed[:5])}): give those, or another --workdir"
        )
    return config


def open_model_config(name: str, workdir: Path | None, overrides: Sequence[str]) -> ConfigDict:
    """The config of a trained model's file, for use with a workdir that only takes up what is found with it.

    Raises:
        ConfigError: the overrides change what the parameters depend on, or the workdir holds a run of its own.
        ModelFileError: there is no such model.
    """
    own = read_config(name)
    config = load_config(own, overrides)
    if changed := differences(own, config, ignore=NOT_OF_THE_RUN):
        raise ConfigError(f"--model {name} was trained with other settings ({'; '.join(changed[:5])}): leave those out")
    if workdir is not None and (workdir / "config.json").exists():
        raise ConfigError(f"{workdir} holds a run of its own: with --model {name} give another --workdir")
    return config


def check(config: ConfigDict, mode: str) -> None:
    """Stops what cannot work before a dataset is built, a model compiled or a file written.

    Raises:
        ConfigError: settings do not fit the dataset or one another.
        DataError: there is no such dataset.
        DeviceError: the devices cannot share a batch.
    """
    trained, evaluated = describe(config), describe(config, evaluated=True)
    if mode == "train":
        check_training(config, trained)
    check_evaluation(config, evaluated)
    if mode == "predict":
        check_forecast(config, evaluated)
    if trained.image_size != evaluated.image_size:
        raise ConfigError(
            f"config.eval.variant is {config.eval.variant!r}, with frames of {evaluated.image_size} pixels, but the "
            f"model is for {trained.image_size}: change --config.eval.variant or its options"
        )


def describe(config: ConfigDict, *, evaluated: bool = False) -> VideoConfig:
    """What the dataset is that the config trains on, or evaluates on, without its files."""
    return resolve_config(*_dataset(config, evaluated))


def open_source(config: ConfigDict, *, evaluated: bool = False) -> Source:
    """The dataset that the config trains on, or evaluates on, built if it is not there."""
    data = config.data
    folders = (data.data_dir, data.manual_dir)
    return open_dataset(*_dataset(config, evaluated), *folders, num_threads=data.num_threads)


def _dataset(config: ConfigDict, evaluated: bool) -> tuple[str, str, dict[str, Any]]:
    """Name, variant and options."""
    data, other = config.data, config.eval
    if not evaluated:
        return data.dataset, data.variant, data.options.to_dict()
    return data.dataset, other.variant or data.variant, data.options.to_dict() | other.options.to_dict()


def restore(config: ConfigDict, workdir: Path) -> Trained:
    """What the newest checkpoint in a workdir holds.

    Raises:
        CheckpointError: there is none, or it does not say what it is of.
        ConfigError: it is of another model than the config's.
    """
    params, meta = restore_params(workdir / "checkpoints")
    if type(meta.get("model")) is not dict or type(meta.get("step")) is not int:
        raise CheckpointError(f"the checkpoints in {workdir} do not say what they are of: use another --workdir")
    if changed := differences({"model": meta["model"]}, {"model": model_settings(config)}):
        raise ConfigError(f"the checkpoints in {workdir} are of another model: {'; '.join(changed[:5])}")
    logged = read_metrics(workdir / "metrics.jsonl")
    facts = {"step": meta["step"], "seed": config.seed} | read_object(workdir / "provenance.json")
    facts["train_seconds"] = logged[-1]["time"] if logged else None
    return Trained(load_config(workdir / "config.json"), params, facts)
