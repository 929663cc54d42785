"""Warnings about possible but unwise training settings."""

import pytest
from toy import make_config

from stii_jax.models.registry import make_evaluated_model, make_model
from stii_jax.training.checks import untrained_frames
from stii_jax.training.curriculum import make_curriculum


@pytest.mark.parametrize(
    ("changes", "late"),
    [
        ({"data__num_frames": 1}, "no frame with 1 refinements, but frame 2 of"),
        ({"data__num_frames": 1, "curriculum__stages": ((2, 4, 5),)}, ""),
        ({"data__num_frames": 1, "eval__lengths": (1,)}, ""),
        ({"data__num_frames": 1, "model__schedule": "constant"}, ""),
        ({"data__num_frames": 1, "eval__schedule": "constant"}, ""),
        ({"data__num_frames": 1, "model__schedule": "paper"}, ""),
        ({"data__num_frames": 1, "model__schedule": "paper", "eval__schedule": "constant"}, "no frame with 2 refi"),
        ({"data__num_frames": 2, "model__num_refinements": 4}, "no frame with 2 refinements, but frame 3 of"),
    ],
)
def test_late_frames_that_training_never_has(tmp_path, changes, late):
    config = make_config(tmp_path, **changes)
    curriculum = make_curriculum(config)
    models = [make_model(config, 8)] * len(curriculum.stages)
    warning = untrained_frames(models, make_evaluated_model(config, 8), curriculum, config)
    assert (late in warning) if late else warning == ""
