"""One training step is the same on any number of devices, by either way of mapping over them."""

import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from toy import ToyModel, compilations, make_config

from stii_jax.devices.parallel import AXIS, DeviceError, check_batch_size, data_parallel, use_all_cores
from stii_jax.models.registry import make_model
from stii_jax.models.video_model import example_keys
from stii_jax.training.optimizer import make_optimizer
from stii_jax.training.state import TrainState, init_state
from stii_jax.training.step import make_train_step, train_step

pytestmark = pytest.mark.usefixtures("quick_compiles")

WAYS = [("pmap", 2), ("pmap", 4), ("shard_map", 4)]
TRAINED = [pytest.param(*WAYS[0], marks=pytest.mark.slow), *WAYS[1:]]


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    segmentation = rng.integers(0, 3, (8, 2, 8, 8), dtype=np.uint8)
    segmentation[3] = 0  # no foreground: this video has no F-ARI
    return {"video": rng.integers(0, 256, (8, 2, 8, 8, 3), dtype=np.uint8), "segmentation": segmentation}


def sgd_steps(model, batch, kind, count, params=None, learning_rate=1e-3, accumulation=1):
    """Return state and logs after steps of SGD. Unlike Adam, it reveals a gradient that is n times too large."""
    settings = {"name": "sgd", "learning_rate": learning_rate, "warmup_steps": 0, "decay": "constant", "clip_norm": 1e6}
    optimizer = make_optimizer(**settings, num_steps=10)
    step = data_parallel(
        lambda state, batch, index: train_step(model, optimizer, 2, state, batch, index, accumulation),
        kind,
        shared_outputs=True,
        donate_first=True,
        devices=jax.devices()[:count],
    )
    params = model.init(jax.random.key(0)) if params is None else params
    state = TrainState(
        jnp.int32(0), jax.tree.map(jnp.copy, params), optimizer.init(params), jax.random.key(1), jnp.int32(-1)
    )
    for _ in range(2):
        state, logs = step(state, batch, np.arange(len(batch["video"])))
    return jax.device_get((state.params, state.step, logs))


def assert_close(left, right):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), left, right)


@pytest.fixture(scope="module")
def start():
    return jax.jit(ToyModel(8).init)(jax.random.key(0))


@pytest.fixture(scope="module")
def reference(batch, start):
    return sgd_steps(ToyModel(8), batch, "pmap", 1, start)


@pytest.mark.parametrize(("kind", "count"), TRAINED)
def test_training_is_the_same_on_any_devices(batch, start, reference, kind, count):
    assert_close(sgd_steps(ToyModel(8), batch, kind, count, start), reference)


@pytest.mark.parametrize("kind", ["pmap", "shard_map"])
def test_training_is_the_same_in_a_jax_without_pmap(monkeypatch, batch, start, reference, kind):
    monkeypatch.delattr(jax, "pmap")
    assert_close(sgd_steps(ToyModel(8), batch, kind, 4, start), reference)


@pytest.mark.parametrize(
    ("kind", "count", "pieces"), [pytest.param("pmap", 1, 4, marks=pytest.mark.slow), ("shard_map", 2, 2)]
)
def test_a_batch_in_pieces_is_the_same_batch(batch, start, reference, kind, count, pieces):
    assert_close(sgd_steps(ToyModel(8), batch, kind, count, start, accumulation=pieces), reference)


def test_steps_move_the_parameters_and_log_every_video(start, reference):
    params, step, logs = reference
    moved = {name: np.abs(params[name] - start[name]).max() for name in start}
    assert step == 2 and all(moved[name] > 0 for name in ("see", "remember", "guess", "draw"))
    terms = {"loss", "grad_norm", "log_likelihood", "kl", "mask_entropy", "mse", "plain_mse", "ari", "f_ari"}
    assert set(logs) == terms | {"slot_share_1", "slot_share_2"}
    assert all(np.isfinite(value) for value in logs.values())  # although one video has no F-ARI


@pytest.mark.slow
@pytest.mark.parametrize("detach", [True, False])
def test_the_real_model_trains_the_same_on_any_devices_and_in_pieces(tmp_path, batch, detach):
    config = make_config(tmp_path, model__num_refinements=1, model__detach_refiner_inputs=detach)
    model = make_model(config, 8)
    start = jax.jit(model.init)(jax.random.key(0))
    # Gradients of the ELBO are large: longer steps would make the network and its rounding errors blow up.
    ways = [("pmap", 1, 1), ("pmap", 4, 1), ("shard_map", 4, 1), ("pmap", 1, 4)]
    (params, _, logs), *others = [
        sgd_steps(model, batch, kind, count, start, learning_rate=1e-7, accumulation=pieces)
        for kind, count, pieces in ways
    ]
    for other_params, _, other_logs in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), other_logs, logs)
        for (path, origin), one, other in zip(
            jax.tree_util.tree_leaves_with_path(start), jax.tree.leaves(params), jax.tree.leaves(other_params)
        ):
            moved = np.abs(one - origin).max()
            assert np.abs(other - one).max() <= 1e-3 * moved, jax.tree_util.keystr(path)


