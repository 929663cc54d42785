"""Checkpoints of every released format are read back unchanged.

`files/checkpoint-v1` is a workdir's config and checkpoint after three steps. A training run of the smallest real model
made it before the first release. The same code recorded its digests and the loss of the next step.
"""

import hashlib
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from stii_jax.config import ConfigError, load_config
from stii_jax.main import run
from stii_jax.models.registry import make_model
from stii_jax.runs.setup import restore
from stii_jax.storage.checkpoints import Checkpointer, restore_params
from stii_jax.storage.metric_log import read_metrics
from stii_jax.training.optimizer import make_optimizer
from stii_jax.training.state import init_state, split_params

pytestmark = pytest.mark.usefixtures("quick_compiles")

FILES = Path(__file__).parents[1] / "files"
PARAMS = "7d585b2f3a91f509a689cc8d989db696"
STATE = "73d1dee6971bcdb9252eebbba4584d0e"
NEXT_LOSS = 22866.458984375


def digest(tree):
    """Return the digest of names, types, shapes and bytes."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found.update(f"{name} {array.dtype} {array.shape}\n".encode() + array.tobytes())
    return found.hexdigest()[:32]


@pytest.fixture
def workdir(tmp_path):
    """A copy, because opening a checkpoint folder for training may change it."""
    return Path(shutil.copytree(FILES / "checkpoint-v1", tmp_path / "run"))


def test_params_are_read_bit_for_bit(workdir):
    params, meta = restore_params(workdir / "checkpoints")
    assert digest(params) == PARAMS
    assert meta["step"] == 3 and meta["model"]["num_slots"] == 2
    assert digest(restore_params(workdir / "checkpoints", "best")[0]) == PARAMS


def test_the_training_state_is_read_bit_for_bit(workdir):
    config = load_config(workdir / "config.json")
    model, optimizer = make_model(config, 8), make_optimizer(**config.optim, num_steps=3)
    shapes = jax.eval_shape(lambda: init_state(model, optimizer, 0))
    checkpointer = Checkpointer(workdir / "checkpoints")
    params, state, meta = checkpointer.restore(*split_params(shapes))
    checkpointer.close()
    assert (digest(params), digest(state)) == (PARAMS, STATE)
    assert (state["step"], state["failed_step"], meta["curriculum"]["best_step"]) == (3, -1, 3)


def test_a_checkpoint_older_than_a_setting_is_of_the_settings_default(workdir):
    """It lacks `leave_one_out_masks`, which came later; only a value other than the default is another model."""
    assert "leave_one_out_masks" not in restore_params(workdir / "checkpoints")[1]["model"]
    trained = restore(load_config(workdir / "config.json"), workdir)
    assert digest(trained.params) == PARAMS and trained.config.model.leave_one_out_masks == "as_is"
    changed = load_config(str(workdir / "config.json"), ["model.leave_one_out_masks=renormalized"])
    with pytest.raises(ConfigError, match="leave_one_out_masks: saved 'as_is', given 'renormalized'"):
        restore(changed, workdir)


@pytest.mark.slow
def test_a_run_goes_on_from_it_by_its_json_config(workdir, tmp_path, capsys):
    changes = [f"data.data_dir={tmp_path / 'data'}", "train.num_steps=4", "train.eval_every=100"]
    run("train", str(FILES / "checkpoint-v1" / "config.json"), workdir, changes)
    assert "Resuming from the checkpoint of step 3" in capsys.readouterr().out
    (line,) = read_metrics(workdir / "metrics.jsonl")
    assert line["step"] == 4
    np.testing.assert_allclose(line["loss"], NEXT_LOSS, rtol=1e-3)
    assert digest(restore_params(workdir / "checkpoints", 3)[0]) == PARAMS
    assert (workdir / "results.json").exists()
