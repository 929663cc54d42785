"""Configs: find them by name, override them from the command line, check them, and convert them to JSON."""

from stii_jax.config.files import (
    check_argument,
    config_folder,
    config_names,
    default_config,
    load_config,
    resolve,
    run_file,
    split_overrides,
    stage_configs,
)
from stii_jax.config.settings import ArgumentError, ConfigError, differences, flatten, from_json, to_json
from stii_jax.config.validation import CHOICES, MAX_SLOTS, validate

__all__ = [
    "CHOICES",
    "MAX_SLOTS",
    "ArgumentError",
    "ConfigError",
    "check_argument",
    "config_folder",
    "config_names",
    "default_config",
    "differences",
    "flatten",
    "from_json",
    "load_config",
    "resolve",
    "run_file",
    "split_overrides",
    "stage_configs",
    "to_json",
    "validate",
]