@pytest.mark.slow
def test_pieces_need_less_memory_and_the_state_is_donated():
    model, settings = ToyModel(16), {"learning_rate": 1e-3, "warmup_steps": 0, "decay": "constant", "clip_norm": 5.0}
    optimizer = make_optimizer(name="adam", **settings, num_steps=10)
    state = init_state(model, optimizer, 0)
    batch = {"video": np.zeros((32, 1, 16, 16, 3), np.uint8), "segmentation": np.zeros((32, 1, 16, 16), np.uint8)}
    index = np.arange(32)
    steps = [make_train_step(model, optimizer, 2, "pmap", pieces) for pieces in (1, 8)]
    whole, pieces = (step.compiled(state, batch, index).memory_analysis() for step in steps)
    assert pieces.temp_size_in_bytes < 0.3 * whole.temp_size_in_bytes
    # The whole state except about five scalars, which XLA may leave out.
    size = sum(leaf.nbytes for leaf in jax.tree.leaves((state.params, state.optimizer)))
    assert whole.alias_size_in_bytes >= 0.99 * size and pieces.alias_size_in_bytes >= 0.99 * size
    state, _ = steps[1](state, batch, index)
    before = jax.tree.leaves(state.params)
    steps[1](state, batch, index)
    assert all(leaf.is_deleted() for leaf in before)


def test_noise_belongs_to_the_video():
    def draw(key, index):
        return jax.vmap(lambda k: jax.random.normal(k, (3,)))(example_keys(key, index))

    whole = jax.jit(draw)(jax.random.key(1), np.arange(8))
    assert len(np.unique(whole)) == whole.size
    for kind, count in WAYS:
        mapped = data_parallel(draw, kind, shared_outputs=False, devices=jax.devices()[:count])
        np.testing.assert_array_equal(mapped(jax.random.key(1), np.arange(8)), whole)


@pytest.mark.parametrize("kind", ["pmap", "shard_map"])
def test_compiles_once_although_its_output_comes_back_as_input(kind):
    def add_up(total, x):
        return total + lax.psum(x.sum(), AXIS)

    mapped = data_parallel(add_up, kind, shared_outputs=True, donate_first=True)
    total = mapped(jnp.float32(0), np.ones(8, np.float32))
    with compilations() as compiled:
        for _ in range(2):
            total = mapped(total, np.ones(8, np.float32))
    assert total == 24 and compiled == []


@pytest.mark.parametrize("kind", ["pmap", "shard_map"])
def test_per_example_outputs_keep_the_order_of_the_batch(kind):
    mapped = data_parallel(lambda scale, x, y: (scale * x, {"sum": x + y}), kind, shared_outputs=False)
    x, y = np.arange(16.0).reshape(8, 2), np.full((8, 2), 100.0)
    doubled, sums = mapped(jnp.float32(2), x, y)
    np.testing.assert_array_equal(doubled, 2 * x)
    np.testing.assert_array_equal(sums["sum"], x + y)


def test_a_batch_that_devices_cannot_share():
    check_batch_size(8, "batch_size")
    with pytest.raises(DeviceError) as caught:
        check_batch_size(6, "eval.batch_size")
    assert str(caught.value) == (
        "eval.batch_size=6 cannot be divided by the 4 devices: give a multiple, e.g. eval.batch_size=8, "
        "or fewer devices (on CPU: JAX_NUM_CPU_DEVICES=1)"
    )
    with pytest.raises(DeviceError, match=r"e\.g\. batch_size=4"):
        check_batch_size(1, "batch_size")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 2),
        ({"JAX_NUM_CPU_DEVICES": "3"}, None),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, None),
        ({"XLA_FLAGS": "--xla_cpu_enable_fast_math=false"}, 2),
    ],
)
def test_a_device_a_core_unless_the_user_says_otherwise(monkeypatch, given, expected):
    for name in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    updates = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(jax.config, "update", lambda *change: updates.append(change))
    use_all_cores([4, 2])
    assert updates == ([] if expected is None else [("jax_num_cpu_devices", expected)])


@pytest.mark.parametrize(
    ("batch_sizes", "cores", "expected"),
    [([32], 8, 8), ([6], 4, 3), ([6, 4, 2, 20], 16, 2), ([3], 2, 1), ([7], 8, 7), ([0], 4, 1)],
)
def test_devices_share_every_batch(monkeypatch, batch_sizes, cores, expected):
    for name in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    updates = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(jax.config, "update", lambda *change: updates.append(change))
    use_all_cores(batch_sizes)
    assert updates == [("jax_num_cpu_devices", expected)]


def test_devices_of_a_fresh_process():
    batch = math.factorial(len(os.sched_getaffinity(0)))
    code = (
        "import jax; from stii_jax.devices import parallel; "
        f"parallel.use_all_cores([{batch}]); print(jax.device_count())"
    )
    for given, expected in [({"JAX_NUM_CPU_DEVICES": "3"}, 3), ({}, len(os.sched_getaffinity(0)))]:
        environment = {k: v for k, v in os.environ.items() if k not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment | given, capture_output=True, text=True, check=True
        )
        assert int(done.stdout) == expected
