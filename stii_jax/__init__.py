"""Unsupervised video decomposition by spatio-temporal iterative inference, in JAX.

    model = stii_jax.load_model("quickstart")
    found = model.decompose("video.mp4")
    found.masks, found.tracks.to_dataframe()

Names are imported on first use: `import stii_jax` itself imports neither jax nor any other heavy library.
"""

from typing import TYPE_CHECKING

from stii_jax.lazy import exports

if TYPE_CHECKING:
    from stii_jax.config import load_config
    from stii_jax.data.pipeline.source import open_dataset
    from stii_jax.inference.model import Model, Result
    from stii_jax.runs.fine_tuning import fine_tune
    from stii_jax.runs.loading import load_model, train
else:
    _MODULES = {"load_config": "config", "open_dataset": "data.pipeline.source"}
    _MODULES |= dict.fromkeys(("Model", "Result"), "inference.model")
    _MODULES |= {"fine_tune": "runs.fine_tuning"}
    _MODULES |= dict.fromkeys(("load_model", "train"), "runs.loading")
    __getattr__ = exports(__name__, _MODULES)

__all__ = ["Model", "Result", "fine_tune", "load_config", "load_model", "open_dataset", "train"]
__version__ = "0.1.0"
