"""The flags and arguments that select the frames and the region that a model sees."""

import json

import numpy as np
import pytest
from sample_recordings import write_raw
from toy import use_toy_model

from stii_jax.config import ConfigError
from stii_jax.data.video.view import View
from stii_jax.inference import decompose as module
from stii_jax.inference.request import Request, make_request
from stii_jax.inference.viewing import Viewing, parse_viewing
from stii_jax.main import run
from stii_jax.runs.loading import load_model

pytestmark = pytest.mark.usefixtures("quick_compiles")


def test_flags():
    given = {"value_range": ["-1.5", "4e3"], "region": ["0", " 20", "64", "48"], "frame_stride": 3}
    viewing = parse_viewing(given | {"background": "median"})
    assert viewing == Viewing((-1.5, 4000), (0, 20, 64, 48), 3, "median")
    assert make_request("decompose", "a", "b", None, viewing=given).viewing == viewing._replace(background=None)
    assert make_request("decompose", "a", "b", None).viewing == parse_viewing({}) == Viewing()


@pytest.mark.parametrize(
    ("name", "message", "values"),
    [
        ("value_range", "give LOW,HIGH, two numbers", ("1", "2,1", "1,1", "1,2,3", "a,2", "0,inf", "nan,1")),
        ("region", "give X,Y,WIDTH,HEIGHT in pixels", ("1", "0,0,4", "0,0,0,4", "-1,0,4,4", "0,0,1.5,4", "a,0,4,4")),
    ],
)
def test_lists_of_the_wrong_form(name, message, values):
    for wrong in values:
        with pytest.raises(ConfigError, match=f"--{name} is {wrong}: {message}"):
            parse_viewing({name: wrong.split(",")})


def test_values_out_of_range():
    with pytest.raises(ConfigError, match="--frame_stride is 0, expected 1 or more"):
        parse_viewing({"frame_stride": 0})
    with pytest.raises(ConfigError, match="--background is 'mean': give one of auto, keep, median"):
        parse_viewing({"background": "mean"})


def test_views():
    trained = View(size=8, margins=(1, 2, 3, 4), square=True, gray=True)
    assert Viewing().view(trained) == trained
    assert Viewing(region=(2, 3, 9, 5)).view(trained).box(20, 30) == (2, 3, 11, 8)
    seen = Viewing(background="median").view(trained)
    assert seen.background == "median" and seen.box(20, 30) == trained.box(20, 30) and seen.gray
    assert Viewing(background="keep").view(seen) == trained


def decompose(workdir, video, output, **options):
    run("decompose", None, workdir, [], request=Request(video, output, **options))
    return json.loads((output / "decomposition.json").read_text()), np.load(output / "masks.npz")["segmentation"]


def test_the_viewing_of_a_request(workdir, tmp_path, monkeypatch):
    """Region, stride and background reach the model, and the summary reports them."""
    use_toy_model(monkeypatch)
    frames = np.full((7, 16, 24, 3), 90, np.uint8)
    frames[range(7), 5, range(7, 14)] = 255
    write_raw(video := tmp_path / "still.mkv", frames)
    viewing = Viewing(region=(2, 0, 16, 16), frame_stride=2, background="median")
    summary, labels = decompose(workdir, video, tmp_path / "a", viewing=viewing)
    assert (summary["view_box"], summary["frame_stride"], summary["background"]) == ([2, 0, 18, 16], 2, "median")
    assert labels.shape == (4, 16, 24) and (labels[:, :, :2] == 255).all()
    same = load_model(workdir).decompose(video, region=(2, 0, 16, 16), frame_stride=2, background="median")
    np.testing.assert_array_equal(same.masks, labels)
    plain, _ = decompose(workdir, video, tmp_path / "b")
    assert (plain["view_box"], plain["frame_stride"], plain["background"]) == ([4, 0, 20, 16], 1, "keep")


def test_a_bright_background_is_decomposed_as_its_negative(workdir, tmp_path, monkeypatch):
    """The overlay shows predicted frames in the recording's colours."""
    use_toy_model(monkeypatch)
    frames = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), np.uint8)
    painted, draw = [], module.OverlayPainter.draw
    write_raw(dark := tmp_path / "dark.mkv", frames)
    write_raw(bright := tmp_path / "bright.mkv", 255 - frames)
    monkeypatch.setattr(
        module.OverlayPainter, "draw", lambda self, *given: painted.append(given[1]) or draw(self, *given)
    )
    _, expected = decompose(workdir, dark, tmp_path / "a", num_predicted=1)
    summary, labels = decompose(workdir, bright, tmp_path / "b", num_predicted=1, viewing=Viewing(background="bright"))
    assert summary["background"] == "bright"
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_allclose(painted[15], 1 - painted[7], atol=1e-6)
