"""The notebooks of colabs/: in sync with their sources, short cells, prose before pictures, and installation."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "colabs"
NAMES = ("explore", "own_video", "paper", "quickstart")
MADE = "make it anew: jupytext --to ipynb --update colabs/*.py"
MOST_LINES = 15
SHOWS = re.compile(r"\b(show|play|watch|display|Image|VBox)\(")


def cells_of(name):
    """Return type and text of a notebook's cells. Jupyter's own reader takes seconds to import."""
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text())
    return [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]


def code_of(name):
    return [source for kind, source in cells_of(name) if kind == "code"]


def contents(notebook):
    return [(cell.cell_type, cell.source, dict(cell.metadata)) for cell in notebook.cells]


def test_the_notebooks_are_complete():
    for suffix in (".py", ".ipynb"):
        assert sorted(path.stem for path in FOLDER.glob(f"*{suffix}")) == sorted(NAMES)


@pytest.mark.notebooks
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_matches_its_source(name):
    import jupytext
    import nbformat

    source, notebook = jupytext.read(FOLDER / f"{name}.py"), nbformat.read(FOLDER / f"{name}.ipynb", 4)
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
    for (kind_before, before), (kind, source) in itertools.pairwise(cells_of(name)):
        if kind == "code" and SHOWS.search(source):
            assert kind_before == "markdown" and before.rstrip().endswith("."), source


@pytest.mark.parametrize("name", NAMES)
def test_one_cell_reads_the_smoke_mode(name):
    assert sum("STII_SMOKE" in code for code in code_of(name)) == 1


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """Run the first two cells without the package; return the arguments of each pip call, and the first import path."""

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


@pytest.fixture
def colab(monkeypatch):
    """Stand in for Colab's module; return the calls of its functions."""
    calls = []
    files = types.SimpleNamespace(download=lambda path: calls.append(("download", path)))
    drive = types.SimpleNamespace(mount=lambda path: calls.append(("mount", path)))
    module = types.SimpleNamespace(files=files, drive=drive)
    monkeypatch.setitem(sys.modules, "google", types.SimpleNamespace(colab=module))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    return calls


@pytest.mark.parametrize("name", [name for name in NAMES if "KEEP = False" in "".join(code_of(name))])
def test_runs_are_kept_on_drive_or_downloaded_if_asked(name, colab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keep, download = (
        next(code for code in code_of(name) if f"{word} = False" in code) for word in ("KEEP", "DOWNLOAD")
    )
    cells = {"Path": Path, "shutil": shutil}
    exec(keep + "\n" + download, cells)
    assert not colab
    variable = "RUN" if name == "quickstart" else "RUNS"
    local = cells[variable]
    exec(keep.replace("KEEP = False", "KEEP = True"), cells)
    assert colab == [("mount", "/content/drive")]
    assert cells[variable] == Path("/content/drive/MyDrive/stii_jax", local.name)
    local.mkdir(parents=True)
    (local / "config.json").write_text("{}")
    exec(download.replace("DOWNLOAD = False", "DOWNLOAD = True"), cells | {variable: local})
    archive = Path(colab[-1][1])
    shutil.rmtree(local)
    shutil.unpack_archive(f"{name}.zip", local)
    assert colab[-1][0] == "download" and archive == tmp_path / f"{name}.zip"
    assert (local / "config.json").read_text() == "{}"


@pytest.fixture
def preview(tmp_path, monkeypatch):
    """Run the cells of own_video that open and show a video; return the shown pictures and the cells' variables."""

    def run(path, **settings):
        shown = []
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("stii_jax.visualization.notebook.show", lambda *pictures: shown.extend(pictures))
        cells = {"Path": Path, "VIDEO": str(path), "CROP": (0, 0, 0, 0), "SQUARE": True, "EVERY": 1, **settings}
        for word in ("FOLDER = ", "ImageDraw.Draw", "draw_panels(rows)"):
            (code,) = (code for code in code_of("own_video") if word in code)
            exec(code, cells)
        return shown, cells

    return run


def draw_frames(folder, num_frames=30, size=(80, 60)):
    """Write the frames of a black video with a white square of 20 pixels from (40, 30) to (60, 50)."""
    frame = np.zeros((size[1], size[0], 3), np.uint8)
    frame[30:50, 40:60] = 255
    folder.mkdir(parents=True)
    for number in range(num_frames):
        Image.fromarray(frame).save(folder / f"{number}.png")
    return frame


def test_own_video_shows_the_part_that_the_model_will_see(preview, tmp_path):
    frame = draw_frames(tmp_path / "images")
    (whole, panels), cells = preview(tmp_path / "images", CROP=(40, 30, 20, 10))
    assert cells["HELD_OUT"] == cells["FOLDER"] == tmp_path / "images"
    orange = (whole == (255, 165, 0)).all(axis=-1)
    assert orange[30, 40:60].all() and orange[49, 40:60].all() and orange[30:50, 40].all() and orange[30:50, 59].all()
    assert (whole[~orange] == frame[~orange]).all() and orange.sum() == 4 * 19
    assert all((view[1:-1, 1:-1] == 255).all() for row in cells["rows"] for view in row.values()), "the square alone"
    assert [*cells["rows"][1]] == ["t=12", "t=14", "t=16", "t=18", "t=20", "t=22"] and panels.size


def test_own_video_links_a_file_and_leaves_it_alone(preview, tmp_path):
    from stii_jax.inference.outputs import VideoFile

    with VideoFile(tmp_path, fps=10.0, name="flies.mp4") as file:
        for _ in range(30):
            file.write(np.full((32, 48, 3), 128, np.uint8))
    before = (tmp_path / "flies.mp4").read_bytes()
    for _ in range(2):  # the cell is run twice
        (whole, _), cells = preview("flies.mp4", SQUARE=False)
    assert whole.shape == (32, 48, 3) and cells["recording"].box == (0, 0, 48, 32)
    assert cells["HELD_OUT"] == tmp_path / "runs/videos/flies/flies.mp4"
    assert (tmp_path / "flies.mp4").read_bytes() == before


def test_own_video_takes_a_folder_of_videos(preview, tmp_path):
    for number in range(3):
        draw_frames(tmp_path / "films" / f"film{number}")
    _, cells = preview(tmp_path / "films")
    assert [len(found) for found in cells["split"].values()] == [2, 1, 0]
    assert cells["HELD_OUT"].parent == tmp_path / "films"
