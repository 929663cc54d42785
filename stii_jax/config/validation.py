"""Checks of setting values that need only the config itself."""

import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from stii_jax.config.settings import FREE_SECTIONS, ConfigError, flatten

CHOICES = {
    "system": ("stii", "iodine"),  # plus `own_systems`, as for the next one
    "eval.system": ("", "stii", "iodine", "seq_iodine"),
    "rnem.rollout": ("expected", "binary"),
    "model.architecture": ("paper", "pyramid"),
    "model.schedule": ("triangular", "paper", "provide", "constant"),
    "eval.schedule": ("", "triangular", "paper", "provide", "constant"),
    "model.cell": ("md", "stable"),
    "model.posterior_start": ("learned", "prior", "previous"),
    "model.first_noise": ("fresh", "clip", "mean", "once"),
    "eval.first_noise": ("", "fresh", "clip", "mean", "once"),
    "eval.segmentation": ("masks", "responsibilities"),
    "model.leave_one_out_masks": ("as_is", "renormalized"),
    "model.posterior_input": ("mixture", "likelihood"),
    "model.likelihood": ("joint", "channelwise"),
    "model.predictor": ("prior", "motion"),
    "eval.predictor": ("", "prior", "motion", "velocity"),
    "eval.background": ("", "auto", "keep", "median", "bright"),
    "motion.interaction": ("relational", "attention", "none", "slotformer"),
    "model.prior_scale": ("log_scale", "softplus_log_variance"),
    "model.compute_dtype": ("float32", "bfloat16"),
    "loss.refinement_weights": ("frame", "budget"),
    "optim.name": ("adam", "sgd"),
    "optim.decay": ("constant", "cosine"),
    "train.parallel": ("pmap", "shard_map"),
}
# Other whole numbers are at least 1, other fractions at least 0.
MAY_BE_ZERO = (
    *("seed", "data.num_threads", "optim.warmup_steps"),
    *("curriculum.patience", "curriculum.held_out_patience", "curriculum.collapse_patience"),
    *(
        "eval.num_slots",
        "eval.num_refinements",
        "eval.reseeds",
        "eval.periodic_videos",
        "eval.predict_frames",
        "eval.futures",
        "eval.num_pictures",
    ),
    "ddpae.object_size",
)
ABOVE_ZERO = (
    *("probe.reach", "model.sigma", "model.temperature"),
    *("optim.learning_rate", "optim.clip_norm", "motion.learning_rate"),
)

OF_STAGES = (
    *("data.variant", "data.options.", "data.recolor", "loss."),
    *("model.likelihood", "model.sigma", "model.temperature"),
    *("model.num_refinements", "model.schedule", "model.first_noise"),
)
"""The settings that may differ between stages; parameters and logs do not depend on them."""

MAX_SLOTS = 255
"""The largest number of slots: a pixel's slot is written as a byte."""


