"""Starting in seconds: heavy libraries that each command must not import, and the line it prints first.

Every command runs in its own process, which lists its imports at the end. Times are not asserted, because they depend
on the machine; docs/performance.md has them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stii_jax import __version__, main
from stii_jax.data import DATASETS, NEED_FILES
from stii_jax.devices import machine
from stii_jax.errors import PlatformError, UserError, check_platform

HEAVY = {
    *("jax", "flax", "optax", "orbax", "grain", "tensorflow_datasets", "array_record"),
    *("av", "h5py", "matplotlib", "sklearn", "scipy", "pandas", "tensorboardX"),
}
RUN = """
import atexit, json, os, runpy, sys

def tell():
    sys.stdout.flush()
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr, flush=True)

atexit.register(tell)
exit = os._exit
os._exit = lambda code: (tell(), exit(code))
exec(os.environ.get("BEFORE", ""))
command, *sys.argv[1:] = sys.argv[1:]
if command.startswith("import "):
    exec(command)
else:
    sys.argv[0] = command
    runpy.run_module(command, run_name="__main__", alter_sys=True)
"""
TRAIN = ("stii_jax.main", "--workdir", "RUN", "--config")


def start(*command, folder, before=""):
    """Return exit code, standard output, the last line of errors before the list of imports, and the heavy imports."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *(part.replace("RUN", str(folder / "run")) for part in command)],
        env=os.environ | {"BEFORE": before},
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        timeout=300,
    )
    *errors, imported = done.stderr.splitlines()
    return done.returncode, done.stdout, errors[-1] if errors else "", HEAVY & set(json.loads(imported))


