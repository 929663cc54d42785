"""Checkpoints: exact, atomic, and clear about what is wrong with one."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from stii_jax import checkpoint as checkpoints
from stii_jax.checkpoint import Checkpointer, CheckpointError, DamagedCheckpointError, restore_params

META = {"model": {"num_slots": 5, "schedule": "triangular"}, "stage": 1, "stages": [[6, 16, 100]]}


def make_params(width: int = 8, seed: int = 0):
    rng = np.random.default_rng(seed)
    return {
        "encoder": {"kernel": jnp.asarray(rng.normal(size=(3, width)), jnp.float32)},
        "decoder": {"bias": jnp.asarray(rng.normal(size=width), jnp.bfloat16)},
    }


def make_state(params, step: int = 0):
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.constant_schedule(1e-3)))
    return {
        "optimiser": optimiser.init(params),
        "step": jnp.int32(step),
        "rng": jax.random.key(step),
        "best": 0.1 * step,
        "nothing": None,
    }


def assert_same(restored, expected):
    assert jax.tree.structure(restored) == jax.tree.structure(expected)
    for left, right in zip(jax.tree.leaves(restored), jax.tree.leaves(expected)):
        if hasattr(left, "dtype") and jnp.issubdtype(left.dtype, jax.dtypes.prng_key):
            left, right = jax.random.key_data(left), jax.random.key_data(right)
        assert np.asarray(left).dtype == np.asarray(right).dtype
        assert np.asarray(left).tobytes() == np.asarray(right).tobytes()


@pytest.fixture
def open_checkpointer(tmp_path):
    """Opens checkpointers on one folder, and closes them."""
    opened = []

    def open_one(**options) -> Checkpointer:
        opened.append(Checkpointer(tmp_path / "run", **options))
        return opened[-1]

    yield open_one
    for checkpointer in opened:
        checkpointer.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with checkpoints 1 and 2, not to be changed."""
    folder = tmp_path_factory.mktemp("saved")
    checkpointer = Checkpointer(folder)
    for step in (1, 2):
        params = make_params(seed=step)
        checkpointer.save(step, params, make_state(params, step), META | {"stage": step})
    checkpointer.close()
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    """A copy of `saved` to break."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def restore(folder, width: int = 8, step: int | None = None):
    checkpointer = Checkpointer(folder)
    try:
        params = make_params(width)
        return checkpointer.restore(params, make_state(params), step)
    finally:
        checkpointer.close()


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


def test_params_alone(copy):
    (copy / "3.orbax-checkpoint-tmp").mkdir()  # a training run's, just now
    before = sorted(copy.rglob("*"))
    params, meta = restore_params(copy)
    assert_same(params, make_params(seed=2))
    assert meta == META | {"stage": 2}
    assert_same(restore_params(copy, 1)[0], make_params(seed=1))
    assert sorted(copy.rglob("*")) == before, "reading changes nothing"


def test_what_was_saved_may_be_donated_or_changed_at_once(open_checkpointer):
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


@pytest.mark.parametrize("item", ["params", "state"])
def test_a_flipped_bit_in_a_large_array_is_noticed(open_checkpointer, tmp_path, item):
    """Orbax and tensorstore have a checksum of small arrays only."""
    checkpointer = open_checkpointer()
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
    with pytest.warns(UserWarning, match=r"run/2 is damaged .*going back"):
        params, state, _ = checkpointer.restore(*templates)
    expected = np.random.default_rng(1).integers(256, size=100_000, dtype=np.uint8)
    np.testing.assert_array_equal(params["w"], expected)
    np.testing.assert_array_equal(state["w"], expected)


def test_changed_meta_is_noticed(copy):
    path = copy / "2" / "meta" / "metadata"
    path.write_text(path.read_text().replace('"num_slots": 5', '"num_slots": 4'))
    with pytest.raises(DamagedCheckpointError, match="meta: not what was saved"):
        restore_params(copy)


def test_a_checkpoint_from_before_there_were_digests(copy):
    for step in "12":
        shutil.rmtree(copy / step / "digests")
    with pytest.raises(DamagedCheckpointError, match="digests"):  # meta says that there are some
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
def test_a_damaged_score_does_not_count(open_checkpointer, tmp_path, damage):
    checkpointer = open_checkpointer()
    for step, score in ((1, 0.5), (2, 0.25)):
        checkpointer.save(step, make_params(seed=step), {"step": step}, {}, {"f_ari": score})
    checkpointer.wait()
    path = tmp_path / "run" / "2" / "metrics" / "metrics"
    path.write_text('{"f_ari": 0.75}' if damage == "changed" else '{"f_')
    with pytest.warns(UserWarning, match=r"the score of .*run/2 is damaged .*copy the folder"):
        again = open_checkpointer()
    assert again.best_step() == 1
    with pytest.warns(UserWarning, match="the score of"):
        params, _, _ = again.restore(make_params(), {"step": 0})
    assert_same(params, make_params(seed=2))


def test_a_step_that_is_damaged_twice(copy):
    for number in (1, 2):
        os.truncate(copy / "2" / "meta" / "metadata", 3)
        with pytest.warns(UserWarning, match="going back"):
            restore(copy)
        assert (copy / f"damaged_2_{number}").is_dir()
        checkpointer = Checkpointer(copy)
        checkpointer.save(2, make_params(seed=2), make_state(make_params(seed=2), 2), META | {"stage": 2})
        checkpointer.close()


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


# A read that fails early leaves tensorstore's other reads to a loop that is closed by then.
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
    with pytest.raises(DamagedCheckpointError, match=r"copy/2 is damaged \(.+\)"):
        restore_params(copy)
    with pytest.raises(DamagedCheckpointError, match="copy/2 is damaged"):
        restore(copy, step=2)
    with pytest.warns(UserWarning, match=r"copy/2 is damaged .*going back"):
        params, _, meta = restore(copy)
    assert_same(params, make_params(seed=1))
    assert meta["stage"] == 1
    assert sorted(path.name for path in copy.iterdir()) == ["1", "damaged_2_1"]
    checkpointer = Checkpointer(copy)
    checkpointer.save(2, make_params(seed=2), {"step": 0}, {})  # training comes by again
    checkpointer.close()
    assert_same(restore_params(copy)[0], make_params(seed=2))


def test_all_damaged(copy):
    for step in "12":
        shutil.rmtree(copy / step / "state")
    with pytest.warns(UserWarning, match="copy/2"), pytest.raises(DamagedCheckpointError, match="copy/1"):
        restore(copy)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"cannot write checkpoints to .*file/run .*change --workdir"):
        Checkpointer(tmp_path / "file" / "run")


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
    checkpointer.save(2, params, {"step": 2}, {})  # there is space again
    checkpointer.wait()
    assert checkpointer.latest_step() == 2


KILLED = """
import sys, jax, jax.numpy as jnp
from stii_jax.checkpoint import Checkpointer
checkpointer = Checkpointer(sys.argv[1])
checkpointer.save(1, {"w": jnp.ones(8)}, {"step": 0}, {})
checkpointer.wait()
checkpointer.save(2, {"w": jax.random.normal(jax.random.key(0), (20_000_000,))}, {"step": 0}, {})
print("writing", flush=True)
checkpointer.wait()
print("written", flush=True)
"""


def test_kill_during_a_save_leaves_the_last_checkpoint(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "writing\n"
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
