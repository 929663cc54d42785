"""The quarter of an hour on a GPU, rehearsed on a CPU with a tiny model."""

import importlib.util
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from stii_jax.config import stage_configs
from stii_jax.pretrained.trained import load

SCRIPT = Path(__file__).parents[1] / "launch" / "quarter_hour.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("quarter_hour", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_stages_are_those_of_the_config_with_larger_batches(script, tmp_path):
    plan = script.Plan(tmp_path, 480.0, 0.0, False)
    config, alone = plan.config(8), plan.config(1)
    for large, small in zip(script.stages_of(config), script.stages_of(alone), strict=True):
        assert (large[0], large[1], *large[2:]) == (small[0], 8 * small[1], *small[2:])
    assert config.model.compute_dtype == "bfloat16"
    assert (alone.optim.learning_rate, config.optim.learning_rate) == (0.001, 0.002)
    assert plan.config(2).optim.learning_rate == pytest.approx(0.001 * math.sqrt(2))
    toy = stage_configs(plan._replace(toy=True).config(8))
    assert [stage.data.options.image_size for stage in toy] == [16] * 4 + [32] * 2


def test_the_learning_rate_warms_up_and_ends_at_zero(script):
    rates = [script.learning_rate(progress, 0.1) for progress in (0.0, 0.05, 0.1, 0.55, 1.0)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0])


def test_a_folder_with_files_is_refused(script, tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        script.main(["--output", str(tmp_path)])
    assert "is not empty: give a new folder" in capsys.readouterr().err


def test_a_part_that_takes_too_long_is_stopped(script):
    started = time.time()
    with pytest.raises(RuntimeError, match="exit code -15"):
        script.in_process(time.sleep, 600, started)
    assert time.time() - started < 300


@pytest.mark.slow
def test_rehearsal(launcher, tmp_path):
    """All stages are trained, the parameters can be loaded, and both benchmarks list kernels."""
    output = tmp_path / "quarter"
    environment = launcher.environment(STII_DATA_DIR=str(tmp_path / "data"), JAX_NUM_CPU_DEVICES="1")
    command = [sys.executable, str(SCRIPT), "--output", str(output), "--toy", "--train_minutes=0.05", "--minutes=30"]
    subprocess.run(command, env=environment, check=True)
    summary = json.loads((output / "summary.json").read_text())
    parts = {name: part for name, part in summary.items() if isinstance(part, dict)}
    assert parts.keys() == {"training", "benchmark-paper", "benchmark-pyramid"}
    assert all(part["outcome"] == "done" for part in parts.values()), summary
    trained = load(str(output / "final.safetensors"))
    taken = trained.facts["steps_per_stage"]
    assert len(taken) == 6 and min(taken) >= 1 and sum(taken) == trained.step
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained.params))
    lines = [json.loads(line) for line in (output / "training.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == {1, 2, 3, 4, 5, 6}
    assert max(line["learning_rate"] for line in lines) <= 0.002
    for name in ("paper", "pyramid"):
        result = json.loads((output / f"benchmark-{name}.json").read_text())
        assert result["cells_per_second"] > 0 and result["matrix_share"] > 0 and len(result["top_kernels"]) == 5
