"""Sweeps: their runs, resuming, failures, and that no process outlives a stopped sweep.

Most tests replace `stii_jax.main` by a small script that writes the files of a workdir at once.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy import overrides

from stii_jax.report.entries import read_entry
from stii_jax.sweep import Job, Sweep, SweepError, Variant, main
from stii_jax.sweep.plan import is_done, load_sweep, plan
from stii_jax.sweep.runner import core_shares

ROOT = Path(__file__).resolve().parents[2]

FAKE = """
import json, os, sys, time
from pathlib import Path

arguments = [a for a in sys.argv[1:] if not a.startswith("--config.")]
given = dict(zip(arguments[::2], arguments[1::2]))
settings = dict(a.removeprefix("--config.").split("=", 1) for a in sys.argv[1:] if a.startswith("--config."))
workdir, mode = Path(given["--workdir"]), given.get("--mode", "train")
with (workdir.parents[1] / "calls.txt").open("a") as file:
    print(workdir.parent.name, workdir.name, mode, *os.sched_getaffinity(0), file=file)
if (workdir.parents[1] / f"break-{workdir.parent.name}").exists():
    sys.exit("line one\\nthe reason")
if (workdir.parents[1] / "hang").exists():
    (workdir / "pid").write_text(str(os.getpid()))
    while (workdir.parents[1] / "hang").exists():
        time.sleep(0.05)
score = {"num_frames": 10, "ari": 0.5, "f_ari": 0.6, "video_ari": 0.4, "video_f_ari": 0.5, "mse": 0.01, "num_videos": 4}
if mode == "train":
    (workdir / "checkpoints").mkdir(exist_ok=True)
    facts = {"dataset": "d/v", "seed": int(settings["seed"]), "commit": "c", "hardware": "h", "train_seconds": 1.0}
    (workdir / "config.json").write_text(json.dumps({"seed": int(settings["seed"])}))
    (workdir / "results.json").write_text(json.dumps({**facts, "lengths": [score]}))
if mode == "predict":
    (workdir / "prediction.json").write_text(json.dumps({"lengths": [{"num_frames": 3, "ari": 0.2}]}))
if mode == "evaluate":
    (workdir / "results.json").write_text(json.dumps({"other": "settings"}))
