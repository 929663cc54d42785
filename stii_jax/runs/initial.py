"""The parameters that training starts from if `--init` names a trained model."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from stii_jax.config import ConfigError
from stii_jax.models.video_model import VideoModel
from stii_jax.runs.settings import recorded_name
from stii_jax.runs.setup import load_trained
from stii_jax.storage.digests import describe_form, digest_json, digest_leaves, name_leaves
from stii_jax.types import Params


class Initial(NamedTuple):
    """The part of a trained model that fits the model to train."""

    params: Mapping[str, jax.Array]
    """The parameters that fit, by their path in the tree, such as `decoder/kernel`."""
    record: dict[str, Any]
    """Facts for `provenance.json`: the trained model with its digest, and the freshly initialised parameters."""
    line: str
    """The same as one line for the user."""


def load_initial(name: str, model: VideoModel) -> Initial:
    """Load the parameters of a trained model that fit another one by name and shape.

    Args:
        name: see `load_trained`.
        model: the model to train.

    Raises:
        ConfigError: no parameter fits.
        UserError: the trained model cannot be read; see `load_trained`.
    """
    trained, _ = load_trained(name)
    given = name_leaves(trained.params)
    found, expected = _forms(trained.params), _forms(jax.eval_shape(model.init, jax.random.key(0)))
    fitting = {path: leaf for path, leaf in given.items() if found[path] == expected.get(path)}
    fresh = {path: form for path, form in expected.items() if path not in fitting}
    unused = sorted({"motion" if path.startswith("motion/") else path for path in set(given) - set(expected)})
    if not fitting:
        path, form = next(iter(fresh.items()))
        raise ConfigError(
            f"--init {name} has no parameter that fits the model to train ({path} is {found.get(path, 'absent')}, "
            f"expected {form}): give a model with the same --config.model settings"
        )
    record = {
        "model": recorded_name(name),
        "digest": digest_json(digest_leaves(trained.params)),
        "fresh": sorted(fresh),
    }
    record |= {key: trained.facts[key] for key in ("step", "seed", "commit") if key in trained.facts}
    line = f"starting from {name}, step {trained.step}, with {len(fitting)} of its {len(given)} parameter arrays"
    if fresh:
        listed = [f"{path} (is {found.get(path, 'absent')}, expected {form})" for path, form in fresh.items()]
        line += f"; freshly initialised because they do not fit: {', '.join(listed)}"
    if unused:
        line += f"; not part of the model to train: {', '.join(unused)}"
    return Initial(fitting, record, line)


def _forms(params: Params) -> dict[str, str]:
    return {path: describe_form(leaf) for path, leaf in name_leaves(params).items()}
