"""Who may import whom, and how long a file may be."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "stii_jax"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# From the bottom up; a file imports from its own layer and those below. The tools depend on no part of the project
# but types and each other.
LAYERS = [
    {"types"},
    {"models", "losses", "metrics", "motion", "data", "dataset", "regions"},
    {"state", "step", "train", "evaluate", "diagnose", "novelty", "recordings", "trajectories", "trust"},
    {"exports", "formats", "object_clips", "output_folder"},
    {"pretrained", "decompose", "outcome", "probes_samples", "slots", "traversal"},
    {"runs", "settings", "probes", "traversal_pictures"},
    {"modes", "doctor"},
    {"main", "benchmark", "report", "sweep"},
]
LAYERS[2] |= {"lengths", "reporter"}
TOOLS = {"checkpoint", "config", "curriculum", "digests", "optim", "parallel", "provenance", "visualize", "writers"}
TOOLS |= {"distributed", "preemption", "workdir", "notebook", "probes_figure", "errors", "lazy", "machine", "request"}
TOOLS |= {"progress"}
# Libraries whose interface changes between releases, and the one module of the package that may import each. What a
# release moves or renames is then mended in one place.
UNSTABLE = {
    "array_record": "data/tfds.py",
    "av": "data/pyav.py",
    "grain": "data/source.py",
    "orbax": "checkpoint.py",
    "tensorflow_datasets": "data/tfds.py",
}
NOT_FOR_MODELS = {"absl", "av", "grain", "matplotlib", "ml_collections", "optax", "orbax", "tensorboardX"}


def part_of(path):
    """`models` for stii_jax/models/stii.py, `types` for stii_jax/types.py."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@functools.cache
def imports_of(path):
    """Every module that a file imports, inside functions and in a `lazy.Table` too.

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


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_point_downwards(path):
    part = part_of(path)
    if part == "__init__":
        assert not parts_imported(path)
    elif part in TOOLS:
        above = parts_imported(path) - TOOLS - {"types"}
        assert not above, f"{name(path)} is a tool and imports {above}"
    else:
        number = layer_of(part)
        assert number is not None, f"{name(path)}: give it a place in LAYERS or TOOLS"
        above = {other for other in parts_imported(path) if (layer_of(other) or 0) > number}
        assert not above, f"{name(path)} imports {above}, which lie above it"


@pytest.mark.parametrize("path", [path for path in SOURCES if part_of(path) == "models"], ids=name)
def test_models_know_nothing_of_data_configs_and_files(path):
    assert parts_imported(path) <= {"models", "losses", "types"}
    assert not {module.split(".")[0] for module in imports_of(path)} & NOT_FOR_MODELS


@pytest.mark.parametrize("part", ["losses", "metrics", "motion"])
def test_mathematics_knows_no_flax(part):
    path = PACKAGE / f"{part}.py"
    assert parts_imported(path) <= {"types", "metrics"}
    assert "flax" not in {module.split(".")[0] for module in imports_of(path)}


@pytest.mark.parametrize("library", UNSTABLE)
def test_one_module_imports_each_unstable_library(library):
    files = [*SOURCES, *(ROOT / "configs").rglob("*.py"), *(ROOT / "colabs").glob("*.py")]
    users = {name(path) for path in files if library in {module.split(".")[0] for module in imports_of(path)}}
    assert users == {f"stii_jax/{UNSTABLE[library]}"}


def test_data_knows_nothing_of_models():
    used = set().union(*(parts_imported(path) for path in SOURCES if part_of(path) == "data"))
    assert used <= {"data", "types", "errors", "lazy", "machine"}


@pytest.mark.parametrize("folder", ["stii_jax", "configs", "tests", "launch", "colabs"])
def test_no_file_is_too_long(folder):
    lengths = {name(path): len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert not {path: length for path, length in lengths.items() if length > 400}


def test_no_utils():
    assert not [name(path) for path in SOURCES if path.stem in ("utils", "util", "helpers", "misc", "common")]
