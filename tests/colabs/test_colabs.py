"""The notebooks of colabs/: made from the files beside them, short cells, words before pictures, an installation."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "colabs"
NAMES = ("explore", "own_video", "paper", "quickstart")
MADE = "make it anew: jupytext --to ipynb --update colabs/*.py"
MOST_LINES = 15
SHOWS = re.compile(r"\b(show|play|watch|display|Image|VBox)\(")


def source_of(name):
    return jupytext.read(FOLDER / f"{name}.py")


def code_of(name):
    return [cell.source for cell in source_of(name).cells if cell.cell_type == "code"]


def contents(notebook):
    return [(cell.cell_type, cell.source, dict(cell.metadata)) for cell in notebook.cells]


def test_there_are_these_and_no_others():
    for suffix in (".py", ".ipynb"):
        assert sorted(path.stem for path in FOLDER.glob(f"*{suffix}")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_what_its_source_makes(name):
    source, notebook = source_of(name), nbformat.read(FOLDER / f"{name}.ipynb", 4)
    nbformat.validate(notebook)
    assert contents(notebook) == contents(source), MADE
    metadata = {key: value for key, value in notebook.metadata.items() if key != "jupytext"}
    assert metadata == {
        "accelerator": "GPU",
        "colab": {"gpuType": "T4", "provenance": []},
        "kernelspec": {"display_name": "Python 3", "name": "python3"},
    }
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code), MADE


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_short(name):
    lengths = [len([line for line in code.splitlines() if line.strip()]) for code in code_of(name)]
    assert max(lengths) <= MOST_LINES, code_of(name)[lengths.index(max(lengths))]


@pytest.mark.parametrize("name", NAMES)
def test_words_come_before_a_picture(name):
    cells = source_of(name).cells
    for before, cell in itertools.pairwise(cells):
        if cell.cell_type == "code" and SHOWS.search(cell.source):
            assert before.cell_type == "markdown" and before.source.rstrip().endswith("."), cell.source


@pytest.mark.parametrize("name", NAMES)
def test_one_cell_reads_the_smoke_mode(name):
    assert sum("STII_SMOKE" in code for code in code_of(name)) == 1


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """Runs the first cell where the package cannot be imported; returns what it gives pip."""
    calls = []

    def run(source="", folder=tmp_path, gpu=False):
        calls.clear()
        monkeypatch.chdir(folder)
        (cell,) = {code_of(name)[0] for name in NAMES}
        code = cell.replace('SOURCE = ""', f"SOURCE = {source!r}")
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "stii_jax", None)
            patch.setattr(sys, "path", list(sys.path))
            patch.setattr(subprocess, "run", lambda command, check: calls.append(command) or check)
            patch.setattr("shutil.which", lambda name: "/bin/nvidia-smi" if gpu else None)
            exec(code, {})
            found = sys.path[0]
        (command,) = calls
        assert command[:5] == [sys.executable, "-m", "pip", "install", "-q"]
        return command[5:], found

    return run


def test_a_checkout_is_installed_as_it_is(pip):
    arguments, first = pip(folder=FOLDER)
    assert arguments == ["-e", f"{ROOT}[notebooks]"] and first == str(ROOT)


def test_a_repository_or_a_wheel_is_installed_where_there_is_no_checkout(pip):
    assert pip("git+https://host/name")[0] == ["stii_jax[notebooks] @ git+https://host/name"]
    assert pip("git+https://host/name", gpu=True)[0] == ["stii_jax[notebooks,cuda12] @ git+https://host/name"]
    assert pip("/content/stii_jax.whl")[0] == ["/content/stii_jax.whl[notebooks]"]


def test_without_either_it_says_what_to_give(pip):
    with pytest.raises(SystemExit, match=r"^SOURCE is empty: give git\+https://\.\.\. of the repository, or the path"):
        pip()
