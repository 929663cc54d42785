"""The scripts for clusters, on a fake one: stand-ins for `srun` and `gcloud` start the given commands."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from launching import LAUNCH
from toy import overrides

from stii_jax.storage.metric_log import read_metrics

pytestmark = pytest.mark.distributed

# As Slurm does for two tasks on two nodes; both are this machine.
_SRUN = """#!/bin/bash
[[ $1 == --kill-on-bad-exit=1 ]] || exit 9
shift
export SLURM_JOB_ID=$$ SLURM_STEP_NODELIST=localhost,localhost SLURM_NTASKS=2 SLURM_STEP_NUM_NODES=2 SLURM_LOCALID=0
for task in 0 1; do SLURM_PROCID=$task "$@" & done
code=0
for task in 0 1; do wait -n || code=$?; done
exit $code
"""
_SAY = '#!/bin/bash\nprintf "%s\\n" "$0" "$@" >>"$SAID"\n'


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A folder that is searched for commands first; adds one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def add(name, script):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)

    return add


def settings(launcher):
    changes = {"train__num_steps": 4, "eval__periodic_videos": 0}
    return [f"--config.{override}" for override in overrides(launcher.folder / "data", **changes)]


def test_slurm(launcher, commands, tmp_path):
    commands("srun", _SRUN)
    arguments = ["--config", "default", "--workdir", str(tmp_path / "run"), *settings(launcher)]
    done = subprocess.run(
        [LAUNCH / "slurm.sh", *arguments], env=launcher.environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["step"] == 4
    made_by = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert (made_by["process_count"], made_by["device_count"]) == (2, 2)


@pytest.mark.parametrize(("code", "again"), [(143, True), (1, False), (0, False)])
def test_slurm_queues_a_preempted_job_again(commands, tmp_path, code, again):
    commands("srun", f"#!/bin/sh\nexit {code}\n")
    commands("scontrol", _SAY)
    environment = os.environ | {"SLURM_JOB_ID": "17", "SAID": str(tmp_path / "said")}
    assert subprocess.run([LAUNCH / "slurm.sh"], env=environment).returncode == code
    said = (tmp_path / "said").read_text().split()[1:] if (tmp_path / "said").exists() else []
    assert said == (["requeue", "17"] if again else [])


def test_tpu(commands, tmp_path):
    commands("gcloud", _SAY)
    environment = os.environ | {"TPU": "pod", "ZONE": "here", "SAID": str(tmp_path / "said")}
    arguments = ["--config", "balls:color", "--config.eval.lengths=(10, 20)"]
    subprocess.run([LAUNCH / "tpu.sh", *arguments], env=environment, check=True)
    *given, command = (tmp_path / "said").read_text().splitlines()[1:]
    assert given == ["compute", "tpus", "tpu-vm", "ssh", "pod", "--zone", "here", "--worker=all", "--command"]
    # On the TPU, a shell parses it.
    read = subprocess.run(
        ["bash", "-c", f"exec() {{ printf '%s\\n' \"$@\"; }}; cd() {{ :; }}; {command}"], capture_output=True
    )
    assert read.stdout.decode().splitlines() == [
        *(".venv/bin/python", "-m", "stii_jax.main", "--distributed"),
        *arguments,
    ]
    missing = subprocess.run([LAUNCH / "tpu.sh"], env=os.environ | {"ZONE": "here"}, capture_output=True, text=True)
    assert missing.returncode != 0 and "the name of the TPU VM" in missing.stderr


def test_kubernetes(launcher, commands, tmp_path):
    service, job = yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text())
    spec = job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"] == 2
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    # The pods' command, except for the parts to replace and the name of the first pod.
    (script,) = container["args"]
    first = f"{job['metadata']['name']}-0.{pod['subdomain']}:"
    assert first in script
    script = script.replace(first, "127.0.0.1:").replace("--config=balls:color", "--config=default")
    script = script.replace("/runs/balls", str(tmp_path / "run"))
    shutil.copy(launcher.python, tmp_path / "bin" / "python3")
    pods = [
        subprocess.Popen(
            [*container["command"], " ".join([script, *(f"'{setting}'" for setting in settings(launcher))])],
            env=launcher.environment(JOB_COMPLETION_INDEX=str(index)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(spec["completions"])
    ]
    for process in pods:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output[-3000:]
    made_by = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert made_by["process_count"] == 2


def test_scripts_are_shell():
    for script in Path(LAUNCH).glob("*.sh"):
        assert os.access(script, os.X_OK)
        subprocess.run(["bash", "-n", script], check=True)
