"""The file of a trained model: parameters as float16 in the safetensors format, and JSON that says what they are.

Nothing in it is code, and a damaged file is noticed: every array has a digest. The metadata has one key, `stii_jax`
(several would come in any order): a JSON object of `version` (of this form), `config`, `facts` (see `Trained`) and
`digests`.
"""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from stii_jax import evaluate
from stii_jax.config import ConfigError, from_json, load_config
from stii_jax.data import resolve_config
from stii_jax.digests import describe_form, digest_leaves, name_leaves
from stii_jax.types import Params
from stii_jax.writers import write_atomic

VERSION = 1
SUFFIX = ".safetensors"
FOLDER = Path(__file__).parent
_KEYS = {"version", "config", "facts", "digests"}


class ModelFileError(ValueError):
    """A model's file that is missing, damaged or of something else; one line that names the way out."""


class Trained(NamedTuple):
    """A trained model: what it has learned, and what made it."""

    config: ConfigDict
    """Of its training."""
    params: Params
    facts: dict[str, Any]
    """`step`, `seed`, `commit`, `versions`, `hardware`, `train_seconds` and more; in a file also `results` and
    `prediction`, the scores that the run had."""

    @property
    def step(self) -> int:
        """Of training, at which the parameters were saved."""
        return self.facts["step"]


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
        config = load_config(from_json(json.dumps(_header(path)["config"])))
    except ConfigError as error:
        raise ModelFileError(f"{path} is of no use: {error}") from error
    config.data.data_dir = config.data.manual_dir = ""
    return config


def load(name: str) -> Trained:
    """A trained model; its parameters are float32 arrays on the first device.

    Raises:
        ModelFileError: there is no such model, or the file is damaged or of something else.
    """
    config, path = read_config(name), find(name)
    header = _header(path)
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no mapping
        damaged = header["digests"] != digest_leaves(arrays)
    except (SafetensorError, ValueError, OSError) as error:
        raise _damaged(path, error) from error
    if damaged:
        raise _damaged(path, "not what was written")
    facts = header["facts"]
    if not isinstance(facts, dict) or type(facts.get("step")) is not int:
        raise ModelFileError(f"{path} does not say what it is of: export it anew with --mode export")
    return Trained(config, _arrange(path, arrays, config), facts)


def save(path: Path, trained: Trained) -> None:
    """Writes a model's file; where it was not possible, a file that was there is as it was.

    Paths of this machine stay here: folders of datasets are left out, and of videos only their last part is kept.

    Raises:
        ModelFileError: the name is none of a model's file, or float16 cannot hold a parameter.
        OSError: the file cannot be written.
    """
    if path.suffix != SUFFIX or not path.parent.is_dir():
        raise ModelFileError(f"{path} cannot be a model's file: give --output a {SUFFIX} file in a folder that exists")
    arrays = {name: np.asarray(leaf, np.float32) for name, leaf in name_leaves(trained.params).items()}
    limit = float(np.finfo(np.float16).max)
    if large := [name for name, array in arrays.items() if not (np.abs(array) <= limit).all()]:
        raise ModelFileError(f"parameters that float16 cannot hold (above {limit:.0f}, or not finite): {large[0]}")
    halves = {name: array.astype(np.float16) for name, array in arrays.items()}
    header = {
        "version": VERSION,
        "config": without_paths(trained.config).to_dict(),
        "facts": trained.facts,
        "digests": digest_leaves(halves),
    }
    write_atomic(path, to_bytes(halves, {"stii_jax": json.dumps(header)}))


def _header(path: Path) -> Mapping[str, Any]:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        header = json.loads(metadata.get("stii_jax", "null"))
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        raise _damaged(path, error) from error
    if not isinstance(header, dict) or not header.keys() >= _KEYS or header["version"] != VERSION:
        raise ModelFileError(
            f"{path} is no model of stii_jax, or of another version than {VERSION}: only what --mode export wrote can "
            "be used"
        )
    return header


def _damaged(path: Path, why: Exception | str) -> ModelFileError:
    text = " ".join(str(why).split())
    return ModelFileError(f"{path} is damaged ({text}): fetch it again, or export it anew with --mode export")


def _arrange(path: Path, arrays: Mapping[str, np.ndarray], config: ConfigDict) -> Params:
    """Arrays in the tree that the config's model has, as float32."""
    size = resolve_config(config.data.dataset, config.data.variant, config.data.options.to_dict()).image_size
    model = evaluate.make_model(config, size)
    tree = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    expected = {name: describe_form(leaf) for name, leaf in name_leaves(tree).items()}
    floats = {name: array.astype(np.float32) for name, array in arrays.items()}
    found = {name: describe_form(array) for name, array in floats.items()}
    if changed := sorted(name for name in expected | found if expected.get(name) != found.get(name)):
        name = changed[0]
        raise ModelFileError(
            f"{path} does not fit its own config: {name} is {found.get(name, 'absent')}, expected "
            f"{expected.get(name, 'absent')}: export it anew with --mode export"
        )
    leaves = [jax.device_put(floats[name], jax.local_devices()[0]) for name in name_leaves(tree)]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def without_paths(config: ConfigDict) -> ConfigDict:
    shared = config.copy_and_resolve_references()
    shared.data.data_dir = shared.data.manual_dir = ""
    described = resolve_config(shared.data.dataset, shared.data.variant, shared.data.options.to_dict())
    for options in (shared.data.options, shared.eval.options):
        for name in set(described.paths) & set(options):
            options[name] = Path(options[name]).name
    return shared
