"""The files of sampled futures: a table that agrees with Python, and a picture. All other files stay as they are."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sample_recordings import write_raw
from test_decompose import noise
from toy import ToyModel, use_toy_model

import stii_jax
from stii_jax.config import ConfigError, load_config
from stii_jax.data.video.videofile import read_frames
from stii_jax.evaluation.evaluator import check_samples
from stii_jax.inference.output_folder import NAMES
from stii_jax.inference.outputs import FUTURE_COLUMNS
from stii_jax.inference.request import Request
from stii_jax.main import run
from stii_jax.models import registry
from stii_jax.models.registry import SYSTEMS

pytestmark = pytest.mark.usefixtures("quick_compiles")

T, K, AHEAD, COUNT = 6, 2, 3, 4


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    use_toy_model(monkeypatch)


@pytest.fixture
def video(tmp_path):
    return write_raw(tmp_path / "video.mkv", noise(T))


def decompose(workdir, video, output, **options):
    run("decompose", None, workdir, [], request=Request(video, output, AHEAD, **options))
    return json.loads((output / "decomposition.json").read_text())


def test_the_files_of_futures(workdir, video, tmp_path, capsys):
    output = tmp_path / "found"
    summary = decompose(workdir, video, output, num_futures=COUNT)
    assert summary["num_futures"] == COUNT and summary["damage"] is None
    assert {path.name for path in output.iterdir()} == {*NAMES, "futures.csv", "futures.png"} == set(summary["files"])
    assert "6 frames decomposed and 3 predicted, in 4 futures, in" in capsys.readouterr().out
    with (output / "futures.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert tuple(head) == FUTURE_COLUMNS
    futures = stii_jax.load_model(workdir).decompose(video).predict(AHEAD, samples=COUNT).futures
    expected = [[i, *row] for i, sample in enumerate(futures) for row in sample.tracks.rows]
    assert len(rows) == COUNT * AHEAD * K
    for row, cells in zip(rows, expected, strict=True):
        assert [float(cell) if cell else None for cell in row] == pytest.approx(cells, abs=1e-6)
    with Image.open(output / "futures.png") as picture:
        assert picture.size == (11 * 24, 11 * 16), "the size of overlay.mp4"


def test_other_files_do_not_change(workdir, video, tmp_path):
    plain, sampled = tmp_path / "plain", tmp_path / "sampled"
    without, summary = decompose(workdir, video, plain), decompose(workdir, video, sampled, num_futures=2)
    for path in (path for path in plain.rglob("*") if path.is_file() and path.name != "decomposition.json"):
        other = sampled / path.relative_to(plain)
        if path.suffix == ".mp4":  # on some machines, x264 encodes blocks at the edge in two ways
            shown, expected = (np.stack(list(read_frames(file))).astype(float) for file in (other, path))
            assert np.abs(shown - expected).mean() < 1, path
        else:
            assert path.read_bytes() == other.read_bytes(), path
    for facts in (without, summary):
        facts.pop("seconds")
    assert summary.pop("num_futures") == 2 and set(summary.pop("files")) > set(without.pop("files"))
    assert summary == without
    decompose(workdir, video, sampled, overwrite=True)
    assert {path.name for path in sampled.iterdir()} == set(NAMES)


def test_a_future_that_leaves_the_finite_numbers(workdir, video, tmp_path, monkeypatch, capsys):
    class Diverging(ToyModel):
        def predict(self, params, state, num_frames, keys=None):
            out, state = super().predict(params, state, num_frames, keys)
            return (out if keys is None else out._replace(means=jnp.nan * out.means)), state

    monkeypatch.setattr(registry, "make_model", lambda *_: Diverging(8))
    summary = decompose(workdir, video, tmp_path / "found", num_futures=2)
    assert (summary["num_predicted"], summary["num_futures"]) == (AHEAD, 0) and "not finite from frame 6 on" in summary[
        "damage"
    ]
    assert "not finite from frame 6 on" in capsys.readouterr().err
    assert len((tmp_path / "found" / "futures.csv").read_text().splitlines()) == 1


@pytest.mark.parametrize("system", [name for name, system in SYSTEMS.items() if not system.model.can_sample])
def test_systems_that_cannot_sample(system):
    config = load_config("quickstart")
    config.eval.system = system
    with pytest.raises(ConfigError, match=f"is '{system}', which predicts a single future: leave out --futures"):
        check_samples(config, "--futures")


def test_futures_of_a_model_that_cannot_sample(workdir, video, tmp_path, monkeypatch):
    """It is refused before the video is read."""
    monkeypatch.setattr(SYSTEMS["stii"].model, "can_sample", False)
    with pytest.raises(ConfigError, match="'stii', which predicts a single future: leave out --futures"):
        decompose(workdir, tmp_path / "missing.mp4", tmp_path / "found", num_futures=2)
