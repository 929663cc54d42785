"""Set up for every test: checked shapes, several devices, the sample files."""

import os
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

# Before jax looks for its devices, and before the package is imported.
jax.config.update("jax_num_cpu_devices", 4)
install_import_hook("stii_jax", "beartype.beartype")

import programs  # noqa: E402
from launching import Launcher  # noqa: E402  # what it imports is to be checked, too

ROOT = Path(__file__).resolve().parents[1]
COMPILED = pytest.StashKey[Path]()


def pytest_configure(config):
    """Let all processes of the tests share compiled programs, and later sessions have them, too."""
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
    """Pytest-xdist: each worker has temporary folders of its own, but the compiled programs of all."""
    node.workerinput["compiled"] = str(node.config.stash[COMPILED])


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        programs.finish(config.stash[COMPILED])


@pytest.fixture(scope="session")
def compiled(pytestconfig) -> Path:
    """Folder of compiled programs."""
    return pytestconfig.stash[COMPILED]


@pytest.fixture(scope="module")
def quick_compiles():
    """XLA spends less on programs that run for milliseconds."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def launcher(compiled, tmp_path_factory) -> Iterator[Launcher]:
    """Starts runs in processes of their own; their dataset is built once a module."""
    launcher = Launcher(tmp_path_factory.mktemp("launched"), compiled)
    yield launcher
    launcher.stop()


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of real sample files: `$STII_SAMPLES`, or `../shared/data` beside the checkout."""
    folder = Path(os.environ.get("STII_SAMPLES") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no sample files: set STII_SAMPLES to their folder")
    return folder


@pytest.fixture
def marker(tmp_path):
    """A file that is not there, unless a payload has been run."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "code was run"


@pytest.fixture
def payload(marker) -> bytes:
    """A pickle that runs code: whoever loads it makes the marker."""

    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    data = pickle.dumps(Payload())
    pickle.loads(data)
    marker.rmdir()
    return data


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module that makes the marker when it is imported."""
    (tmp_path / "evil_module.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'marker')!r})\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "evil_module"
