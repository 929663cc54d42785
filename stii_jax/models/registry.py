"""The systems that a config can name, and their models."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from stii_jax.models.baselines.ddpae import DDPAE
from stii_jax.models.baselines.iodine import Iodine, SequentialIodine
from stii_jax.models.baselines.rnem import RNEM
from stii_jax.models.restarts import RestartedSTII
from stii_jax.models.stii import STII
from stii_jax.models.video_model import VideoModel


class System(NamedTuple):
    """A model that `config.system` or `config.eval.system` names."""

    model: type[VideoModel]
    section: str
    """Section of the config with the settings of the model's class."""
    is_stii: bool = True
    """True if the model is built from the parts of STII and also uses `config.loss`."""
    predicts: bool = True


SYSTEMS: dict[str, System] = {
    "stii": System(STII, "model"),
    "iodine": System(Iodine, "model", predicts=False),
    "seq_iodine": System(SequentialIodine, "model", predicts=False),
    "rnem": System(RNEM, "rnem", is_stii=False),
    "ddpae": System(DDPAE, "ddpae", is_stii=False),
}


def model_settings(config: ConfigDict, system: str = "") -> dict[str, Any]:
    """The config section that determines the parameters of a system."""
    return config[SYSTEMS[system or config.system].section].to_dict()


def fits_every_size(config: ConfigDict) -> bool:
    """True if the model's parameters do not depend on the frame size."""
    return SYSTEMS[config.system].is_stii and config.model.architecture == "pyramid"


def make_evaluated_model(config: ConfigDict, image_size: int) -> VideoModel:
    """The model with the settings of `config.eval`, as used for evaluation and inference."""
    settings, config = config.eval, config.copy_and_resolve_references()
    config.model.num_refinements = settings.num_refinements or config.model.num_refinements
    config.model.schedule = settings.schedule or config.model.schedule
    config.model.first_noise = settings.first_noise or config.model.first_noise
    config.model.predictor = settings.predictor or config.model.predictor
    system = settings.system or config.system
    kind: Callable[..., VideoModel] = SYSTEMS[system].model
    tries = {name: settings[name] for name in ("restarts", "reseeds", "reseed_every", "slot_cost")}
    if (tries["restarts"], tries["reseeds"], tries["slot_cost"]) != (1, 0, 0):
        kind = partial(RestartedSTII, **tries)
    if SYSTEMS[system].is_stii:
        kind = partial(kind, segmentation=settings.segmentation)
    return make_model(config, image_size, settings.num_slots, system, kind)


def make_model(
    config: ConfigDict,
    image_size: int,
    num_slots: int = 0,
    system: str = "",
    kind: Callable[..., VideoModel] | None = None,
) -> VideoModel:
    """Build the model of a config for square colour frames.

    Args:
        config: the complete config.
        image_size: height and width, in pixels.
        num_slots: number of slots; 0 selects the config's.
        system: name of a system; "" selects the config's.
        kind: a class or factory to call with the system's settings; None selects the system's own class.
    """
    name = system or config.system
    settings = model_settings(config, name)
    settings["num_slots"] = num_slots or settings["num_slots"]
    settings |= {"height": image_size, "width": image_size, "channels": 3}
    if SYSTEMS[name].is_stii:
        weights = config.loss.to_dict()
        settings |= {name: weights.pop(name) for name in ("refinement_weights", "observed_fraction")}
        settings["weights"] = weights
        settings |= {"interaction": config.motion.interaction, "motion_width": config.motion.width}
    if name == "seq_iodine":
        settings["clamp"] = config.eval.clamp
    return (kind or SYSTEMS[name].model)(**settings)
