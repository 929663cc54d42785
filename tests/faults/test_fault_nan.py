"""Whole runs that blow up: their messages, the files they leave, and that no process hangs."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy import make_config, overrides

from stii_jax.runs.setup import load_dataset
from stii_jax.storage.checkpoints import Checkpointer

TESTS = Path(__file__).resolve().parents[1]

REAL = """
import sys
from pathlib import Path
from stii_jax import main
from stii_jax.main import ERRORS
try:
    main.run("train", "default", Path(sys.argv[1]), sys.argv[2:])
except ERRORS as error:
    sys.exit(f"error: {error}")
"""

ONE_OF_TWO = """
import os, sys
from pathlib import Path
import jax
process, port = int(os.environ["PROCESS"]), os.environ["PORT"]
jax.distributed.initialize(f"localhost:{port}", 2, process)
import pytest
import test_nan_search, toy
from stii_jax.runs.setup import load_dataset
from stii_jax.training.loop import Trainer, TrainingError
patch = pytest.MonkeyPatch()
toy.use_toy_model(patch)
test_nan_search.poison(patch, clip=6, frame=1)
config = toy.make_config(Path(sys.argv[2]), train__parallel=sys.argv[3], train__eval_every=1000)
source = load_dataset(config)
try:
    Trainer(config, source, source, Path(sys.argv[1])).run()
except TrainingError as error:
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(1)  # a process that waits for the other at the end, as it does in a tidy exit, would hide that one's fault
"""


def start(script, *arguments, compiled, **environment):
    """Start a process that shares compiled programs with the next one."""
    environment |= {
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS, TESTS / "training", TESTS.parent))),
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.PIPE, text=True)


def end(process, timeout=500):
    """Return the last output of a process that ends with 1."""
    _, errors = process.communicate(timeout=timeout)
    assert process.returncode == 1, errors[-3000:]
    found = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert found, errors[-3000:]
    return found[-1]


@pytest.mark.faults
def test_a_learning_rate_that_is_far_too_high(tmp_path, compiled):
    """With the real model, the steps before the failed one are kept, and the message names the first failure."""
    settings = {"optim__learning_rate": 1e20, "optim__clip_norm": 1e6, "train__log_every": 1, "train__eval_every": 1000}
    settings |= {"train__checkpoint_every": 1, "optim__warmup_steps": 1}
    process = start(REAL, tmp_path / "run", *overrides(tmp_path / "data", **settings), compiled=compiled)
    message = end(process)
    # Warm-up: the first update is zero, the second throws the parameters far off, the third step fails.
    assert message.startswith("error: step 3: prior of frame t=0 is "), message
    assert "the last good checkpoint is step 2. Its batch is in" in message and "optim.learning_rate" in message
    assert Checkpointer(tmp_path / "run" / "checkpoints").latest_step() == 2
    with np.load(tmp_path / "run" / "failed_step_3.npz", allow_pickle=False) as saved:
        assert saved["video"].shape == (4, 2, 8, 8, 3) and saved["video"].dtype == np.uint8


@pytest.mark.faults
@pytest.mark.distributed
@pytest.mark.parametrize("parallel", ["pmap", "shard_map"])
def test_each_process_says_what_it_finds_in_its_part(tmp_path, compiled, parallel):
    """Clip 6 is video 2 of the second step, in the second process's half."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    arguments = (ONE_OF_TWO, tmp_path / "run", tmp_path / "data", parallel)
    load_dataset(make_config(tmp_path / "data"))
    common = {"PORT": port, "JAX_NUM_CPU_DEVICES": "1", "compiled": compiled}
    processes = [start(*arguments, PROCESS=str(process), **common) for process in range(2)]
    try:
        first, second = (end(process, timeout=300) for process in processes)
    finally:
        for process in processes:
            process.kill()
    assert "step 2: when repeated on this process's part of the batch" in first
    assert "step 2: input of frame t=1 is nan in video 2 of the batch" in second
    for process in range(2):
        with np.load(tmp_path / "run" / f"failed_step_2_process_{process}.npz", allow_pickle=False) as saved:
            assert saved["index"].tolist() == [2 * process, 2 * process + 1]
            assert np.isnan(saved["video"]).sum() == process
