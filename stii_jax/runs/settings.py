"""The settings of a run, from the command line, a workdir or a trained model's file. Needs no JAX."""

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
"""Settings that may change when a run is resumed.

With other devices, `train.parallel` or `train.accumulation`, the run continues with the same videos and noise. Sums
are then taken in another order and round differently, so the result is not bit-for-bit the same.
"""


def open_config(name: str | None, workdir: Path, overrides: Sequence[str]) -> ConfigDict:
    """Load the named config, which must match the workdir's run, or else the workdir's own config.

    Raises:
        ConfigError: there is neither, or they differ in a setting that a checkpoint depends on.
    """
    saved_path = workdir / "config.json"
    if name is None and not saved_path.exists():
        raise ConfigError(
            f"no run in {workdir}, and no --config to train one: give e.g. --config quickstart --workdir {workdir}"
        )
    config = load_config(name or saved_path, overrides)
    check_same_run(config, workdir)
    return config


def check_same_run(config: ConfigDict, workdir: Path) -> list[str]:
    """Compare a config with the one in the workdir.

    Returns:
        The settings that differ, if the workdir has settings but no run yet. In that case training failed, or was
        stopped, before its first checkpoint.

    Raises:
        ConfigError: the workdir holds a run, and they differ in a setting that a checkpoint depends on.
    """
    from stii_jax.runs.lock import holds_run  # needs fcntl, among other modules

    path = workdir / "config.json"
    saved = load_config(path) if path.exists() else config
    changed = differences(saved, config, ignore=NOT_OF_THE_RUN)
    if changed and holds_run(workdir, saved.train.checkpoint_every):
        raise ConfigError(
            f"{workdir} holds a run with other settings ({'; '.join(changed[:5])}): use those, or another --workdir"
        )
    return changed


def recorded_name(model: str) -> str:
    """Return the name of a model for `provenance.json`: without folders, since exported files hold it, too."""
    return Path(model).expanduser().resolve().name


def open_model_config(
    name: str, workdir: Path | None, overrides: Sequence[str], *, learns_motion: bool = False
) -> ConfigDict:
    """Load the config from a trained model's file, for a workdir that only receives results.

    Raises:
        ConfigError: an override changes a setting that the parameters depend on, or the workdir holds a run.
        ModelFileError: there is no such model.
    """
    config = evaluated_config(read_config(name), overrides, f"--model {name}", learns_motion=learns_motion)
    if workdir is not None and (workdir / "config.json").exists():
        raise ConfigError(f"{workdir} already holds a run: give another --workdir with --model {name}")
    return config


def evaluated_config(
    trained: ConfigDict, overrides: Sequence[str], model: str, *, learns_motion: bool = False
) -> ConfigDict:
    """Return the config of a trained model with overrides, such as `eval.num_slots=3`.

    Args:
        trained: the config that the model was trained with.
        overrides: settings as `key=value`.
        model: the model's name in error messages.
        learns_motion: True if the model gets a new motion, whose settings may change.

    Raises:
        ConfigError: an override is wrong, or changes a setting that the parameters depend on.
    """
    config = load_config(trained, overrides)
    ignored = NOT_OF_THE_RUN if learns_motion else [name for name in NOT_OF_THE_RUN if name != "motion"]
    if changed := differences(trained, config, ignore=ignored):
        raise ConfigError(f"{model} was trained with other settings ({'; '.join(changed[:5])}): leave those out")
    return config


def check_init(init: str, config: ConfigDict, workdir: Path) -> None:
    """Raise an error if training cannot start from a model. A workdir with a checkpoint needs none.

    Args:
        init: see `--init`.
        config: the settings to train with.
        workdir: the folder of the run to train.

    Raises:
        ConfigError: there is no such model, or it belongs to another system or architecture.
        ModelFileError: the file holds no model.
    """
    from stii_jax.runs.lock import has_checkpoint  # needs fcntl, as in `check_same_run`

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
            raise ConfigError(f"--init {init} is a folder without a run's checkpoint: give another model")
        trained = load_config(path / "config.json")
    else:
        trained = read_config(init)
    if trained.system != config.system:
        raise ConfigError(
            f"--init {init} is a {trained.system} model, but the config trains {config.system}: give a "
            f"{config.system} model, or change --config.system"
        )
    # Both architectures have layers of the same names, possibly of the same shapes, but at other resolutions.
    if (given := trained.model.architecture) != (wanted := config.model.architecture):
        raise ConfigError(
            f"--init {init} has the architecture {given}, but the config trains {wanted}: give a model with the "
            f"architecture {wanted}, or --config.model.architecture={given}"
        )
