"""The notebooks of colabs/: made from the files beside them, short cells, words before pictures, an installation."""

import itertools
import os
import re
import subprocess
import sys
import types
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
    """Run the first two cells without the package; return pip's arguments of each call, and the first import path."""

    def run(source="stii_jax", folder=tmp_path, gpu=False, fails=(), uploads=None):
        calls = []

        def install(command):
            assert command[:5] == [sys.executable, "-m", "pip", "install", "-q"]
            calls.append([part.replace(str(tmp_path), "HERE") for part in command[5:]])
            return subprocess.CompletedProcess(command, int(any(name in command[-1] for name in fails)))

        monkeypatch.chdir(folder)
        (cells,) = {"\n".join(code_of(name)[:2]) for name in NAMES}
        code = cells.replace('SOURCE = "stii_jax"  #', f"SOURCE = {source!r}  #")
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "stii_jax", None)
            if uploads is not None:
                colab = types.SimpleNamespace(files=types.SimpleNamespace(upload=lambda: uploads))
                patch.setitem(sys.modules, "google.colab", colab)
            patch.setattr(sys, "path", list(sys.path))
            patch.setattr(subprocess, "run", install)
            patch.setattr("shutil.which", lambda name: "/bin/nvidia-smi" if gpu else None)
            exec(code, {})
            return calls, sys.path[0]

    return run


def test_nothing_is_installed_where_the_package_is(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_: pytest.fail("pip was called"))
    exec("\n".join(code_of("explore")[:2]), {})


def test_a_checkout_is_installed_as_it_is(pip):
    assert pip(folder=FOLDER) == ([["-e", f"{ROOT}[widgets]"]], str(ROOT))


def test_the_published_package_is_the_default(pip):
    assert pip()[0] == [["stii_jax[widgets]"]]
    assert pip(gpu=True)[0] == [["stii_jax[widgets,cuda12]"]]


def test_the_address_of_a_fork_comes_before_all_else(pip, tmp_path):
    (tmp_path / "stii_jax.zip").touch()
    assert pip("git+https://host/name")[0] == [["stii_jax[widgets] @ git+https://host/name"]]
    assert pip("git+https://host/name", folder=FOLDER)[0] == [["stii_jax[widgets] @ git+https://host/name"]]


def test_the_newest_wheel_or_zip_in_the_folder_is_installed(pip, tmp_path):
    for age, name in enumerate(("stii-jax-main.zip", "stii_jax-0.1.0-py3-none-any.whl", "stii_jax.zip", "notes.zip")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    assert pip()[0] == [["HERE/stii-jax-main.zip[widgets]"]]
    (tmp_path / "stii-jax-main.zip").unlink()
    assert pip()[0] == [["HERE/stii_jax-0.1.0-py3-none-any.whl[widgets]"]]


def test_colab_asks_for_a_file_where_pip_finds_nothing(pip):
    calls, _ = pip(fails=["stii_jax[widgets]"], uploads={"stii_jax-0.1.0-py3-none-any.whl": b""})
    assert calls == [["stii_jax[widgets]"], ["HERE/stii_jax-0.1.0-py3-none-any.whl[widgets]"]]


@pytest.mark.parametrize("uploads", [None, {}, {"notes.txt": b""}], ids=["no Colab", "cancelled", "another file"])
def test_a_failure_names_what_pip_was_given(pip, uploads):
    with pytest.raises(SystemExit, match=r"^pip cannot install stii_jax: its message is above\. "):
        pip(fails=["stii_jax[widgets]", "notes"], uploads=uploads)
