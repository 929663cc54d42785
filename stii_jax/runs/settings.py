"""The settings of a run, from the command line, a workdir or a trained model's file. Needs no jax."""

from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from stii_jax.config import ConfigError, differences, load_config
from stii_jax.pretrained.files import names, read_config

NOT_OF_THE_RUN = (
    "probe",
    "motion",
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
    """The config given, which must agree with that of the workdir's run, or the workdir's own.

    Raises:
        ConfigError: neither is there, or they disagree in what a checkpoint depends on.
    """
    saved_path = workdir / "config.json"
    if name is None and not saved_path.exists():
        raise ConfigError(
            f"no run in {workdir}, and no --config given to train one: e.g. --config quickstart --workdir {workdir}"
        )
    config = load_config(name or saved_path, overrides)
    check_same_run(config, workdir)
    return config


def check_same_run(config: ConfigDict, workdir: Path) -> list[str]:
    """Compare a config with the one in the workdir.

    Returns:
        the settings that differ, where the workdir has settings but no run yet: training failed, or was stopped,
        before its first checkpoint.

    Raises:
        ConfigError: the workdir holds a run, and they differ in what a checkpoint depends on.
    """
    from stii_jax.runs.lock import holds_run  # which needs fcntl, and more than that

    path = workdir / "config.json"
    saved = load_config(path) if path.exists() else config
    changed = differences(saved, config, ignore=NOT_OF_THE_RUN)
    if changed and holds_run(workdir, saved.train.checkpoint_every):
        raise ConfigError(
            f"{workdir} holds a run with other settings ({'; '.join(changed[:5])}): give those, or another --workdir"
        )
    return changed


def open_model_config(
    name: str, workdir: Path | None, overrides: Sequence[str], *, learns_motion: bool = False
) -> ConfigDict:
    """The config of a trained model's file, for use with a workdir that only takes up what is found with it.

    Raises:
        ConfigError: the overrides change what the parameters depend on, or the workdir holds a run of its own.
        ModelFileError: there is no such model.
    """
    config = evaluated_config(read_config(name), overrides, f"--model {name}", learns_motion=learns_motion)
    if workdir is not None and (workdir / "config.json").exists():
        raise ConfigError(f"{workdir} holds a run of its own: with --model {name} give another --workdir")
    return config


def evaluated_config(
    trained: ConfigDict, overrides: Sequence[str], model: str, *, learns_motion: bool = False
) -> ConfigDict:
    """The config of a trained model with overrides, such as `eval.num_slots=3`.

    Args:
        trained: the config that the model was trained with.
        overrides: settings as `key=value`.
        model: what the message calls the model.
        learns_motion: True if the model gets a new motion, whose settings may change.

    Raises:
        ConfigError: an override is wrong, or changes what the parameters depend on.
    """
    config = load_config(trained, overrides)
    ignored = NOT_OF_THE_RUN if learns_motion else [name for name in NOT_OF_THE_RUN if name != "motion"]
    if changed := differences(trained, config, ignore=ignored):
        raise ConfigError(f"{model} was trained with other settings ({'; '.join(changed[:5])}): leave those out")
    return config


def check_init(init: str, config: ConfigDict, workdir: Path) -> None:
    """Stop at a model that a training cannot start from; a workdir with a checkpoint needs none.

    Args:
        init: see `--init`.
        config: the settings to train with.
        workdir: the folder of the run to train.

    Raises:
        ConfigError: there is no such model, or it belongs to another system or architecture.
        ModelFileError: the file is not a model's.
    """
    from stii_jax.runs.lock import has_checkpoint  # as in `check_same_run`

    if has_checkpoint(workdir):
        return
    path = Path(init).expanduser()
    if init not in names() and not path.exists():
        raise ConfigError(
            f"--init {init} does not exist: give a model that comes with the package ({', '.join(names())}), a "
            ".safetensors file, or the folder of a run"
        )
    if path.is_dir() and init not in names():
        if not (path / "config.json").is_file() or not has_checkpoint(path):
            raise ConfigError(f"--init {init} is a folder without a checkpoint of a run: give another model")
        trained = load_config(path / "config.json")
    else:
        trained = read_config(init)
    if trained.system != config.system:
        raise ConfigError(
            f"--init {init} is a model of the system {trained.system}, but the config trains {config.system}: give a "
            f"model of {config.system}, or change --config.system"
        )
    # Layers of the two have the same names and may have the same shapes, but other resolutions.
    if (given := trained.model.architecture) != (wanted := config.model.architecture):
        raise ConfigError(
            f"--init {init} has the architecture {given}, but the config trains {wanted}: give a model of the "
            f"architecture {wanted}, or --config.model.architecture={given}"
        )
