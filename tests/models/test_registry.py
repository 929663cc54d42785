"""Models of a config, as trained and as evaluated."""

import pytest
from toy import make_config

from stii_jax.models.registry import make_evaluated_model, make_model
from stii_jax.models.restarts import RestartedSTII
from stii_jax.models.stii import STII


def test_the_evaluated_model_has_the_slots_grid_and_noise_of_the_evaluation(tmp_path):
    changes = {"eval__num_slots": 7, "eval__schedule": "constant", "eval__first_noise": "mean"}
    changes |= {"eval__num_refinements": 3, "eval__restarts": 5, "eval__reseeds": 2, "eval__slot_cost": 9.0}
    usual, config = make_evaluated_model(make_config(tmp_path), 8), make_config(tmp_path, **changes)
    assert (usual.num_slots, usual.schedule(4), usual.first_noise) == (2, (2, 1, 1, 1), "fresh")
    model = make_evaluated_model(config, 8)
    assert (model.num_slots, model.schedule(4), model.first_noise) == (7, (3, 3, 3, 3), "mean")
    assert (usual.num_steps(4), model.num_steps(4)) == (5, 5 * 7 * 3 + 3 * 9)
    assert isinstance(model, RestartedSTII) and type(usual) is STII
    assert (model.restarts, model.reseeds, model.slot_cost) == (5, 2, 9)
    trained = make_model(config, 8)
    assert (trained.num_slots, trained.schedule(4), trained.first_noise) == (2, (2, 1, 1, 1), "fresh")


@pytest.mark.parametrize("changes", [{}, {"eval__restarts": 5}])
def test_responsibilities_are_for_the_evaluation_alone(tmp_path, changes):
    config = make_config(tmp_path, eval__segmentation="responsibilities", **changes)
    assert make_evaluated_model(config, 8).segmentation == "responsibilities"
    assert make_model(config, 8).segmentation == make_evaluated_model(make_config(tmp_path), 8).segmentation == "masks"
