"""The file of a trained model: its name, its header and its config. Imports nothing heavy.

The parameters are float16 in the safetensors format; JSON says what they are. Nothing in a file is code, and damage is
noticed: every array has a digest. The metadata has one key, `stii_jax` (several would come in any order): a JSON object
of `version` (of this form), `config`, `facts` (see `Trained`) and `digests`.
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
    """A model's file that is missing, damaged or of something else; one line that names the way out."""


def names() -> list[str]:
    """The models that come with the package."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def find(name: str) -> Path:
    """The file of a model.

    Args:
        name: one of `names()`, or the path of a .safetensors file.

    Raises:
        ModelFileError: there is none.
    """
    path = FOLDER / f"{name}{SUFFIX}" if name in names() else Path(name).expanduser()
    if path.suffix == SUFFIX and path.is_file():
        return path
    nearest = difflib.get_close_matches(name, names(), n=1, cutoff=0.0)
    raise ModelFileError(
        f"no model {name!r}; nearest: {''.join(nearest) or 'none'} (available: {', '.join(names())}; or the path of a "
        f"{SUFFIX} file, which --mode export writes)"
    )


def read_config(name: str) -> ConfigDict:
    """The config that a model was trained with; its datasets' folders are the usual ones.

    Raises:
        ModelFileError: there is no such model, or the file is none of a model.
    """
    path = find(name)
    try:
        config = load_config(from_json(json.dumps(read_header(path)["config"])))
    except ConfigError as error:
        raise ModelFileError(f"{path} is of no use: {error}") from error
    config.data.data_dir = config.data.manual_dir = ""
    return config


def read_header(path: Path) -> Mapping[str, Any]:
    """The JSON object in a file's metadata; raises `ModelFileError` if this program did not write it."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        header = json.loads(metadata.get("stii_jax", "null"))
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        raise damaged(path, error) from error
    if not isinstance(header, dict) or not header.keys() >= _KEYS or header["version"] != VERSION:
        raise ModelFileError(
            f"{path} is no model of stii_jax, or of another version than {VERSION}: only what --mode export wrote can "
            "be used"
        )
    return header


def damaged(path: Path, why: Exception | str) -> ModelFileError:
    """The error for a file that cannot be read to its end."""
    text = " ".join(str(why).split())
    return ModelFileError(f"{path} is damaged ({text}): fetch it again, or export it anew with --mode export")
