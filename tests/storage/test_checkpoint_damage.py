"""A damaged checkpoint is detected and replaced by the previous one."""

import json
import os
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import META, assert_same, make_params, make_state, restore, save

from stii_jax.storage.checkpoints import Checkpointer, DamagedCheckpointError, restore_params


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with checkpoints 1 and 2, which must not be changed."""
    folder = tmp_path_factory.mktemp("saved")
    save(folder, 1, 2)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    """A copy of `saved` to damage."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


# After an early failure of a read, tensorstore's other reads remain in an event loop that has been closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "damage",
    [
        lambda step: [path.unlink() for path in step.glob("params/**/d/*")],
        lambda step: [os.truncate(path, path.stat().st_size // 2) for path in step.glob("**/d/*")],
        lambda step: os.truncate(step / "params" / "manifest.ocdbt", 10),
        lambda step: os.truncate(step / "params" / "_METADATA", 10),
        lambda step: shutil.rmtree(step / "params"),
        lambda step: os.truncate(step / "meta" / "metadata", 3),
    ],
    ids=[
        "data gone",
        "data truncated",
        "manifest truncated",
        "metadata truncated",
        "item gone",
        "meta truncated",
    ],
)
def test_damaged_newest_gives_way_to_the_one_before(copy, damage):
    damage(copy / "2")
    with pytest.raises(DamagedCheckpointError, match=r"copy/2 is damaged \(.+\); resuming training falls back"):
        restore_params(copy)
    with pytest.raises(DamagedCheckpointError, match="copy/2 is damaged"):
        restore(copy, step=2)
    with pytest.warns(UserWarning, match=r"copy/2 is damaged .*falling back"):
        params, _, meta = restore(copy)
    assert_same(params, make_params(seed=1))
    assert meta["stage"] == 1
    assert sorted(path.name for path in copy.iterdir()) == ["1", "damaged_2_1"]
    checkpointer = Checkpointer(copy)
    checkpointer.save(2, make_params(seed=2), {"step": 0}, {})  # training reaches this step again
    checkpointer.close()
    assert_same(restore_params(copy)[0], make_params(seed=2))


def test_all_damaged(copy):
    for step in "12":
        shutil.rmtree(copy / step / "state")
    with (
        pytest.warns(UserWarning, match="copy/2"),
        pytest.raises(DamagedCheckpointError, match=r"copy/1 .*no other is left"),
    ):
        restore(copy)


@pytest.mark.parametrize("item", ["params", "state"])
def test_a_flipped_bit_in_a_large_array_is_noticed(tmp_path, item):
    """Orbax and tensorstore only have checksums for small arrays."""
    checkpointer = Checkpointer(tmp_path / "run")
    for step in (1, 2):
        noise = np.random.default_rng(step).integers(256, size=100_000, dtype=np.uint8)  # is not compressed
        checkpointer.save(step, {"w": jnp.asarray(noise)}, {"w": noise}, {})
    checkpointer.wait()
    path = max((tmp_path / "run" / "2" / item).rglob("d/*"), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    templates = {"w": jnp.asarray(noise)}, {"w": noise}
    with pytest.raises(DamagedCheckpointError, match=rf"run/2 is damaged \(ValueError: not what was saved: {item}/w\)"):
        checkpointer.restore(*templates, 2)
    if item == "params":
        with pytest.raises(DamagedCheckpointError, match="not what was saved: params/w"):
            restore_params(tmp_path / "run")
    with pytest.warns(UserWarning, match=r"run/2 is damaged .*falling back"):
        params, state, _ = checkpointer.restore(*templates)
    expected = np.random.default_rng(1).integers(256, size=100_000, dtype=np.uint8)
    np.testing.assert_array_equal(params["w"], expected)
    np.testing.assert_array_equal(state["w"], expected)
    checkpointer.close()


def test_changed_meta_is_noticed(copy):
    path = copy / "2" / "meta" / "metadata"
    path.write_text(path.read_text().replace('"num_slots": 5', '"num_slots": 4'))
    with pytest.raises(DamagedCheckpointError, match="meta: not what was saved"):
        restore_params(copy)


def test_a_checkpoint_from_before_there_were_digests(copy):
    for step in "12":
        shutil.rmtree(copy / step / "digests")
    with pytest.raises(DamagedCheckpointError, match="digests"):  # the metadata lists some
        restore_params(copy)
    for step in "12":
        path = copy / step / "meta" / "metadata"
        meta = json.loads(path.read_text())
        del meta["has_digests"]
        path.write_text(json.dumps(meta))
    params, _, meta = restore(copy)
    assert_same(params, make_params(seed=2))
    assert meta == META | {"stage": 2}
    assert_same(restore_params(copy)[0], make_params(seed=2))


@pytest.mark.parametrize("damage", ["changed", "cut"])
def test_a_damaged_score_does_not_count(tmp_path, damage):
    checkpointer = Checkpointer(tmp_path / "run")
    for step, score in ((1, 0.5), (2, 0.25)):
        checkpointer.save(step, make_params(seed=step), {"step": step}, {}, {"f_ari": score})
    checkpointer.close()
    path = tmp_path / "run" / "2" / "metrics" / "metrics"
    path.write_text('{"f_ari": 0.75}' if damage == "changed" else '{"f_')
    with pytest.warns(UserWarning, match=r"the score of .*run/2 is damaged .*copy the folder"):
        again = Checkpointer(tmp_path / "run")
    assert again.best_step() == 1
    with pytest.warns(UserWarning, match="the score of"):
        params, _, _ = again.restore(make_params(), {"step": 0})
    assert_same(params, make_params(seed=2))
    again.close()


def test_a_step_that_is_damaged_twice(copy):
    for number in (1, 2):
        os.truncate(copy / "2" / "meta" / "metadata", 3)
        with pytest.warns(UserWarning, match="falling back"):
            restore(copy)
        assert (copy / f"damaged_2_{number}").is_dir()
        checkpointer = Checkpointer(copy)
        checkpointer.save(2, make_params(seed=2), make_state(make_params(seed=2), 2), META | {"stage": 2})
        checkpointer.close()
