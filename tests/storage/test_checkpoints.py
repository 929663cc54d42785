"""Checkpoints: exact, atomic, and with clear errors."""

import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import META, assert_same, make_params, make_state, restore, save
from jax.sharding import NamedSharding, PartitionSpec

from stii_jax.storage import checkpoints as checkpoints
from stii_jax.storage.checkpoints import Checkpointer, CheckpointError, restore_params


@pytest.fixture
def open_checkpointer(tmp_path):
    """Open checkpointers on one folder, and close them."""
    opened = []

    def open_one(**options) -> Checkpointer:
        opened.append(Checkpointer(tmp_path / "run", **options))
        return opened[-1]

    yield open_one
    for checkpointer in opened:
        checkpointer.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with checkpoints 1 and 2, which must not be changed."""
    folder = tmp_path_factory.mktemp("saved")
    save(folder, 1, 2)
    return folder


@pytest.mark.parametrize("step", [None, 1, 2])
def test_restores_bit_for_bit(saved, step):
    params, state, meta = restore(saved, step=step)
    expected = step or 2
    assert_same(params, make_params(seed=expected))
    assert_same(state, make_state(make_params(seed=expected), expected))
    assert meta == META | {"stage": expected}


def test_abstract_templates_will_do(saved):
    checkpointer = Checkpointer(saved)
    params = jax.eval_shape(make_params)
    state = jax.eval_shape(make_state, params) | {"best": 0.0}
    restored, _, _ = checkpointer.restore(params, state)
    checkpointer.close()
    assert_same(restored, make_params(seed=2))


def test_params_alone(saved, tmp_path):
    copy = Path(shutil.copytree(saved, tmp_path / "copy"))
    (copy / "3.orbax-checkpoint-tmp").mkdir()  # from a training run, just now
    before = sorted(copy.rglob("*"))
    params, meta = restore_params(copy)
    assert_same(params, make_params(seed=2))
    assert meta == META | {"stage": 2}
    assert_same(restore_params(copy, 1)[0], make_params(seed=1))
    assert sorted(copy.rglob("*")) == before, "reading changes nothing"


def test_saved_arrays_may_be_donated_or_changed_at_once(open_checkpointer):
    params = {"w": jnp.arange(1_000_000, dtype=jnp.float32)}
    state = {"w": np.arange(1_000_000)}
    change = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0 - 1, tree), donate_argnums=0)
    checkpointer = open_checkpointer()
    checkpointer.save(1, params, state, {})
    params = change(params)
    state["w"][:] = -1
    restored, restored_state, _ = checkpointer.restore(params, state)
    np.testing.assert_array_equal(restored["w"], np.arange(1_000_000, dtype=np.float32))
    np.testing.assert_array_equal(restored_state["w"], np.arange(1_000_000))


def test_keeps_the_latest_and_the_best(open_checkpointer, tmp_path):
    checkpointer = open_checkpointer()
    assert checkpointer.latest_step() is None and checkpointer.best_step() is None
    scores = {1: None, 2: 0.9, 3: None, 4: 0.5, 5: float("nan"), 6: None}
    for step, score in scores.items():
        metrics = None if score is None else {"f_ari": score, "ari": 1.0}
        checkpointer.save(step, make_params(seed=step), {"step": step}, {}, metrics)
    checkpointer.wait()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["2", "5", "6"]
    again = open_checkpointer()
    assert (again.latest_step(), again.best_step()) == (6, 2)
    assert_same(restore_params(tmp_path / "run", "best")[0], make_params(seed=2))


def test_another_number_of_devices(open_checkpointer):
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = NamedSharding(mesh, PartitionSpec("batch"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    params = {"w": jax.device_put(jnp.arange(8.0), everywhere)}
    state = {"w": jax.device_put(jnp.arange(8.0), spread)}
    checkpointer = open_checkpointer()
    checkpointer.save(1, params, state, {})
    on_one = jax.eval_shape(lambda: {"w": jnp.arange(8.0)})
    restored, restored_state, _ = checkpointer.restore(on_one, state)
    assert len(restored["w"].devices()) == 1
    assert restored_state["w"].sharding == spread
    np.testing.assert_array_equal(restored["w"], np.arange(8.0))
    np.testing.assert_array_equal(restored_state["w"], np.arange(8.0))


def test_nan_is_not_saved(open_checkpointer):
    checkpointer = open_checkpointer()
    checkpointer.save(1, make_params(), {"step": 0}, {})
    for bad in (jnp.nan, jnp.inf):
        params = make_params()
        params["decoder"]["bias"] = params["decoder"]["bias"].at[3].set(bad)
        with pytest.raises(CheckpointError, match="step 2 is not saved: NaN or Inf in decoder/bias"):
            checkpointer.save(2, params, {"step": 0}, {})
    checkpointer.wait()
    assert checkpointer.latest_step() == 1


def test_a_step_is_saved_once(open_checkpointer):
    checkpointer = open_checkpointer()
    checkpointer.save(1, make_params(), {"step": 0}, {})
    with pytest.raises(CheckpointError, match="already has step 1"):
        checkpointer.save(1, make_params(), {"step": 0}, {})


def test_another_model_is_refused(saved):
    with pytest.raises(CheckpointError, match=r"another model: params/decoder/bias is bfloat16\[8\], expected bf"):
        restore(saved, width=9)
    checkpointer = Checkpointer(saved)
    params = make_params()
    with pytest.raises(CheckpointError, match=r"state/extra is absent, expected float32\[2\]; use the config"):
        checkpointer.restore(params, make_state(params) | {"extra": jnp.zeros(2)})
    params["encoder"] = {"weights": params["encoder"]["kernel"]}
    with pytest.raises(CheckpointError, match=r"kernel is float32\[3,8\], expected absent"):
        checkpointer.restore(params, make_state(make_params()))
    checkpointer.close()


def test_another_format_is_refused(saved, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT_VERSION", 2)
    for read in (restore, restore_params):
        with pytest.raises(CheckpointError, match="has format 1, this stii_jax reads 2"):
            read(saved)


def test_missing_checkpoints(saved, tmp_path):
    for read in (lambda: restore(tmp_path), lambda: restore_params(tmp_path)):
        with pytest.raises(CheckpointError, match="no checkpoint in"):
            read()
    with pytest.raises(CheckpointError, match="there is no such folder"):
        restore_params(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="no best checkpoint"):
        restore_params(saved, "best")
    with pytest.raises(CheckpointError, match=r"no step 7 in .*: it has \[1, 2\]"):
        restore(saved, step=7)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"cannot write checkpoints to .*file/run .*change --workdir"):
        Checkpointer(tmp_path / "file" / "run")


def test_a_save_that_fails_beside_other_processes_names_both_causes(open_checkpointer, monkeypatch):
    """The connection to a process that has stopped breaks like any other write."""
    checkpointer = open_checkpointer()

    def save(*_, **__):
        raise ValueError("UNKNOWN: Gloo AllGather failed: Connection reset by peer")

    monkeypatch.setattr(checkpointer._manager, "save", save)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    expected = "Connection reset by peer.: if another process has stopped, restart all of them; otherwise free space"
    with pytest.raises(CheckpointError, match=expected):
        checkpointer.save(1, {"w": jnp.ones(3)}, {"step": 1}, {})


def test_a_full_disk_leaves_the_last_checkpoint(open_checkpointer, tmp_path):
    checkpointer = open_checkpointer(keep_latest=1)
    params = {"w": jax.random.normal(jax.random.key(0), (500_000,))}
    checkpointer.save(1, params, {"step": 1}, {})
    checkpointer.wait()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # fails writes as a full disk does
    try:
        with pytest.raises(CheckpointError, match=r"cannot write .*File too large\): free space"):
            checkpointer.save(2, params, {"step": 2}, {})
            checkpointer.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpointer.latest_step() == 1
    assert_same(restore_params(tmp_path / "run")[0], params)
    checkpointer.save(2, params, {"step": 2}, {})  # space is free again
    checkpointer.wait()
    assert checkpointer.latest_step() == 2


KILLED = """
import sys, jax, jax.numpy as jnp
from stii_jax.storage.checkpoints import Checkpointer
checkpointer = Checkpointer(sys.argv[1])
checkpointer.save(1, {"w": jnp.ones(8)}, {"step": 0}, {})
checkpointer.wait()
checkpointer.save(2, {"w": jax.random.normal(jax.random.key(0), (20_000_000,))}, {"step": 0}, {})
print("writing", flush=True)
checkpointer.wait()
print("written", flush=True)
"""


@pytest.mark.slow
def test_kill_during_a_save_leaves_the_last_checkpoint(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "writing\n"
    limit = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < limit:  # the folder is created in the background
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate(timeout=60)
    assert rest == "", "the save was over before the kill: make it larger"

    assert len(list(tmp_path.iterdir())) == 2, "something unfinished beside step 1"
    np.testing.assert_array_equal(restore_params(tmp_path)[0]["w"], np.ones(8))
    checkpointer = Checkpointer(tmp_path)
    assert checkpointer.latest_step() == 1
    checkpointer.save(2, {"w": jnp.zeros(8)}, {"step": 0}, {})
    checkpointer.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_saving_is_quiet(open_checkpointer, caplog, capfd):
    checkpointer = open_checkpointer()
    checkpointer.save(1, make_params(), {"step": 0}, {})
    checkpointer.wait()
    out, err = capfd.readouterr()
    assert out + err + caplog.text == ""
