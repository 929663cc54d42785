"""Checks of a run before anything is built."""

import pytest

from stii_jax.config import ConfigError, load_config
from stii_jax.runs import setup

BUDGET = "loss.refinement_weights=budget"
SIZES = ("batch_size=8", "curriculum.stages=()")  # for any number of test devices


@pytest.mark.parametrize(
    ("name", "settings", "cure"),
    [
        ("small", (), "model.schedule=paper --config.model.num_refinements=4 .the same refinements., or .*=frame$"),
        ("small", ("model.schedule=constant",), "some frames have 4 decodes: give --config.loss.refinement_weights=fr"),
        ("small:iodine", (), "config.system=iodine .* have 4 decodes: give --config.loss.refinement_weights=frame$"),
        ("small", ("model.schedule=paper", "model.num_refinements=1"), "r/1, .* some frames have 2 decodes: give --co"),
    ],
)
def test_budget_weights_above_one_are_refused_in_training(name, settings, cure):
    config = load_config(name, [*SIZES, BUDGET, *settings])
    with pytest.raises(ConfigError, match=cure) as caught:
        setup.check(config, "train")
    assert "\n" not in str(caught.value)
    setup.check(config, "evaluate")  # an earlier run remains usable


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("small", ("model.schedule=paper", "model.num_refinements=4", BUDGET)),
        ("balls:color,provide", ()),
        ("small:rnem", (BUDGET,)),
        ("small", ()),
    ],
)
def test_budget_weights_that_end_at_one_are_accepted(name, settings):
    setup.check(load_config(name, [*SIZES, *settings]), "train")
