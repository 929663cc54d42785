"""The files around the code parse, and make true statements."""

import re
import shutil
import sys
import tomllib
import warnings
from fnmatch import fnmatch
from pathlib import Path

import pytest
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


def test_results_name_no_path_of_a_machine():
    files = [path for path in (ROOT / "results").rglob("*") if path.suffix in {".json", ".jsonl", ".md"}]
    found = {path.name for path in files if re.search(r"[\"'\s(=](?:/|~/|[A-Z]:\\)\w", path.read_text())}
    assert files and not found


def test_the_top_level_has_the_promised_names_alone():
    """The outputs of the README's commands are ignored."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert {name for name in found if not any(fnmatch(name, pattern) for pattern in ignored)} == PROMISED


def commands(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def test_the_workflow_runs_the_gate_and_the_default_tests_everywhere():
    jobs = read(".github/workflows/ci.yml")["jobs"]
    assert jobs.keys() == {"gate", "tests"}
    assert commands(jobs["gate"]) == [".ci/run"] and jobs["gate"]["timeout-minutes"] == 90
    assert commands(jobs["tests"]) == [".ci/test python3 ${{ matrix.releases }}"]
    matrix = jobs["tests"]["strategy"]["matrix"]
    assert matrix["python"] == supported_pythons() and len(matrix["os"]) == 2
    assert matrix["releases"] == ["lock", "newest"]
    assert matrix["include"] == [{"os": "ubuntu-latest", "python": supported_pythons()[0], "releases": "lowest"}]
    both = jobs["gate"]["steps"][1]["with"]["python-version"].split()
    assert both == [supported_pythons()[-1], supported_pythons()[0]]


def test_every_week_the_newest_releases_are_tried():
    workflow = read(".github/workflows/weekly.yml")
    jobs = workflow["jobs"]
    assert [line["cron"] for line in workflow[True]["schedule"]] == ["17 5 * * 1"]  # YAML reads the key `on` as true
    assert commands(jobs["newest"]) == [".ci/test python3 newest"]
    assert jobs["newest"]["strategy"]["matrix"]["python"] == supported_pythons()
    assert commands(jobs["prereleases"]) == [".ci/test python3 pre"]
    assert jobs["report"]["needs"] == "newest" and jobs["report"]["if"] == "failure()"


def test_the_gate_looks_for_every_supported_python():
    gate = (ROOT / ".ci" / "run").read_text()
    assert re.search(r"for version in ([\d. ]+);", gate)[1].split() == supported_pythons()[:0:-1]


def supported_pythons():
    """Return minor versions from the classifiers, the oldest first."""
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    return [line.rpartition(" ")[2] for line in classifiers if "Python :: 3." in line]


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
    for name in re.findall(r"`((?:stii_jax|tests|configs|colabs|launch)/[\w/]+\.(?:py|sh|md))`", text):
        assert any(ROOT.glob(name.replace("NAME", "[a-z]*"))), name
    markers = {line.partition(":")[0] for line in _markers()}
    assert (
        set(re.search(r"long ones are marked \(([^)]*)\)", text, re.IGNORECASE)[1].replace("`", "").split(", "))
        == markers
    )


def _markers():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]


@pytest.mark.parametrize("category", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
@pytest.mark.parametrize("module", ["stii_jax.training.step", "optax._src.linear_algebra"])
def test_a_call_that_a_library_deprecates_fails_its_test(category, module):
    """The warning may be attributed to our module or, by the library, to its own."""
    with pytest.raises(category, match="soon gone"):
        warnings.warn_explicit("soon gone", category, "a_file.py", 1, module)
