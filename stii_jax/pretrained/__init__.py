"""Models that come with the package, and the files that trained models are passed on in.

python -m stii_jax.pretrained                   # the cards of those that are here

trained = pretrained.load("quickstart")         # or the path of a file that `--mode export` wrote
model = make_model(trained.config, image_size)  # `stii_jax.evaluate`; pure functions of `trained.params`
"""

from stii_jax.pretrained.files import ModelFileError, Trained, find, load, names, read_config, save, without_paths

__all__ = ["ModelFileError", "Trained", "find", "load", "names", "read_config", "save", "without_paths"]