@pytest.mark.parametrize(
    ("command", "allowed", "said"),
    [
        (["import stii_jax"], set(), ""),
        (["stii_jax.main", "--version"], set(), f"stii_jax {__version__}\n"),
        (["stii_jax.main", "--help"], set(), "Trained models: balls, general, quickstart, tabletop"),
        (["stii_jax.report", "--help"], set(), "usage: python -m stii_jax.report"),
        (["stii_jax.sweep", "--help"], set(), "usage: python -m stii_jax.sweep"),
        (["stii_jax.benchmark", "--help"], set(), "usage: python -m stii_jax.benchmark"),
        (["stii_jax.comparison", "--help"], set(), "usage: python -m stii_jax.comparison"),
        (["stii_jax.data.build", "--help"], set(), "one of: bouncing_balls, tabletop"),
        (["stii_jax.pretrained", "--help"], set(), "usage: python -m stii_jax.pretrained"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_help_imports_nothing_heavy(command, allowed, said, tmp_path):
    code, out, _, heavy = start(*command, folder=tmp_path)
    assert code == 0 and said in out
    assert heavy <= allowed


@pytest.mark.parametrize(
    ("command", "allowed", "line"),
    [
        (["stii_jax.main", "--mdoe", "train"], set(), "error: Unknown command line flag 'mdoe'. Did you mean: mode"),
        (["stii_jax.main", "--config", "quickstart"], set(), "error: give --workdir"),
        ([*TRAIN, "quikstart"], set(), "error: no config 'quikstart'; nearest: quickstart"),
        ([*TRAIN, "none.py"], set(), "error: no config 'none.py'"),
        (
            [*TRAIN, "quickstart", "--config.model.num_slot=3"],
            set(),
            "error: no setting config.model.num_slot; nearest",
        ),
        ([*TRAIN, "quickstart", "--config.model.num_slots=x"], set(), "error: config.model.num_slots is 'x', expected"),
        (["stii_jax.main", "--workdir", "RUN"], set(), "error: no run in "),
        (["stii_jax.main", "--mode=export", "--workdir=RUN"], set(), "error: give --output"),
        (
            ["stii_jax.main", "--mode=evaluate", "--model=balls", "--workdir=RUN", "--input=docs", "--tracks=LICENSE"],
            set(),
            "error: LICENSE, line 1 (header): no column for the frame",
        ),
        (
            ["stii_jax.main", "--mode=evaluate", "--model=quik", "--workdir=RUN"],
            set(),
            "error: no model",
        ),
        (
            [*TRAIN, "quickstart", "--config.data.options.num_ball=3"],
            {"tensorflow_datasets", "array_record"},
            "error: unknown option of mini 'num_ball'; did you mean 'num_balls'?",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors_are_reported_before_jax_is_imported(command, allowed, line, tmp_path):
    code, _, last, heavy = start(*command, folder=tmp_path)
    assert code == 1 and last.startswith(line)
    assert heavy <= allowed
    assert not (tmp_path / "run").exists()


def test_the_doctor_imports_jax_and_pyav_alone(tmp_path):
    code, out, _, heavy = start("stii_jax.main", "--mode", "doctor", folder=tmp_path)
    assert code == 0 and out.startswith(f"stii_jax {__version__}: checking this machine\nVersions\n")
    assert heavy == {"jax", "av"}


def test_no_mode_but_disentangle_imports_scikit_learn(tmp_path):
    """No mode may import matplotlib before it draws, or h5py except for the dataset that uses it."""
    heavy = start("import stii_jax.runs.modes, stii_jax.runs.setup, stii_jax.inference.decompose", folder=tmp_path)[3]
    assert heavy >= {"jax", "flax", "orbax"}
    assert not heavy & {"sklearn", "pandas", "matplotlib", "h5py", "tensorboardX"}


@pytest.mark.parametrize(("process", "says"), [((0, 2), True), ((1, 2), False)])
def test_the_first_line_comes_before_the_libraries_and_from_process_0(process, says, tmp_path):
    """A dataset that does not exist is noticed after the line, and before processes connect."""
    flags = ("--process_id", "--num_processes", "--coordinator_address")
    several = [f"{flag}={value}" for flag, value in zip(flags, (*process, "localhost:1"))]
    command = [*TRAIN, "small:rnem", "--config.data.dataset=none", *several]
    code, out, last, heavy = start(*command, folder=tmp_path)
    assert code == 1 and last.startswith("error: unknown dataset 'none'")
    assert out == f"stii_jax {__version__}: training small:rnem in {tmp_path}/run\n" * says
    assert "jax" not in heavy


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"mode": "train", "config_name": "quickstart", "workdir": "r"}, "training quickstart in r"),
        ({"mode": "train", "workdir": "r"}, "training the run in r"),
        ({"mode": "predict", "workdir": "r"}, "predicting with the run in r"),
        ({"mode": "evaluate", "workdir": "r", "model": "quickstart"}, "evaluating quickstart in r"),
        ({"mode": "decompose", "model": "quickstart", "source": "a.mp4"}, "decomposing a.mp4 with quickstart"),
        ({"mode": "decompose", "workdir": "r", "source": "a.mp4"}, "decomposing a.mp4 with the run in r"),
        ({"mode": "export", "workdir": "r"}, "exporting the run in r"),
        ({"mode": "doctor"}, "checking this machine"),
    ],
)
def test_first_lines(given, line):
    assert main.first_line(**given) == f"stii_jax {__version__}: {line}"


def test_datasets_that_need_files_are_listed():
    """The doctor reads the list, because importing the datasets takes seconds."""
    assert set(NEED_FILES) == {name for name, cls in DATASETS.items() if cls.MANUAL_DOWNLOAD_INSTRUCTIONS}


# Python's own modules must still see the real system: they lack Windows parts here.
WINDOWS = """
import types, stii_jax.errors

class Absent:
    def find_spec(self, name, *_):
        if name in ("fcntl", "resource"):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Absent())
for name in ("fcntl", "resource"):
    sys.modules.pop(name, None)
stii_jax.errors.sys = types.SimpleNamespace(**{**vars(sys), "platform": "win32"})
"""


@pytest.mark.parametrize(
    "command",
    [
        [*TRAIN, "quickstart"],
        ["stii_jax.main", "--mode", "doctor"],
        ["stii_jax.report"],
        ["stii_jax.sweep", "--sweep", "ablations", "--output", "RUN"],
        ["stii_jax.benchmark", "--config", "quickstart"],
        ["stii_jax.data.build", "--dataset", "tabletop", "--variant", "mini"],
        ["stii_jax.comparison", "--input", "a", "--tracks", "b", "--output", "RUN.json"],
        ["stii_jax.pretrained"],
    ],
    ids=" ".join,
)
def test_windows_users_are_pointed_to_wsl_in_one_line(command, tmp_path):
    code, _, last, _ = start(*command, folder=tmp_path, before=WINDOWS)
    assert code in (1, 2)
    assert last.startswith("error: stii_jax runs on Linux and macOS") and "wsl --install" in last


def test_other_systems_pass(monkeypatch):
    for platform in ("linux", "darwin"):
        monkeypatch.setattr(sys, "platform", platform)
        check_platform()
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(PlatformError) as caught:
        check_platform()
    assert isinstance(caught.value, UserError) and "\n" not in str(caught.value)


def test_a_machine_without_linux_only_interfaces(monkeypatch, tmp_path):
    """macOS has neither /proc nor affinities; `sysctl` gives its processor's name, and its peak memory is in bytes."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine.platform, "processor", lambda: "arm")
    on_linux = machine.peak_bytes()
    assert machine.cpu_name() == "arm" and machine.num_cores() == 7
    monkeypatch.setattr(sys, "platform", "darwin")
    asked = []
    answer = subprocess.CompletedProcess((), 0, "Apple M3\n")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: asked.append(command) or answer)
    assert machine.cpu_name() == "Apple M3" and asked == [["sysctl", "-n", "machdep.cpu.brand_string"]]
    assert on_linux == pytest.approx(1024 * machine.peak_bytes(), rel=0.1)
    for error in (ValueError("unrecognized configuration name"), OSError(22, "Invalid argument")):

        def refuse(_, error=error):
            raise error

        monkeypatch.setattr(os, "sysconf", refuse)
        assert machine.memory_bytes() is None
    monkeypatch.delattr(os, "sysconf")
    assert machine.memory_bytes() is None
