"""The lock files contain all requirements of pyproject.toml, with hashes and without addresses."""

import functools
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKS = {
    "requirements.lock": (),
    "launch/cuda.lock": ("cuda",),
    "launch/cuda12.lock": ("cuda12",),
    "launch/tpu.lock": ("tpu",),
    ".ci/dev.lock": ("dev", "test", "widgets", "notebooks", "browser", "docs"),
}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@functools.cache
def entries(file):
    """Return the requirements of a lock file and of those it includes, each with its hashes."""
    found = []
    for line in (ROOT / file).read_text().replace("\\\n", " ").splitlines():
        if included := re.fullmatch(r"-r (\S+)", line):
            found += entries((ROOT / file).parent.joinpath(included[1]).resolve().relative_to(ROOT))
        elif not line.startswith("#"):
            requirement, *hashes = re.split(r"\s+--hash=", line)
            found.append((Requirement(requirement), hashes))
    return found


def pinned(file, python, system):
    """Return versions by name, for one Python on one system."""
    machine = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": system}
    versions = {}
    for requirement, _ in entries(file):
        if requirement.marker is None or requirement.marker.evaluate(machine):
            (pin,) = requirement.specifier
            assert versions.setdefault(canonicalize_name(requirement.name), pin.version) == pin.version, requirement
    return versions


@pytest.mark.parametrize("file", LOCKS)
def test_every_package_has_one_version_and_its_hashes(file):
    for requirement, hashes in entries(file):
        assert [pin.operator for pin in requirement.specifier] == ["=="], requirement
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in hashes), requirement


@pytest.mark.parametrize("file", LOCKS)
def test_no_address_is_recorded(file):
    text = (ROOT / file).read_text()
    options = {line for line in text.splitlines() if line.startswith("-")}
    assert options == (set() if file == "requirements.lock" else {"-r ../requirements.lock"})
    for word in ("://", "file:", " @ ", "--index-url", "--extra-index-url", "--find-links", "--trusted-host"):
        assert word not in text, word


@pytest.mark.parametrize("system", ["linux", "darwin"])
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("file", LOCKS)
def test_what_pyproject_asks_for_is_locked_within_its_bounds(file, python, system):
    versions = pinned(file, python, system)
    wanted = [
        *PROJECT["dependencies"],
        *(line for name in LOCKS[file] for line in PROJECT["optional-dependencies"][name]),
    ]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if name != PROJECT["name"].replace("_", "-"):
            assert requirement.specifier.contains(versions[name]), f"{requirement}: {name} {versions.get(name)}"
    assert {"hatchling", "editables"} <= versions.keys()  # these build stii_jax itself


def test_the_range_of_pythons_is_stated_once():
    stated = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line}
    assert stated == set(PYTHONS)
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert f"Python {PYTHONS[0]} to {PYTHONS[-1]}" in (ROOT / "README.md").read_text()