"""

SHIPPED = [path.stem for path in (ROOT / "configs" / "sweeps").glob("*.py")]
SWEEP = Sweep(
    config="quickstart",
    variants={
        "full": (),
        "few": ["model.num_refinements=2"],
        "own": Variant(["model.num_slots=4"], config="balls:color", after=[]),
    },
    after=[Job("predict", ["eval.predict_frames=3"])],
)


def write_sweep(folder, sweep, name="toy"):
    """Write a file whose sweep has the same `repr`."""
    path = folder / f"{name}.py"
    path.write_text(f"from stii_jax.sweep import *\n\n\ndef get_sweep():\n    return {sweep!r}\n")
    return path


@pytest.fixture
def sweep(tmp_path):
    """Run the command on a sweep; return the exit code."""
    program = (sys.executable, str(tmp_path / "fake.py"))
    (tmp_path / "fake.py").write_text(FAKE)
    (tmp_path / "out").mkdir()

    def run(*arguments, of=SWEEP):
        path = write_sweep(tmp_path, of)
        return main(["--sweep", str(path), "--output", str(tmp_path / "out"), *map(str, arguments)], program)

    return run


def calls(tmp_path):
    path = tmp_path / "out" / "calls.txt"
    return [tuple(line.split()[:3]) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("name", SHIPPED)
def test_every_variant_of_a_shipped_sweep_trains_in_its_own_way(name):
    """`plan` refuses settings that do not exist or do not go together."""
    runs = plan(*load_sweep(name), Path("out"), 2)
    ways = {(run.config, run.overrides) for run in runs}
    assert len(runs) == 2 * len(ways) > 2 and {run.seed for run in runs} == {0, 1}


def test_every_variant_of_a_seed_comes_before_the_next_seed():
    runs = plan("toy", SWEEP, Path("out"), 2)
    assert [(run.variant, run.seed, run.order) for run in runs] == [
        *(("full", 0, 0), ("few", 0, 1), ("own", 0, 2)),
        *(("full", 1, 0), ("few", 1, 1), ("own", 1, 2)),
    ]
    assert [(run.variant, run.seed) for run in plan("toy", SWEEP, Path("out"), 2, ["own"])] == [("own", 0), ("own", 1)]


def test_commands():
    few, own = plan("toy", SWEEP, Path("out"), 4, ["few", "own"])[-2:]
    assert few.commands(["main"]) == [
        [
            *("main", "--config", "quickstart", "--workdir", "out/few/seed3"),
            *("--config.seed=3", "--config.model.num_refinements=2"),
        ],
        ["main", "--workdir", "out/few/seed3", "--mode", "predict", "--config.eval.predict_frames=3"],
    ]
    assert own.commands(["main"]) == [
        [
            *("main", "--config", "balls:color", "--workdir", "out/own/seed3"),
            *("--config.seed=3", "--config.model.num_slots=4"),
        ]
    ]
    assert own.entry == Path("out/own-seed3.json")


def test_settings_for_every_run_come_last(sweep, tmp_path):
    _, few, own = plan("toy", SWEEP, Path("out"), 1, (), ["model.num_refinements=4"])
    assert few.commands(["main"])[0][-2:] == [f"--config.model.num_refinements={number}" for number in (2, 4)]
    assert own.overrides == ("model.num_slots=4", "model.num_refinements=4")
    with pytest.raises(SweepError, match="sets seed, which --seeds does"):
        plan("toy", SWEEP, Path("out"), 1, (), ["seed=1"])
    assert sweep("--seeds", 1, "--only", "few", "--config.eval.num_videos=7") == 0
    entry = read_entry(tmp_path / "out" / "few-seed0.json")
    assert entry["sweep"]["overrides"] == ["model.num_refinements=2", "eval.num_videos=7"]
    with pytest.raises(SystemExit):
        sweep("--seeds", 1, "--config.eval.num_videos")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": {"a/b": ()}}, "'a/b' of toy: expected a name of letters"),
        ({"variants": {"a-seed1": ()}}, "without '-seed'"),
        ({"variants": {"a": ["seed=1"]}}, "sets seed, which --seeds does"),
        ({"variants": {"a": ["model.num_slot=1"]}}, r"'a' of toy: no setting config\.model\.num_slot; nearest"),
        ({"config": "quikstart"}, "no config 'quikstart'; nearest: quickstart"),
        ({"after": [Job("predikt")]}, "mode 'predikt' of a further job, expected one of evaluate, predict"),
        ({"after": [Job("predict", ["eval.predict=3"])]}, r"no setting config\.eval\.predict; nearest"),
    ],
)
def test_a_sweep_that_cannot_work_is_refused(changes, message):
    with pytest.raises(SweepError, match=message) as caught:
        plan("toy", Sweep(**{"config": "quickstart", "variants": {"a": ()}, **changes}), Path("out"), 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("seeds", "only", "message"), [(0, [], "--seeds is 0"), (1, ["ful"], "'ful': the variants")])
def test_unknown_seeds_and_variants(seeds, only, message):
    with pytest.raises(SweepError, match=message):
        plan("toy", SWEEP, Path("out"), seeds, only)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (None, "no sweep '.*x.py': give --sweep one of .*sweeps"),
        ("1 / 0", "x.py: ZeroDivisionError: division by zero"),
        ("a = 1", "x.py: AttributeError: .*get_sweep"),
        ("def get_sweep():\n    return {}", r"get_sweep\(\) returned dict, expected stii_jax\.sweep\.Sweep"),
    ],
)
def test_a_file_that_is_no_sweep(tmp_path, code, message):
    path = tmp_path / "x.py"
    if code:
        path.write_text(code)
    with pytest.raises(SweepError, match=message):
        load_sweep(str(path))


def test_a_file_is_a_sweep(tmp_path):
    assert load_sweep(str(write_sweep(tmp_path, SWEEP))) == ("toy", SWEEP)


def test_each_run_leaves_its_entry(sweep, tmp_path, capsys):
    assert sweep("--seeds", 2) == 0
    done = [("full", "train"), ("full", "predict"), ("few", "train"), ("few", "predict"), ("own", "train")]
    assert calls(tmp_path) == [(name, seed, mode) for seed in ("seed0", "seed1") for name, mode in done]
    entry = read_entry(tmp_path / "out" / "few-seed1.json")
    assert (entry["name"], entry["seed"], entry["prediction"]) == ("toy-few", 1, [{"num_frames": 3, "ari": 0.2}])
    assert entry["sweep"] | {"after": None} == {
        **{"name": "toy", "variant": "few", "order": 1, "config": "quickstart"},
        **{"overrides": ["model.num_refinements=2"], "after": None},
    }
    assert entry["command"].startswith("python -m stii_jax.main --config quickstart --workdir runs/few --config.model")
    out = capsys.readouterr().out
    assert "6 of 6 runs to do" in out and "[6/6] own, seed 1" in out and "ari 0.5000" in out
    assert "| few | d/v | 10 | 2 | 0.5000 ± 0.0000 |" in out
    assert (tmp_path / "out/full/seed0/checkpoints").is_dir()


def test_finished_runs_are_left_alone_and_more_seeds_added(sweep, tmp_path):
    assert sweep("--seeds", 1, "--only", "full") == 0
    before = (tmp_path / "out/full-seed0.json").stat().st_mtime_ns
    assert sweep("--seeds", 2, "--only", "full") == 0
    assert calls(tmp_path) == [("full", seed, mode) for seed in ("seed0", "seed1") for mode in ("train", "predict")]
    assert (tmp_path / "out/full-seed0.json").stat().st_mtime_ns == before


def test_entries_of_other_settings_are_named(sweep, tmp_path, capsys):
    assert sweep("--seeds", 1) == 0
    made = len(calls(tmp_path))
    other = Sweep("quickstart", {**SWEEP.variants, "few": ["model.num_refinements=3"]}, SWEEP.after)
    assert sweep("--seeds", 1, of=other) == 2
    error = capsys.readouterr().err
    assert "few-seed0.json was made with overrides ['model.num_refinements=2'], and the sweep has" in error
    assert len(calls(tmp_path)) == made


def test_a_further_job_that_was_added_is_done(sweep, tmp_path):
    alone, more = (Sweep("quickstart", {"full": ()}, after) for after in ([], [Job("predict")]))
    for of in (alone, more, more, alone):
        assert sweep("--seeds", 1, of=of) == 0
    assert [mode for *_, mode in calls(tmp_path)] == ["train", "train", "predict"]  # training resumes where it ended
    assert "prediction" in read_entry(tmp_path / "out/full-seed0.json")


def test_without_checkpoints_no_further_job_can_be_done(sweep, tmp_path, capsys):
    alone, more = (Sweep("quickstart", {"full": ()}, after) for after in ([], [Job("predict")]))
    assert sweep("--seeds", 1, "--delete_checkpoints", of=alone) == 0
    assert not (tmp_path / "out/full/seed0/checkpoints").exists()
    assert sweep("--seeds", 1, of=alone) == 0
    assert sweep("--seeds", 1, of=more) == 2
    assert "full-seed0.json lacks further jobs of the sweep, and" in capsys.readouterr().err
    assert len(calls(tmp_path)) == 1


def test_a_failed_run_stops_no_other_and_is_tried_again(sweep, tmp_path, capsys):
    (tmp_path / "out/break-few").touch()
    assert sweep("--seeds", 1) == 1
    captured = capsys.readouterr()
    assert "few, seed 0" in captured.out and "FAILED: exit code 1, see" in captured.out
    assert "    the reason" in captured.out and "few seed 0; the same command retries them" in captured.err
    assert {path.name for path in (tmp_path / "out").glob("*.json")} == {"full-seed0.json", "own-seed0.json"}
    (tmp_path / "out/break-few").unlink()
    assert sweep("--seeds", 1) == 0
    assert [mode for name, _, mode in calls(tmp_path) if name == "few"] == ["train", "train", "predict"]
    assert [mode for name, _, mode in calls(tmp_path) if name == "full"] == ["train", "predict"]


def test_a_job_must_not_replace_the_scores(sweep, tmp_path, capsys):
    assert sweep("--seeds", 1, of=Sweep("quickstart", {"full": ()}, [Job("evaluate")])) == 1
    assert "replaced" in capsys.readouterr().out and not (tmp_path / "out/full-seed0.json").exists()


def test_list_runs_nothing(sweep, tmp_path, capsys):
    assert sweep("--seeds", 1, "--only", "full") == 0
    capsys.readouterr()
    assert sweep("--seeds", 1, "--list") == 0
    out = capsys.readouterr().out
    assert "full, seed 0: done" in out and "few, seed 0: to do\n    python -m stii_jax.main --config quick" in out
    assert {name for name, *_ in calls(tmp_path)} == {"full"}


def test_workers_share_the_cores(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(10, 15)))
    assert core_shares(2) == [{10, 11}, {12, 13}]
    assert core_shares(7) == [{10}, {11}, {12}, {13}, {14}, {10}, {11}]
    assert core_shares(1) == []
    monkeypatch.undo()
    mine = os.sched_getaffinity(0)
    assert sweep("--seeds", 2, "--workers", 2) == 0
    used = [set(map(int, line.split()[3:])) for line in (tmp_path / "out/calls.txt").read_text().splitlines()]
    assert len(used) == 10 and all(len(cores) == max(1, len(mine) // 2) and cores <= mine for cores in used)
    assert os.sched_getaffinity(0) == mine


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_runs_on_when_a_sweep_is_stopped(sweep, tmp_path, number):
    path, out = write_sweep(tmp_path, SWEEP), tmp_path / "out"
    (out / "hang").touch()
    program = (sys.executable, str(tmp_path / "fake.py"))
    # A shell that starts the tests in the background has them ignore SIGINT.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heed}; import sys; from stii_jax.sweep import main; sys.exit(main(sys.argv[1:], {program!r}))"
    arguments = ["--sweep", path, "--output", out, "--seeds", "1", "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    files = [out / name / "seed0" / "pid" for name in ("full", "few")]
    wait_for(lambda: all(file.exists() and file.read_text() for file in files))
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "the same command resumes the sweep" in errors, errors
    for file in files:
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)
    assert not list(out.glob("*.json")) and len(calls(tmp_path)) == 2


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_the_real_program(tmp_path, compiled, monkeypatch, capsys):
    """One variant with one seed is trained, evaluated and used to predict. When repeated, the sweep is done."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(compiled))
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    settings = overrides(tmp_path / "data", train__num_steps=4, eval__lengths=(2,))
    path = write_sweep(tmp_path, Sweep("default", {"tiny": settings}, [Job("predict")]))
    arguments = ["--sweep", str(path), "--output", str(tmp_path / "out"), "--seeds", "1"]
    assert main(arguments) == 0, capsys.readouterr().out
    entry = read_entry(tmp_path / "out/tiny-seed0.json")
    assert entry["scores"][0]["num_frames"] == 2 and entry["prediction"][0]["num_frames"] == 2
    assert [point["step"] for point in entry["curve"]] == [2, 4]
    (run,) = plan("toy", Sweep("default", {"tiny": settings}, [Job("predict")]), tmp_path / "out", 1)
    assert is_done(run)
    assert json.loads((run.workdir / "config.json").read_text())["model"]["num_slots"] == 2
