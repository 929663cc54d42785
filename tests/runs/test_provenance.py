"""Provenance covers this package's own checkout and nothing else."""

import json
import os
import subprocess

import jax
import pytest

import stii_jax
from stii_jax.runs import provenance as provenances
from stii_jax.runs.provenance import provenance


def git(folder, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder that takes the place of the package's parent."""
    (tmp_path / "home" / "stii_jax").mkdir(parents=True)
    monkeypatch.setattr(stii_jax, "__file__", str(tmp_path / "home" / "stii_jax" / "__init__.py"))
    return tmp_path / "home"


def commit_all(folder) -> str:
    git(folder, "init")
    (folder / "pyproject.toml").write_text("[project]\n")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    return git(folder, "rev-parse", "HEAD")


def test_is_json_and_names_what_matters():
    found = json.loads(json.dumps(provenance()))
    assert found["versions"]["jax"] == jax.__version__
    assert found["versions"]["stii_jax"] == stii_jax.__version__
    assert all(found["versions"].values())
    assert found["hardware"] == f"{found['cpu']}, {os.cpu_count()} cores"
    assert found["device_count"] == jax.device_count()
    assert found["device"] and found["cpu"] and found["cpu_cores"] >= 1


def test_own_checkout_clean_and_dirty(package, monkeypatch):
    commit = commit_all(package)
    assert (provenance()["commit"], provenance()["dirty"]) == (commit, False)
    (package / "runs").touch()  # files of a run do not change the code
    assert provenance()["dirty"] is False
    (package / "pyproject.toml").write_text("changed")
    assert provenance()["dirty"] is True
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert provenance()["commit"] == commit


def test_another_repository_is_not_ours(package, monkeypatch):
    commit_all(package.parent)  # the package is installed somewhere inside a repository
    monkeypatch.chdir(package.parent)
    assert provenance()["commit"] is None
    assert provenance()["dirty"] is None


def test_without_git(package, monkeypatch):
    commit_all(package)
    monkeypatch.setenv("PATH", "")
    assert provenance()["commit"] is None


def test_missing_package_has_no_version(monkeypatch):
    monkeypatch.setattr(provenances, "PACKAGES", ("not-a-package",))
    assert provenance()["versions"]["not-a-package"] is None
