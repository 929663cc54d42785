"""Functions that flatten, save, load and compare the settings of a config."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from stii_jax.errors import UserError

FREE_SECTIONS = ("data.options", "eval.options")
"""Sections that accept keys missing from the default config, such as fields of a dataset."""


class ConfigError(UserError, ValueError):
    """A config that cannot be found, read or used. The message is one line that names the field to change."""


class ArgumentError(ConfigError):
    """An argument that a config does not accept, such as `smal` in `video_folder:smal`."""


def flatten(config: ConfigDict | Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted key. Lists become tuples, because JSON stores tuples as lists."""
    leaves: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, (ConfigDict, Mapping)):
            leaves |= {f"{name}.{key}": leaf for key, leaf in flatten(value).items()}
        else:
            leaves[name] = as_tuples(value)
    return leaves


def to_json(config: ConfigDict) -> str:
    """The settings as JSON, for `from_json` and `--config saved.json`."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def from_json(text: str) -> ConfigDict:
    """Read the config that `to_json` wrote, and lock it. Runs no code and checks no values.

    Raises:
      ConfigError: the text is not a JSON object.
    """
    try:
        saved = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"not valid JSON: {error}") from error
    if not isinstance(saved, dict):
        raise ConfigError(f"expected a JSON object of settings, found {type(saved).__name__}")
    return lock(ConfigDict(as_tuples(saved)))


def differences(
    saved: ConfigDict | Mapping[str, Any], given: ConfigDict | Mapping[str, Any], ignore: Sequence[str] = ()
) -> list[str]:
    """Return lines `key: saved X, given Y` for settings that differ, except keys and sections in `ignore`."""
    old, new = flatten(saved), flatten(given)
    return [
        f"{key}: saved {_show(old, key)}, given {_show(new, key)}"
        for key in sorted(old | new)
        if _show(old, key) != _show(new, key) and not any(key == name or key.startswith(f"{name}.") for name in ignore)
    ]


def lock(config: ConfigDict) -> ConfigDict:
    """Lock a config except its `FREE_SECTIONS`, and return it."""
    config.lock()
    for section, options in (name.split(".") for name in FREE_SECTIONS):
        if section in config and options in config[section]:
            config[section][options].unlock()
    return config


def as_tuples(value: Any) -> Any:
    """Replace lists by tuples, at any depth."""
    if isinstance(value, dict):
        return {key: as_tuples(item) for key, item in value.items()}
    return tuple(map(as_tuples, value)) if isinstance(value, (list, tuple)) else value


def _show(leaves: Mapping[str, Any], key: str) -> str:
    return repr(leaves[key]) if key in leaves else "nothing"
