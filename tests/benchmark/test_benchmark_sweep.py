"""Sweeps of the benchmark: their points, resuming, failed points, the table and the figure."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stii_jax.benchmark import main, pictures, sweep
from stii_jax.benchmark.points import FACTORS, Machine, plan
from stii_jax.benchmark.sweep import SweepError
from stii_jax.config import ConfigError, load_config
from stii_jax.models.schedule import refinement_schedule

TWO_CORES = Machine("cpu", 2, "a CPU, 2 cores", "abc")
SYSTEMS = ("balls:color", "balls:color,iodine")


def cells(point):
    kind = "constant" if "iodine" in point.config else "paper"
    return sum(refinement_schedule(point.values["frames"], point.values["refinements"], kind))


def measured_by_cells(point, steps, machine):
    """The cost of a step at one millisecond per cell and one megabyte per frame."""
    batch = point.values["batch"]
    seconds = 1e-3 * cells(point) * batch if steps else None
    return {
        "cells_per_step": cells(point) * batch,
        "batch_size": batch,
        "step_seconds": seconds,
        "seconds_per_cell": seconds and 1e-3,
        "compile_seconds": 7.0,
        "temporary_bytes_per_device": 1e6 * point.values["frames"],
        "peak_memory_bytes": 5e8,
    }


@pytest.fixture
def stub(monkeypatch):
    """Start no process and draw nothing; return the names of the measured points."""
    seen = []

    def measure(point, steps, machine):
        seen.append(sweep.name_of(point._asdict()))
        return measured_by_cells(point, steps, machine)

    monkeypatch.setattr(sweep, "measure", measure)
    monkeypatch.setattr(sweep, "describe_machine", lambda: TWO_CORES)
    monkeypatch.setattr(pictures, "figure", lambda points: f"{len(points)} points".encode())
    return seen


def test_points_change_one_factor_at_a_time():
    points = plan(SYSTEMS, "small", list(FACTORS), [], TWO_CORES)
    assert len({(point.config, point.overrides, str(point.values)) for point in points}) == len(points)
    for system in SYSTEMS:
        base, *others = [point for point in points if point.config == system]
        assert base.changed == "" and base.values["devices"] == 1
        for point in others:
            assert [name for name in FACTORS if point.values[name] != base.values[name]] == [point.changed]
        assert {point.values["frames"] for point in [base, *others]} == {4, 10, 20, 40}
        assert {point.values["devices"] for point in [base, *others]} == {1, 2}


def test_a_points_settings_are_its_values_and_the_users_own():
    points = plan(["balls:color"], "small", ["frames", "batch"], ["model.num_slots=3", "batch_size=6"], TWO_CORES)
    assert [(point.changed, point.values["batch"]) for point in points if point.changed in ("", "batch")] == [
        ("", 6),
        ("batch", 1),
        ("batch", 2),
        ("batch", 4),
    ]
    for point in points:
        config = load_config(point.config, point.overrides)
        assert (config.data.num_frames, config.batch_size) == (point.values["frames"], point.values["batch"])
        assert config.model.num_slots == 3


@pytest.mark.parametrize(
    ("machine", "base", "others"),
    [
        (Machine("gpu", 8, "", None), 1, [2, 4, 8]),
        (Machine("tpu", 4, "", None), 4, []),
        (Machine("cpu", 3, "", None), 1, [2]),
    ],
)
def test_numbers_of_devices(machine, base, others):
    points = plan(["balls:color"], "paper", ["devices"], [], machine)
    assert [point.values["devices"] for point in points] == [base, *others]


def test_only_what_divides_the_batch():
    points = plan(["balls:color"], "small", ["pieces", "devices"], ["batch_size=3"], TWO_CORES)
    assert [point.changed for point in points] == [""]
    with pytest.raises(ConfigError, match=r"batch_size=3 cannot .* train\.accumulation=2: change --config\.batch_size"):
        plan(["balls:color"], "small", [], ["batch_size=3", "train.accumulation=2"], TWO_CORES)


@pytest.mark.parametrize(
    ("backend", "visible", "expected"),
    [
        ("cpu", None, {"JAX_NUM_CPU_DEVICES": "2"}),
        ("gpu", None, {"CUDA_VISIBLE_DEVICES": "0,1"}),
        ("gpu", "5,2,7", {"CUDA_VISIBLE_DEVICES": "5,2"}),
        ("tpu", None, {}),
    ],
)
def test_a_process_sees_its_devices_alone(monkeypatch, backend, visible, expected):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/somewhere")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    started = {}

    def run(command, env, **_):
        started.update(env)
        return subprocess.CompletedProcess(command, 0, 'noise\n{"loss": 1}\n', "")

    monkeypatch.setattr(subprocess, "run", run)
    (point,) = plan(["balls:color"], "small", [], [], Machine("tpu", 2, "", None))
    assert sweep.measure(point, 1, Machine(backend, 4, "", None)) == {"loss": 1}
    assert expected.items() <= started.items() and "JAX_COMPILATION_CACHE_DIR" not in started


def sweep_command(output, *more):
    return ["--sweep", "--config", *SYSTEMS, "--factors", "frames", "refinements", "--output", str(output), *more]


def test_goes_on_where_it_was_stopped(stub, monkeypatch, tmp_path, capsys):
    output = tmp_path / "new" / "cost.json"
    good = sweep.measure

    def stopped_at_third(point, steps, machine):
        if len(stub) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return good(point, steps, machine)

    monkeypatch.setattr(sweep, "measure", stopped_at_third)
    with pytest.raises(SystemExit, match="stopped: the same command resumes the sweep"):
        main(sweep_command(output))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert len(json.loads(output.read_text())["points"]) == 2
    monkeypatch.setattr(sweep, "measure", good)
    capsys.readouterr()
    main(sweep_command(output))
    shown = capsys.readouterr().out
    assert shown.startswith("14 of 16 points to measure\n[1/14] balls:color, frames 20: 0.06 s per step, 20 MB, 7 s to")
    assert len(stub) == len(set(stub)) == 16
    main(sweep_command(output))
    assert len(stub) == 16  # every point is measured
    assert (tmp_path / "new" / "cost.md").read_text().count("\n") == 18
    points = json.loads(output.read_text())["points"]
    assert all(point["commit"] == "abc" for point in points)


def test_a_point_that_fails_is_tried_again(stub, monkeypatch, tmp_path, capsys):
    output, good = tmp_path / "cost.json", sweep.measure

    def no_memory(point, steps, machine):
        if point.values["frames"] == 40:
            raise SweepError("exit code -9: killed")
        return good(point, steps, machine)

    monkeypatch.setattr(sweep, "measure", no_memory)
    with pytest.raises(SystemExit, match="2 failed: balls:color, frames 40; balls:color,iodine, frames 40"):
        main(sweep_command(output))
    assert "| frames T = 40 |  |  |  |  |  | exit code -9: killed |" in output.with_suffix(".md").read_text()
    assert output.with_suffix(".png").read_text() == "16 points"
    monkeypatch.setattr(sweep, "measure", good)
    main(sweep_command(output))
    assert stub[-2:] == ["balls:color, frames 40", "balls:color,iodine, frames 40"] and len(stub) == 16


def test_only_compiled_points_are_measured_when_steps_are_asked_for(stub, tmp_path):
    output = tmp_path / "cost.json"
    main(sweep_command(output, "--steps", "0"))
    main(sweep_command(output, "--steps", "2"))
    assert len(stub) == 32
    main(sweep_command(output, "--steps", "0"))
    assert len(stub) == 32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"hardware": "other", "points": []}', "was measured on other, and this is a CPU, 2 cores: give another"),
        ('{"rows": []}', "is not the file of a sweep"),
        ("[1, 2", "is not the file of a sweep"),
    ],
)
def test_a_file_that_is_not_this_sweeps(stub, tmp_path, content, message):
    output = tmp_path / "cost.json"
    output.write_text(content)
    with pytest.raises(SystemExit, match=message):
        main(sweep_command(output))
    assert output.read_text() == content and not stub


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sweep"], "--output is None, expected a .json file"),
        (["--sweep", "--output", "cost"], "--output is cost, expected a .json file"),
        (["--steps", "-1"], "--steps is -1"),
        (["--config", "balls:color", "quickstart"], "--config has 2 names, expected one without --sweep"),
    ],
)
def test_commands_that_make_no_sense(capsys, arguments, message):
    with pytest.raises(SystemExit):
        main(["--config", "balls:color", *arguments])
    assert message in capsys.readouterr().err


def test_lines_are_in_proportion_to_cells():
    points = [
        point._asdict() | {"result": measured_by_cells(point, 1, TWO_CORES)}
        for point in plan(SYSTEMS, "small", list(FACTORS), [], TWO_CORES)
    ]
    stii, iodine = (pictures.curve(points, system, "frames") for system in SYSTEMS)
    assert [point["values"]["frames"] for point in stii] == [4, 10, 20, 40]
    # R = 6 and a batch of 2, a millisecond per cell: 14 cells, then 15 and one per frame; IODINE has six per frame.
    np.testing.assert_allclose(pictures.fit_time_per_cell(stii), 2e-3 * np.array([14, 20, 30, 50]))
    np.testing.assert_allclose(pictures.fit_time_per_cell(iodine), 2e-3 * np.array([24, 60, 120, 240]))


def test_a_figure_without_times_or_with_failures():
    points = plan(SYSTEMS, "small", ["frames", "devices"], [], TWO_CORES)
    compiled = [point._asdict() | {"result": measured_by_cells(point, 0, TWO_CORES)} for point in points]
    failed = points[0]._asdict() | {"error": "no memory"}
    for some in (compiled, [failed, *compiled[1:]], [failed]):
        image = Image.open(io.BytesIO(pictures.figure(some)))
        assert image.format == "PNG" and image.width > 300


@pytest.mark.slow
def test_a_real_point_of_every_kind(tmp_path):
    tiny = ["model.decoder_channels=4", "model.refiner_channels=4", "model.num_refinements=1", "data.num_frames=1"]
    tiny += ["data.options.image_size=8", "model.latent_dim=2", "model.hidden_dim=4", "model.num_slots=2"]
    command = [sys.executable, "-m", "stii_jax.benchmark", "--sweep", "--config", "balls:color", "--factors", "devices"]
    command += ["--steps", "1", "--output", str(tmp_path / "cost.json"), *(f"--config.{setting}" for setting in tiny)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    subprocess.run(command, env=environment, check=True, timeout=600)
    points = json.loads((tmp_path / "cost.json").read_text())["points"]
    assert [point["result"]["device_count"] for point in points] == [point["values"]["devices"] for point in points]
    assert all(point["result"]["step_seconds"] > 0 and point["result"]["cells_per_step"] == 2 for point in points)
