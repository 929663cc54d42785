"""Runs of several processes, started by `launch/local.sh`, equal a run of one process."""

import json
import shutil

import numpy as np
import pytest
from launching import bits_of, order_of
from toy import TIMES

from stii_jax.storage.checkpoints import restore_params
from stii_jax.storage.metric_log import read_metrics

pytestmark = pytest.mark.distributed

# Eight videos per step, for up to eight devices. Unlike Adam, SGD reveals a gradient that is n times too large.
RUN = {
    "batch_size": 8,
    "eval__batch_size": 8,
    "eval__periodic_videos": 8,
    "optim__name": "sgd",
    "optim__learning_rate": 1e-3,
    "train__num_steps": 8,
}


def numbers(workdir):
    return [{k: v for k, v in line.items() if k not in TIMES} for line in read_metrics(workdir / "metrics.jsonl")]


def assert_close(lines, expected):
    assert [line.keys() for line in lines] == [line.keys() for line in expected]
    for line, other in zip(lines, expected):
        for key, value in line.items():
            np.testing.assert_allclose(value, other[key], rtol=2e-4, atol=2e-5, err_msg=f"{key} at {line['step']}")


def scores(workdir, name="results.json"):
    results = json.loads((workdir / name).read_text())
    return [{k: v for k, v in of_length.items() if isinstance(v, float)} for of_length in results["lengths"]]


def train(launcher, folder, processes, *arguments, expect=0, environment=None, **changes):
    """Run training in `folder/run`; the batches of each process are written to `folder/order`."""
    order = folder / "order"
    order.mkdir(parents=True, exist_ok=True)
    environment = {"TOY_ORDER": str(order), **(environment or {})}
    return launcher.run(
        folder / "run", processes, *arguments, expect=expect, environment=environment, **(RUN | changes)
    )


@pytest.fixture(scope="module")
def alone(launcher, tmp_path_factory):
    """The run of one process with one device."""
    folder = tmp_path_factory.mktemp("alone")
    train(launcher, folder, 1, environment={"JAX_NUM_CPU_DEVICES": "1"})
    return folder


@pytest.mark.parametrize(("processes", "parallel"), [(2, "pmap"), (4, "pmap"), (2, "shard_map")])
def test_training_and_evaluation_are_those_of_one_process(launcher, alone, tmp_path, processes, parallel):
    output = train(launcher, tmp_path, processes, train__parallel=parallel)
    assert_close(numbers(tmp_path / "run"), numbers(alone / "run"))
    assert len(list((tmp_path / "order").iterdir())) == processes
    assert order_of(tmp_path / "order") == order_of(alone / "order")
    for of_length, expected in zip(scores(tmp_path / "run"), scores(alone / "run")):
        assert of_length == pytest.approx(expected, rel=2e-3, abs=2e-4)
    # Only process 0 prints and writes.
    assert output.count("pictures: ") == 1
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) <= 2  # of training, and of the final pictures
    made_by = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert (made_by["process_count"], made_by["device_count"]) == (processes, processes)


@pytest.mark.parametrize("mode", ["evaluate", "predict"])
def test_evaluation_of_one_checkpoint(launcher, alone, tmp_path, mode):
    name = {"evaluate": "results.json", "predict": "prediction.json"}[mode]
    found = []
    for processes in (1, 2):
        workdir = tmp_path / str(processes)
        shutil.copytree(alone / "run", workdir)
        launcher.run(workdir, processes, "--mode", mode, environment={"JAX_NUM_CPU_DEVICES": "1"}, **RUN)
        found.append(scores(workdir, name))
    for one, two in zip(*found, strict=True):
        assert len(one) > 5 and two == pytest.approx(one, rel=1e-6, abs=1e-7, nan_ok=True)


@pytest.fixture(scope="module")
def stopped_at_four(launcher, tmp_path_factory):
    """A run of four processes, stopped after half of its steps."""
    folder = tmp_path_factory.mktemp("four")
    train(launcher, folder, 4, train__num_steps=4)
    return folder


@pytest.mark.parametrize(("processes", "devices"), [(1, 1), (1, 2), (1, 8), (2, 1)])
def test_goes_on_with_another_number(launcher, alone, stopped_at_four, tmp_path, processes, devices):
    folder = tmp_path / "folder"
    shutil.copytree(stopped_at_four, folder)
    before = bits_of(restore_params(folder / "run" / "checkpoints", 4)[0])
    output = train(launcher, folder, processes, environment={"JAX_NUM_CPU_DEVICES": str(devices)})
    assert output.count("Resuming from the checkpoint of step 4") == 1
    assert order_of(folder / "order") == order_of(alone / "order")
    assert_close(numbers(folder / "run"), numbers(alone / "run"))
    made_by = json.loads((folder / "run" / "provenance.json").read_text())
    assert made_by["device_count"] == processes * devices
    if (folder / "run" / "checkpoints" / "4").exists():
        assert bits_of(restore_params(folder / "run" / "checkpoints", 4)[0]) == before


def test_invalid_runs_end_with_one_line(launcher, tmp_path):
    output = launcher.run(tmp_path / "a", 2, expect=1, **RUN | {"batch_size": 3})
    assert "error: batch_size=3 cannot be divided by the 2 devices" in output
    output = launcher.run(tmp_path / "b", 1, "--num_processes", "2", expect=1, **RUN)
    assert "error: give --coordinator_address, --process_id as well, or --distributed" in output
    output = launcher.run(tmp_path / "c", 1, "--distributed", expect=1, **RUN)
    assert "error: the processes of the run cannot connect (coordinator_address should be defined.)" in output
    output = launcher.run(tmp_path / "d", 2, "--mode", "disentangle", expect=1, **RUN)
    assert "--mode disentangle runs in a single process" in output
    assert not any((tmp_path / name).exists() for name in "abcd")
