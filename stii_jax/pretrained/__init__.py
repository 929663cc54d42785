"""The models that come with the package, and the file format of trained models.

python -m stii_jax.pretrained                   # the cards of the models that come with the package

trained = pretrained.load("quickstart")         # or the path of a file that `--mode export` wrote
model = make_model(trained.config, image_size)  # `stii_jax.models.registry`; pure functions of `trained.params`
"""

from typing import TYPE_CHECKING

from stii_jax.lazy import exports
from stii_jax.pretrained.files import ModelFileError, find, names, read_config

if TYPE_CHECKING:
    from stii_jax.pretrained.trained import Trained, check_output, load, save, without_paths
else:
    _IN_TRAINED = ("Trained", "check_output", "load", "save", "without_paths")
    __getattr__ = exports(__name__, dict.fromkeys(_IN_TRAINED, "trained"))

__all__ = ["ModelFileError", "Trained", "check_output", "find", "load", "names", "read_config", "save", "without_paths"]
