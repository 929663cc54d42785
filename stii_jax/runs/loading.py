"""Load a trained model by its name, file or run; train a model."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from stii_jax.config import load_config
from stii_jax.inference.model import Model
from stii_jax.models.registry import make_evaluated_model
from stii_jax.pretrained import Trained
from stii_jax.runs import modes, setup
from stii_jax.runs.dataset import describe
from stii_jax.runs.settings import check_init, evaluated_config
from stii_jax.runs.trust import check_links


def load_model(name: str | Path, overrides: Sequence[str] = ()) -> Model:
    """Load a trained model.

    Args:
        name: a model that comes with the package, such as "quickstart"; a `.safetensors` file of `--mode export`; or
            the folder of a run, whose newest checkpoint is used.
        overrides: `key=value` of the section `eval`, such as `eval.num_slots=3`.

    Raises:
        ModelFileError: there is no such model, or its file is damaged.
        CheckpointError: the run has no checkpoint.
        ConfigError: the folder holds no run, or an override is wrong or changes what the parameters depend on.
    """
    trained, origin = setup.load_trained(str(name))
    config = evaluated_config(trained.config, overrides, str(name))
    return as_model(config, trained, modes.held_out(config, trained, origin))


def as_model(config: ConfigDict, trained: Trained, held_out: Any) -> Model:
    """Return the model of a config with trained parameters.

    Args:
        config: its section `eval` may override the number of slots, system, schedule or noise used in training.
        trained: the parameters and their provenance.
        held_out: `novelty.summarize` of held-out videos, or None.
    """
    dataset = describe(config)
    network = make_evaluated_model(config, dataset.image_size)
    return Model(
        network=network,
        params=trained.params,
        view=dataclasses.replace(dataset.view, background=config.eval.background or dataset.view.background),
        frame_stride=dataset.frame_stride,
        held_out=held_out,
        facts=trained.facts,
    )


def train(
    config: ConfigDict | str,
    workdir: str | Path,
    overrides: Sequence[str] = (),
    *,
    init: str | Path | None = None,
) -> Model:
    """Train a model, or resume an interrupted run. The same as `--mode train` without the evaluation.

    Args:
        config: settings from `load_config`, or an argument of it, such as "quickstart".
        workdir: the folder of the run.
        overrides: `key=value`, such as `train.num_steps=100`.
        init: a trained model to start from, in any form that `load_model` accepts. Parameters that do not fit by name
            or shape are listed and freshly initialised. Ignored if the folder has a checkpoint.

    Raises:
        ConfigError: a setting is wrong, or the folder holds a run with other settings, or `init` belongs to another
            system or has no parameter that fits.
        DataError: the dataset cannot be opened.
        ModelFileError: the file of `init` is damaged.
        CheckpointError: the run of `init` has no readable checkpoint.
    """
    settings, folder = load_config(config, overrides), Path(workdir)
    if folder.exists():
        check_links(folder)
    if init is not None:
        check_init(str(init), settings, folder)
    setup.check(settings, "train")
    modes.train(settings, folder, None if init is None else str(init))
    return load_model(folder)
