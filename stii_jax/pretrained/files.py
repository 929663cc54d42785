"""The file of a trained model: its name, its header and its config. This module imports nothing heavy.

The parameters are float16 in the safetensors format, described by JSON metadata. A file contains no code. Every array
has a digest, so damage is detected. The metadata has a single key, `stii_jax`, because several keys would have no fixed
order. Its value is a JSON object with `version` (of this format), `config`, `facts` (see `Trained`) and `digests`.
"""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from safetensors import SafetensorError, safe_open

from stii_jax.config import ConfigError, from_json, load_config
from stii_jax.errors import UserError

VERSION = 1
SUFFIX = ".safetensors"
FOLDER = Path(__file__).parent
_KEYS = {"version", "config", "facts", "digests"}


class ModelFileError(UserError, ValueError):
    """A model's file is missing, damaged or not a model. The message is one line that says what to do."""


def names() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def find(name: str) -> Path:
    """Find the file of a model.

    Args:
        name: one of `names()`, or the path of a .safetensors file.

    Raises:
        ModelFileError: there is no such model.
    """
    path = FOLDER / f"{name}{SUFFIX}" if name in names() else Path(name).expanduser()
    if path.suffix == SUFFIX and path.is_file():
        return path
    nearest = difflib.get_close_matches(name, names(), n=1, cutoff=0.0)
    raise ModelFileError(
        f"no model {name!r}; nearest: {''.join(nearest) or 'none'} (available: {', '.join(names())}; or give the path "
        f"of a {SUFFIX} file written by --mode export)"
    )


def read_config(name: str) -> ConfigDict:
    """Read the config that a model was trained with. Its dataset folders are reset to the defaults.

    Raises:
        ModelFileError: there is no such model, or the file is not a model.
    """
    path = find(name)
    try:
        config = load_config(from_json(json.dumps(read_header(path)["config"])))
    except ConfigError as error:
        raise ModelFileError(f"{path} cannot be used: {error}") from error
    config.data.data_dir = config.data.manual_dir = ""
    return config


def read_header(path: Path) -> Mapping[str, Any]:
    """Read the JSON object in a file's metadata. Raises `ModelFileError` if this package did not write it."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        header = json.loads(metadata.get("stii_jax", "null"))
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        raise damaged(path, error) from error
    if not isinstance(header, dict) or not header.keys() >= _KEYS or header["version"] != VERSION:
        raise ModelFileError(
            f"{path} is not a stii_jax model of format version {VERSION}: give a file written by --mode export"
        )
    return header


def damaged(path: Path, why: Exception | str) -> ModelFileError:
    """The error for a damaged file."""
    text = " ".join(str(why).split())
    return ModelFileError(f"{path} is damaged ({text}): download it again, or export it again with --mode export")
