"""What surrounds the code: it parses, and says what is so."""

import re
import shutil
import sys
import tomllib
from pathlib import Path

import yaml

import stii_jax

ROOT = Path(__file__).resolve().parents[1]
PROMISED = {
    "LICENSE",
    "README.md",
    "colabs",
    "configs",
    "docs",
    "launch",
    "pyproject.toml",
    "requirements.lock",
    "results",
    "stii_jax",
    "tests",
}


def read(name):
    return yaml.safe_load((ROOT / name).read_text())


def test_the_top_level_has_the_promised_names_alone():
    ignored = {line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert {name for name in found - ignored if not name.endswith(".egg-info")} == PROMISED


def test_the_workflow_runs_the_gate_and_no_more():
    (job,) = read(".github/workflows/ci.yml")["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert job["timeout-minutes"] == 90


def test_issue_forms_have_questions():
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) >= 3
    for form in forms:
        content = yaml.safe_load(form.read_text())
        assert content["name"] and content["description"]
        assert all(part["attributes"]["label"] for part in content["body"])
        assert len({part["id"] for part in content["body"]}) == len(content["body"])


def test_the_citation_is_of_this_version():
    citation = read(".github/CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["license"] == "Apache-2.0"
    assert citation["version"] == stii_jax.__version__
    assert stii_jax.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    paper = citation["preferred-citation"]
    assert paper["year"] == 2021 and paper["authors"][0]["family-names"] == "Zablotskaia"


def test_hooks_are_the_commands_of_the_environment():
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    gate = (ROOT / ".ci" / "run").read_text()
    for hook in repository["hooks"]:
        program, *_ = hook["entry"].split()
        assert hook["language"] == "system" and f".venv/bin/{program}" in gate
        assert (Path(sys.executable).parent / program).exists() or shutil.which(program)


def test_contributing_is_short_and_names_what_there_is():
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
    assert len(text.splitlines()) <= 45
    text = " ".join(text.split())
    for link in re.findall(r"\]\((\.\./[^)]*)\)", text):
        assert (ROOT / ".github" / link).exists(), link
    for name in re.findall(r"`((?:stii_jax|tests|configs)/[\w/]+\.py)`", text.replace("NAME", "video_folder")):
        assert (ROOT / name).is_file(), name
    markers = {line.partition(":")[0] for line in _markers()}
    assert (
        set(re.search(r"long ones are marked \(([^)]*)\)", text, re.IGNORECASE)[1].replace("`", "").split(", "))
        == markers
    )


def _markers():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