def validate(config: ConfigDict) -> None:
    """Check every value that the config alone determines. Training checks that the devices divide the batch.

    Raises:
      ConfigError: names the field, the given value and the expected one.
    """
    leaves = flatten(config)
    own = own_systems(leaves)
    for key, choices in CHOICES.items():
        choices += own if key in ("system", "eval.system") else ()
        require(leaves[key] in choices, key, leaves[key], f"one of {', '.join(map(repr, choices))}")
    for key, value in leaves.items():
        if key.rpartition(".")[0] in FREE_SECTIONS:
            continue  # checked by the dataset
        if type(value) is int:
            lowest = 0 if key in MAY_BE_ZERO else 1
            require(value >= lowest, key, value, f"at least {lowest}")
        elif type(value) is float and key in ABOVE_ZERO:
            require(math.isfinite(value) and value > 0, key, value, "more than 0")
        elif type(value) is float:
            require(math.isfinite(value) and value >= 0, key, value, "at least 0")

    for key in ("model.num_slots", "eval.num_slots", *(f"{system}.num_slots" for system in own)):
        require(leaves[key] <= MAX_SLOTS, key, leaves[key], f"at most {MAX_SLOTS}")
    fraction = leaves["loss.observed_fraction"]
    require(0 < fraction <= 1, "loss.observed_fraction", fraction, "more than 0 and at most 1")
    start = leaves["model.posterior_start"]
    possible = start != "prior" or leaves["model.conditional_prior"]
    require(possible, "model.posterior_start", start, "'learned' or 'previous' without model.conditional_prior")
    predictor = leaves["eval.predictor"]
    possible = predictor in ("", "prior") or leaves["model.predictor"] == "motion"
    require(possible, "eval.predictor", predictor, "'' or 'prior' with a model without motion (--mode learn_motion)")
    _validate_system(leaves)
    stages = leaves["curriculum.stages"]
    good = all(type(stage) is tuple and len(stage) >= 3 and all(map(_is_count, stage[:3])) for stage in stages)
    require(good, "curriculum.stages", stages, "((num_frames, batch_size, num_steps), ...), all at least 1")
    for where, own in (("first", leaves["curriculum.first"]), *(("stages", stage[3:]) for stage in stages)):
        good = all(type(setting) is str and setting.startswith(OF_STAGES) for setting in own)
        require(good, f"curriculum.{where}", own, f"settings as 'key=value', each of {', '.join(OF_STAGES)}")
    lengths = leaves["eval.lengths"]
    good = len(lengths) > 0 and all(map(_is_count, lengths)) and list(lengths) == sorted(set(lengths))
    require(good, "eval.lengths", lengths, "increasing numbers of frames such as (10, 20)")


def own_systems(leaves: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the systems with their own config section, from flattened settings. Such a section has a `num_slots`."""
    sections = (key.rpartition(".")[0] for key in leaves if key.endswith(".num_slots"))
    return tuple(name for name in sections if name not in ("model", "eval", *FREE_SECTIONS))


def _validate_system(leaves: Mapping[str, Any]) -> None:
    """Check the settings of each system. IODINE is STII without a past and can be evaluated in two ways."""
    system, evaluated = leaves["system"], leaves["eval.system"] or leaves["system"]
    for key in ("model.conditional_prior", "model.conditional_decoder"):
        require(system != "iodine" or not leaves[key], key, leaves[key], "false with config.system=iodine")
    fraction = leaves["loss.observed_fraction"]
    require(system != "iodine" or fraction == 1, "loss.observed_fraction", fraction, "1 with config.system=iodine")
    for key in ("eval.schedule", "eval.first_noise"):
        require(system == "stii" or not leaves[key], key, leaves[key], f"'' with config.system={system}")
    refinements = leaves["eval.num_refinements"]
    possible = refinements == 0 or evaluated in ("stii", "iodine")
    require(possible, "eval.num_refinements", refinements, f"0 with {evaluated}, which does not use it")
    segmentation, made_of_stii = leaves["eval.segmentation"], system in ("stii", "iodine")
    require(segmentation == "masks" or made_of_stii, "eval.segmentation", segmentation, f"'masks' with {evaluated}")
    for key, usual in (("eval.restarts", 1), ("eval.reseeds", 0), ("eval.reseed_every", 1), ("eval.slot_cost", 0)):
        require(leaves[key] == usual or evaluated == "stii", key, leaves[key], f"{usual} with {evaluated}")
    every = leaves["eval.reseed_every"]
    require(every == 1 or leaves["eval.reseeds"] > 0, "eval.reseed_every", every, "1 with config.eval.reseeds=0")
    fits = evaluated == system or (system, evaluated) == ("iodine", "seq_iodine")
    require(fits, "eval.system", leaves["eval.system"], f"a way to evaluate config.system={system}")
    clamp = leaves["eval.clamp"]
    require(clamp == 0 or evaluated == "seq_iodine", "eval.clamp", clamp, "0 except for eval.system=seq_iodine")


def require(condition: bool, key: str, value: Any, expected: str) -> None:
    """Raise `ConfigError` unless the condition holds."""
    if not condition:
        raise ConfigError(complaint(key, value, expected))


def complaint(key: str, value: Any, expected: str) -> str:
    """Return the message about an invalid value."""
    return f"config.{key} is {value!r}, expected {expected}: change --config.{key}"


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1
