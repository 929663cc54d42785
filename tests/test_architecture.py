"""Allowed imports, and the maximum length of a file."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "stii_jax"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# From the bottom up; a file imports from its own layer and those below.
LAYERS = [
    {"types", "errors", "lazy", "config", "storage", "devices"},
    {"data", "models"},
    {"evaluation", "visualization"},
    {"training", "inference", "analysis"},
    {"runs", "pretrained"},
    {"report", "benchmark", "sweep", "comparison"},
    {"command_line", "main", "__init__"},
]
# Libraries whose interface changes between releases, each with the one module that may import it. Breaking changes
# of a release are then fixed in one place.
UNSTABLE = {
    "array_record": "data/pipeline/tfds.py",
    "av": "data/video/pyav.py",
    "cv2": "comparison/detection.py",
    "grain": "data/pipeline/source.py",
    "orbax": "storage/checkpoints.py",
    "tensorflow_datasets": "data/pipeline/tfds.py",
    "trackeval": "evaluation/tracking_metrics.py",
    "trackpy": "comparison/linking.py",
}
NOT_FOR_MODELS = {"absl", "av", "grain", "matplotlib", "ml_collections", "optax", "orbax", "tensorboardX"}


def part_of(path):
    """Return `models` for stii_jax/models/stii.py, `types` for stii_jax/types.py."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@functools.cache
def imports_of(path):
    """Return every module that a file imports, including imports inside functions and in a `lazy.Table`.

    `from stii_jax import x` counts as stii_jax.x.
    """
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and re.fullmatch(r"stii_jax[\w.]*:\w+", str(node.value)):
            names.add(node.value.partition(":")[0])
    return frozenset(names)


def parts_imported(path):
    parts = {name.split(".")[1] for name in imports_of(path) if name.startswith("stii_jax.")}
    return {part for part in parts if (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file()}


def layer_of(part):
    return next((number for number, layer in enumerate(LAYERS) if part in layer), None)


def name(path):
    return str(path.relative_to(ROOT))


def uphill(part, imported):
    """Return the imported parts that lie above a part."""
    return {other for other in imported if layer_of(other) > layer_of(part)}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_point_downwards(path):
    part = part_of(path)
    assert layer_of(part) is not None, f"{name(path)}: give it a place in LAYERS"
    above = uphill(part, parts_imported(path))
    assert not above, f"{name(path)} imports {above}, which lie above it"


def test_an_import_that_points_upwards_is_noticed(tmp_path):
    file = tmp_path / "likelihood.py"
    file.write_text("from stii_jax import types\nfrom stii_jax.training.step import train_step\n")
    assert uphill("models", parts_imported(file)) == {"training"}


def test_no_two_parts_import_each_other():
    imported = {}
    for path in SOURCES:
        imported.setdefault(part_of(path), set()).update(parts_imported(path) - {part_of(path)})
    while free := {part for part, others in imported.items() if not others & set(imported)}:
        imported = {part: others for part, others in imported.items() if part not in free}
    assert not imported


@pytest.mark.parametrize("path", [path for path in SOURCES if part_of(path) == "models"], ids=name)
def test_models_know_nothing_of_data_and_files(path):
    """Only the registry knows configs."""
    assert parts_imported(path) <= {"models", "types"}
    configs = {"ml_collections"} if path.stem == "registry" else set()
    assert not {module.split(".")[0] for module in imports_of(path)} & (NOT_FOR_MODELS - configs)


@pytest.mark.parametrize(
    "file",
    ["models/losses", "models/likelihood", *(f"evaluation/{name}" for name in ("metrics", "velocities", "tracks"))],
)
def test_mathematics_knows_no_flax(file):
    path = PACKAGE / f"{file}.py"
    assert parts_imported(path) <= {"types", "models", "evaluation"}
    assert "flax" not in {module.split(".")[0] for module in imports_of(path)}


@pytest.mark.parametrize("library", UNSTABLE)
def test_one_module_imports_each_unstable_library(library):
    files = [*SOURCES, *(ROOT / "configs").rglob("*.py"), *(ROOT / "colabs").glob("*.py")]
    users = {name(path) for path in files if library in {module.split(".")[0] for module in imports_of(path)}}
    assert users == {f"stii_jax/{UNSTABLE[library]}"}


def test_data_knows_nothing_of_models():
    used = set().union(*(parts_imported(path) for path in SOURCES if part_of(path) == "data"))
    assert used <= {"data", "types", "errors", "lazy", "devices"}


@pytest.mark.parametrize("folder", ["stii_jax", "configs", "tests", "launch", "colabs"])
def test_no_file_is_too_long(folder):
    lengths = {name(path): len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert not {path: length for path, length in lengths.items() if length > 400}


def test_no_utils():
    assert not [name(path) for path in SOURCES if path.stem in ("utils", "util", "helpers", "misc", "common")]
