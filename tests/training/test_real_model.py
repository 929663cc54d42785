"""Training the smallest real model, in a separate module because the tests beside it replace the model by a toy."""

import jax
import numpy as np
import pytest
from toy import make_config

from stii_jax.models.stii import STII
from stii_jax.runs.setup import load_dataset
from stii_jax.storage.metric_log import read_metrics
from stii_jax.training.loop import Trainer
from stii_jax.training.state import init_state

pytestmark = pytest.mark.usefixtures("quick_compiles")

NEVER = 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"model__detach_refiner_inputs": False}, {"preset": "provide"}],
    ids=["detached", "attached", "provide"],
)
def test_all_of_it_is_trained(tmp_path, changes):
    # With the default, which starts from the prior, the learned start is unused.
    learned = {"model__posterior_start": "learned"}
    config = make_config(tmp_path / "data", train__num_steps=4, train__eval_every=NEVER, **learned, **changes)
    source = load_dataset(config)
    trainer = Trainer(config, source, source, tmp_path / "run")
    assert type(trainer.model) is STII
    start = init_state(trainer.model, trainer.optimizer, config.seed).params
    params = trainer.run().params
    still = jax.tree.map(lambda a, b: bool((a == b).all()), params, start)
    assert [name for name, same in jax.tree_util.tree_leaves_with_path(still) if same] == []
    assert all(np.isfinite(line["loss"]) for line in read_metrics(tmp_path / "run" / "metrics.jsonl"))
