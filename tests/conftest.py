"""Setup for every test: shape checks, several devices, the sample files."""

import os
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

# Set before JAX looks for its devices, and before the package is imported.
jax.config.update("jax_num_cpu_devices", 4)
install_import_hook("stii_jax", "beartype.beartype")

import programs  # noqa: E402
from launching import Launcher  # noqa: E402  # what it imports is to be checked, too

ROOT = Path(__file__).resolve().parents[1]
COMPILED = pytest.StashKey[Path]()


def pytest_configure(config):
    """Let all test processes share compiled programs, and keep them for later sessions."""
    if given := getattr(config, "workerinput", {}).get("compiled"):
        folder = Path(given)
    else:
        cache = config.cache.mkdir("compiled") if hasattr(config, "cache") else Path(tempfile.mkdtemp())
        folder = programs.folder_of_this_machine(cache)
        programs.start(folder)
    programs.use(folder)
    config.stash[COMPILED] = folder


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Under pytest-xdist, each worker has its own temporary folders, but all share the compiled programs."""
    node.workerinput["compiled"] = str(node.config.stash[COMPILED])


def pytest_runtest_teardown(item, nextitem):
    """Release compiled programs before they fill the process's memory mappings.

    A slow test or a command of the documentation may compile many. Elsewhere, once per module is enough.
    """
    compiles_much = any(item.get_closest_marker(name) for name in ("slow", "docs"))
    if compiles_much or nextitem is None or nextitem.path != item.path:
        programs.release()


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        programs.finish(config.stash[COMPILED])


@pytest.fixture(scope="session")
def compiled(pytestconfig) -> Path:
    """The folder of compiled programs."""
    return pytestconfig.stash[COMPILED]


@pytest.fixture(scope="module")
def quick_compiles():
    """Have XLA optimise less, because these programs run for milliseconds."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def launcher(compiled, tmp_path_factory) -> Iterator[Launcher]:
    """A launcher of runs in separate processes; their dataset is built once per module."""
    launcher = Launcher(tmp_path_factory.mktemp("launched"), compiled)
    yield launcher
    launcher.stop()


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of real sample files: `$STII_SAMPLES`, or `../shared/data` beside the checkout."""
    folder = Path(os.environ.get("STII_SAMPLES") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no sample files: set STII_SAMPLES to their folder")
    return folder


@pytest.fixture
def marker(tmp_path):
    """A file that only exists if a payload has been executed."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "code was run"


@pytest.fixture
def payload(marker) -> bytes:
    """A pickle that runs code: loading it creates the marker."""

    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    data = pickle.dumps(Payload())
    pickle.loads(data)
    marker.rmdir()
    return data


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module that creates the marker when imported."""
    (tmp_path / "evil_module.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'marker')!r})\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "evil_module"
