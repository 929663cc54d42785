"""A trained model in memory: its config, its parameters and its facts. It can be loaded from a file and saved."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from stii_jax.data.catalog import resolve_config
from stii_jax.models import registry
from stii_jax.pretrained.files import SUFFIX, VERSION, ModelFileError, damaged, find, read_config, read_header
from stii_jax.storage.digests import describe_form, digest_leaves, name_leaves
from stii_jax.storage.files import write_atomic
from stii_jax.types import Params


class Trained(NamedTuple):
    """A trained model: its parameters and their provenance."""

    config: ConfigDict
    """The config it was trained with."""
    params: Params
    facts: dict[str, Any]
    """`step`, `seed`, `commit`, `versions`, `hardware`, `train_seconds` and more. A file also has `results` and
    `prediction`, the run's scores."""

    @property
    def step(self) -> int:
        """The training step at which the parameters were saved."""
        return self.facts["step"]


def load(name: str) -> Trained:
    """Load a trained model. Its parameters are float32 arrays on the first device.

    Raises:
        ModelFileError: there is no such model, or the file is damaged or not a model.
    """
    config, path = read_config(name), find(name)
    header = read_header(path)
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is not a mapping
        changed = header["digests"] != digest_leaves(arrays)
    except (SafetensorError, ValueError, OSError) as error:
        raise damaged(path, error) from error
    if changed:
        raise damaged(path, "the digests do not match")
    facts = header["facts"]
    if not isinstance(facts, dict) or type(facts.get("step")) is not int:
        raise ModelFileError(f"{path} does not state its training step: export it again with --mode export")
    return Trained(config, _arrange(path, arrays, config), facts)


def check_output(path: Path) -> None:
    """Check the name of a model's file and its folder; raises `ModelFileError`."""
    if path.suffix != SUFFIX or not path.parent.is_dir():
        raise ModelFileError(f"{path} cannot be a model's file: set --output to a {SUFFIX} file in an existing folder")


def save(path: Path, trained: Trained) -> None:
    """Write a model's file. If that fails, an existing file stays unchanged.

    Paths of this machine are removed: folders of datasets are dropped, and paths of videos keep only their last part.

    Raises:
        ModelFileError: the file name is not valid, or float16 cannot hold a parameter.
        OSError: the file cannot be written.
    """
    check_output(path)
    arrays = {name: np.asarray(leaf, np.float32) for name, leaf in name_leaves(trained.params).items()}
    limit = float(np.finfo(np.float16).max)
    if large := [name for name, array in arrays.items() if not (np.abs(array) <= limit).all()]:
        raise ModelFileError(f"float16 cannot hold the parameter {large[0]}: it is above {limit:.0f}, or not finite")
    halves = {name: array.astype(np.float16) for name, array in arrays.items()}
    header = {
        "version": VERSION,
        "config": without_paths(trained.config).to_dict(),
        "facts": trained.facts,
        "digests": digest_leaves(halves),
    }
    write_atomic(path, to_bytes(halves, {"stii_jax": json.dumps(header)}))


def _arrange(path: Path, arrays: Mapping[str, np.ndarray], config: ConfigDict) -> Params:
    """Arrange arrays in the parameter tree of the config's model, as float32."""
    size = resolve_config(config.data.dataset, config.data.variant, config.data.options.to_dict()).image_size
    model = registry.make_model(config, size)
    tree = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    expected = {name: describe_form(leaf) for name, leaf in name_leaves(tree).items()}
    floats = {name: array.astype(np.float32) for name, array in arrays.items()}
    found = {name: describe_form(array) for name, array in floats.items()}
    if changed := sorted(name for name in expected | found if expected.get(name) != found.get(name)):
        name = changed[0]
        raise ModelFileError(
            f"{path} does not fit its own config: {name} is {found.get(name, 'absent')}, expected "
            f"{expected.get(name, 'absent')}: export it again with --mode export"
        )
    leaves = [jax.device_put(floats[name], jax.local_devices()[0]) for name in name_leaves(tree)]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def without_paths(config: ConfigDict) -> ConfigDict:
    """Return a copy without the folders of this machine. A video folder keeps only the last part of its path."""
    shared = config.copy_and_resolve_references()
    shared.data.data_dir = shared.data.manual_dir = ""
    described = resolve_config(shared.data.dataset, shared.data.variant, shared.data.options.to_dict())
    for options in (shared.data.options, shared.eval.options):
        for name in set(described.paths) & set(options):
            options[name] = Path(options[name]).name
    return shared
