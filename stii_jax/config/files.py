"""Config files: find and run them, and override their settings from the command line.

A config is a Python file with `get_config(argument)`, and loading it **runs it**. A resolved config saved as JSON holds
the same settings and runs no code.
"""

import ast
import difflib
import importlib.machinery
import importlib.util
import inspect
import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from stii_jax.config.settings import FREE_SECTIONS, ArgumentError, ConfigError, as_tuples, flatten, from_json, lock
from stii_jax.config.validation import complaint, require, validate

_KINDS = {bool: "true or false", int: "an integer", float: "a number", str: "a string", tuple: "a tuple"}


def config_folder() -> Path:
    """Return the folder of shipped configs: `configs/` in a checkout, `stii_jax/configs/` in an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "default.py").is_file():
            return folder
    raise ConfigError(f"no configs found beside {package}: reinstall stii_jax")


def config_names() -> list[str]:
    """Return the short names of the shipped configs."""
    return sorted(path.stem for path in config_folder().glob("[!_]*.py"))


def resolve(name: str) -> str:
    """Return the absolute `path[:argument]` of a config; works from any folder.

    Args:
      name: a shipped config (`balls`, `balls:color`, `configs/balls.py:color`), or the path of a .py or .json
        file.

    Raises:
      ConfigError: there is no such config.
    """
    stem, colon, argument = name.partition(":")
    path = Path(stem).expanduser()
    if path.suffix not in (".py", ".json"):
        candidates = [config_folder() / f"{stem}.py"]
    elif path.parent == Path("configs"):
        candidates = [path, config_folder() / path.name]
    else:
        candidates = [path]
    for candidate in candidates:
        if candidate.is_file():
            if candidate.suffix == ".json" and colon:
                raise ConfigError(f"config {name!r}: a JSON file takes no argument, given {argument!r}")
            return f"{candidate.resolve()}{colon}{argument}"
    names = config_names()
    raise ConfigError(
        f"no config {name!r}; nearest: {_nearest(path.stem, names)} "
        f"(available: {', '.join(names)}; or the path of a .py or .json file)"
    )


def default_config(preset: str = "paper") -> ConfigDict:
    """Return the default config, the start of every other one. It is locked: an unknown key is an error."""
    return lock(_run(config_folder() / "default.py", preset))


def check_argument(config: str, argument: str, choices: Iterable[str]) -> None:
    """Check the argument of a config.

    Args:
      config: name of the config.
      argument: the text after the colon, or the part of it that must be one of the choices.
      choices: the valid arguments.

    Raises:
      ArgumentError: the argument is not one of them.
    """
    known = list(choices)
    if argument not in known:
        nearest = f"; nearest: {_nearest(argument, known)}" if known else ""
        raise ArgumentError(f"no variant {argument!r} of {config}{nearest} (available: {', '.join(known)})")


def load_config(spec: str | Path | ConfigDict, overrides: Sequence[str] = ()) -> ConfigDict:
    """Load a config, apply overrides, and return it checked and locked.

    Args:
      spec: a name for `resolve`, the `Path` of a JSON file, or settings. Missing settings keep their defaults.
      overrides: `key=value`, such as `model.num_slots=4` (see `split_overrides`); the last value of a key wins.

    Raises:
      ConfigError: no such config or key, a wrong type or value, or an exception in the config's own code.
    """
    # A `Path` is never split at a colon: "x.py:y/config.json" would otherwise run the code of x.py.
    path, _, argument = resolve(spec).partition(":") if isinstance(spec, str) else (str(spec), "", "")
    name = "given" if isinstance(spec, ConfigDict) else repr(str(spec))
    config = default_config()
    settings = flatten(config)
    try:
        if isinstance(spec, ConfigDict):
            given = spec
        elif isinstance(spec, Path) or path.endswith(".json"):
            given = from_json(Path(path).read_text())
        else:
            given = _run(Path(path), argument)
        for key, value in flatten(given).items():
            _assign(settings, key, value)
    except ArgumentError:
        raise
    # The user sees any exception of the config's own code in one line; `from` keeps the traceback.
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == path]
        where = f", line {lines[-1]}" if lines else ""
        kind = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
        raise ConfigError(f"config {name}{where}: {kind}{' '.join(str(error).split())}") from error
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"override {override!r} has no value: write {key}=VALUE")
        _assign(settings, key, _parse(key, text, type(settings.get(key))))
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        (config[section] if section else config)[name] = value
    validate(config)
    if config.curriculum.first or any(len(stage) > 3 for stage in config.curriculum.stages):
        stage_configs(config)
    return config


def stage_configs(config: ConfigDict) -> list[ConfigDict]:
    """Return the config of each training stage as if it were a run, with its own clips, steps and settings.

    Raises:
      ConfigError: a stage sets an unknown setting or an invalid value.
    """
    data, stages = config.data, config.curriculum.stages
    first = (data.num_frames, config.batch_size, config.train.num_steps, *config.curriculum.first)
    configs = []
    for number, (num_frames, batch_size, num_steps, *own) in enumerate((first, *stages)):
        alone = [
            f"data.num_frames={num_frames}",
            f"batch_size={batch_size}",
            f"train.num_steps={num_steps}",
            "curriculum.first=()",
            "curriculum.stages=()",
        ]
        try:
            configs.append(load_config(config, [*alone, *own]))
        except ConfigError as error:
            raise ConfigError(f"stage {number + 1} of the training: {error}") from error
    return configs


def split_overrides(arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    """Extract `--config.key=value` and `--config.key value` from a command line.

    Returns:
      The overrides as `key=value` for `load_config`, and the other arguments, including `--config`, in their order.

    Raises:
      ConfigError: `--config.key` has no value.
    """
    overrides, others = [], []
    waiting = iter(arguments)
    for argument in waiting:
        match = re.fullmatch(r"--?config\.([^=]*)(=.*)?", argument, re.DOTALL)
        if match is None:
            others.append(argument)
        elif match[2] is not None:
            overrides.append(match[1] + match[2])
        else:
            value = next(waiting, "--")
            if value.startswith("--"):
                raise ConfigError(f"{argument} has no value: write {argument}=VALUE")
            overrides.append(f"{match[1]}={value}")
    return overrides, others


class _Uncached(importlib.machinery.SourceFileLoader):
    def path_stats(self, path):
        raise OSError("no cache")  # the import system then neither reads nor writes a cache


def run_file(path: Path) -> Any:
    """Run a Python file and return its module.

    The file always runs in its current state. Python's cache of compiled files would miss a change made within a second
    that keeps the file's length.
    """
    loader = _Uncached(f"stii_jax_file_{path.stem}", str(path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None  # because there is a loader
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def _run(path: Path, argument: str) -> ConfigDict:
    """Run the config file at `path`; an empty `argument` selects the default of `get_config`."""
    module = run_file(path)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{path} defines no get_config()")
    if argument and not inspect.signature(module.get_config).parameters:
        raise ArgumentError(f"config {path.stem} has no variants, given {argument!r}: write --config {path.stem}")
    config = module.get_config(argument) if argument else module.get_config()
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"get_config() returned {type(config).__name__}, expected ConfigDict")
    return config


def _assign(settings: dict[str, Any], key: str, value: Any) -> None:
    """Change a setting of a flattened config, if it has the key and the value has its type."""
    if key in FREE_SECTIONS or (key not in settings and any(name.startswith(f"{key}.") for name in settings)):
        raise ConfigError(f"config.{key} is a section: set a field, --config.{key}.NAME=VALUE")
    if key not in settings and key.rpartition(".")[0] not in FREE_SECTIONS:
        raise ConfigError(f"no setting config.{key}; nearest: {_nearest_setting(key, settings)}")
    kind = type(settings.get(key, value))
    if kind is float and type(value) is int:
        value = float(value)
    expected = _KINDS.get(kind, kind.__name__)
    if kind is tuple and settings.get(key):
        expected = f"{expected} such as {settings[key]}"
    require(type(value) is kind, key, value, expected)
    settings[key] = value


def _parse(key: str, text: str, kind: type) -> Any:
    """Parse `text` as a value of `kind`. If the kind is unknown (NoneType), accept any literal."""
    if kind is str:
        return text
    if kind in (bool, type(None)) and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return as_tuples(float(text) if kind is float else int(text) if kind is int else ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError):
        if kind is type(None):
            return text
        raise ConfigError(complaint(key, text, _KINDS[kind])) from None


def _nearest(name: str, names: Iterable[str]) -> str:
    return " or ".join(difflib.get_close_matches(name, names, n=2, cutoff=0.0))


def _nearest_setting(key: str, settings: Mapping[str, Any]) -> str:
    """Return the settings nearest to a key. Only a dataset knows its options, so these are matched by section."""
    section, _, name = key.rpartition(".")
    if near := difflib.get_close_matches(section, FREE_SECTIONS, n=1, cutoff=0.8):
        return f"{near[0]}.{name}"
    beside = [other.rpartition(".")[2] for other in settings if other.rpartition(".")[0] == section]
    if f"{section}.options" in FREE_SECTIONS and not difflib.get_close_matches(name, beside, cutoff=0.7):
        return f"{section}.options.{name}, if it is an option of the dataset"
    return _nearest(key, settings)
