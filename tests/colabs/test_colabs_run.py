"""Every notebook runs in smoke mode, without errors, with its pictures and scores."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.notebooks

SLIDERS = """
def seen(**values):
    for name, value in values.items():
        globals()[name].value = value
    return screen.value


middle = seen(moved_by=0.0)
right, left = seen(moved_by=2.0), seen(moved_by=-2.0)
assert len({middle, right, left}) == 3, "the picture follows the slider"
assert seen(moved_by=0.0) == middle
assert seen(moved_by=2.0, dimension=(dimension.value + 1) % (last + 1)) not in (middle, right)
assert seen(slot=(slot.value + 1) % 3) not in (middle, right)
print("sliders work")
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory) -> Path:
    """The folder of Jupyter's files with one kernel, this interpreter."""
    folder = tmp_path_factory.mktemp("jupyter")
    path = folder / "kernels" / "python3" / "kernel.json"
    path.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    path.write_text(json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}))
    return folder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def execute(kernels, data_dir, compiled, tmp_path, monkeypatch):
    """Run a notebook, and more code after it; return the outputs of the cells by kind, each as text."""
    for name in [name for name in os.environ if name.startswith(("JAX_", "XLA_"))]:
        monkeypatch.delenv(name)
    settings = {
        "JUPYTER_PATH": kernels,
        "STII_SMOKE": "1",
        "STII_DATA_DIR": data_dir,
        "PYTHONPATH": ROOT,
        "JAX_PLATFORMS": "cpu",
    }
    settings |= {"JAX_COMPILATION_CACHE_DIR": compiled, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    settings |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2"}
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))

    def run(name, *more):
        import nbformat
        from nbclient import NotebookClient

        notebook = nbformat.read(ROOT / "colabs" / f"{name}.ipynb", 4)
        notebook.cells += [nbformat.v4.new_code_cell(code) for code in more]
        # A failing cell raises here, with the cell and its error.
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
        shown = {"text": [], "text/html": [], "text/markdown": [], "image/png": []}
        for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
            if output.output_type == "stream":
                shown["text"].append(output.text)
            for kind in shown.keys() & output.get("data", {}).keys():
                shown[kind].append(output.data[kind])
        text = "".join(shown["text"])
        assert "Traceback" not in text and not re.search(r"^error:", text, re.MULTILINE), text
        return shown

    return run


def test_quickstart(execute):
    shown = execute("quickstart")
    text = "".join(shown["text"])
    scores = re.findall(r"^(\d+) frames, 4 videos: .*\bf_ari -?[\d.]+ .*\bvideo_f_ari -?[\d.]+", text, re.MULTILINE)
    assert [*map(int, scores)] == [5, 10, 3, 5], "two lengths, then two of predicted frames"
    assert len(shown["image/png"]) == 4
    (watched,) = shown["text/html"]
    assert 'alt="curve.png"' in watched and 'alt="validation_0.gif"' in watched
    assert re.search(r"<pre>scores: .*results.json, pictures: .*media</pre>", watched), "what was printed last"


def test_explore(execute):
    shown = execute("explore", SLIDERS)
    text = "".join(shown["text"])
    assert "40 frames: ARI 0.9" in text, "scores that came with the model"
    assert re.search(r"^20 frames, 4 videos: .*\bf_ari 0\.[89]", text, re.MULTILINE), "the model has learned"
    assert "sliders work" in text
    (animation,) = shown["text/html"]
    assert len(shown["image/png"]) == 7 and "image/gif;base64," in animation


def test_own_video(execute):
    shown = execute("own_video")
    text = "".join(shown["text"])
    assert "one is made" in text and "{'train': ['made.mp4'], 'validation': ['made.mp4'], 'test': []}" in text
    assert "16 frames decomposed and 5 predicted" in text
    watched, video = shown["text/html"]
    assert 'alt="curve.png"' in watched and 'alt="validation_0.gif"' in watched
    assert "data:video/mp4;base64," in video
    assert len(shown["image/png"]) == 6, "the first frame, the model's view, three stills, the trajectories"


def test_paper(execute):
    shown = execute("paper")
    *own, measured = shown["text/markdown"]
    assert len(own) == 3 and all("ddpae" in table for table in own), "lengths, further evaluations, prediction"
    assert all(name in measured for name in ("stii", "iodine", "rnem", "ddpae"))
    assert len(shown["image/png"]) == 3
