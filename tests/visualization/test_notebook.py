"""A notebook's display of a training process, which ends with the cell, and its displayed pictures."""

import base64
import io
import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

from stii_jax.visualization import notebook

WRITES = """
import json, sys
from pathlib import Path

folder = Path(sys.argv[1])
lines = [{"step": step, "time": step / 10, "loss": 9.0 - step, "ari": 0.5, "f_ari": 0.6} for step in (1, 2, 3)]
(folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\\n" for line in lines))
(folder / "media").mkdir(exist_ok=True)
(folder / "media" / "validation_0.gif").write_bytes(b"GIF89a of this run")
print("first", "1/3\\r2/3\\r3/3 <done>", sep="\\n")
"""
FAILS = "print('a traceback'); raise SystemExit('error: no such config')"
WAITS = """
import signal, sys, time
from pathlib import Path

def save(*_):
    Path(sys.argv[1], "saved").touch()
    raise SystemExit(143)

signal.signal(signal.SIGTERM, save)
Path(sys.argv[1], "ready").touch()
time.sleep(60)
"""


class Screen:
    """A stand-in for a cell's output that keeps everything shown there."""

    def __init__(self):
        self.shown = []

    def display(self, item, display_id=False):
        self.shown.append(item)
        return self

    def update(self, item):
        self.shown.append(item)


@pytest.fixture
def screen(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(notebook, "display", screen.display)
    return screen


def watch(code, folder, seconds=5.0):
    notebook.watch([sys.executable, "-c", code, str(folder)], folder, seconds)


def test_the_last_view_has_the_progress_the_curve_and_the_segmentation(screen, tmp_path):
    folder = tmp_path / "new" / "run"
    watch(WRITES, folder)
    last = screen.shown[-1].data
    text = last.partition("<img")[0]  # the rest is base64, which may contain anything
    assert "3/3 &lt;done&gt;" in text and "2/3" not in text
    assert last.count("<img") == 2 and "image/png;base64,iVBOR" in last and "image/gif;base64,R0lGOD" in last
    with Image.open(folder / "media" / "curve.png") as curve:
        assert np.ptp(np.asarray(curve.convert("L"))) > 100, "something is drawn"
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 3


def test_a_command_that_fails_is_told_in_one_line(screen, tmp_path):
    with pytest.raises(RuntimeError, match=r"^error: no such config \(full output: .*log\.txt\)$"):
        watch(FAILS, tmp_path)
    assert "a traceback" in (tmp_path / "log.txt").read_text()


def test_a_stopped_cell_lets_training_save(screen, tmp_path, monkeypatch):
    def interrupted(folder):
        if (folder / "ready").exists():
            raise KeyboardInterrupt
        return ""

    monkeypatch.setattr(notebook, "_page", interrupted)
    with pytest.raises(KeyboardInterrupt):
        watch(WAITS, tmp_path, 0.05)
    assert (tmp_path / "saved").exists()


def test_a_commands_output_is_printed(tmp_path, capsys):
    notebook.run(sys.executable, "-c", "import sys; print(sys.argv[1]); print('1/2\\r2/2', file=sys.stderr)", tmp_path)
    assert capsys.readouterr().out == f"{tmp_path}\n1/2\r2/2\n"
    with pytest.raises(RuntimeError, match=r"print.*ended with 3: see above$"):
        notebook.run(sys.executable, "-c", "print('why'); raise SystemExit(3)")
    assert capsys.readouterr().out == "why\n"


def test_pictures_are_displayed_as_they_are(screen):
    pictures = [np.full((4, 6, 3), value, np.uint8) for value in (0, 255)]
    notebook.show(*pictures)
    notebook.play(pictures, fps=5)
    *stills, animation = screen.shown
    for still, picture in zip(stills, pictures, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(still.data))), picture)
    (encoded,) = re.findall(r'<img alt="animation" src="data:image/gif;base64,(.*?)"', animation.data)
    opened = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert opened.n_frames == 2 and opened.info["duration"] == 200
