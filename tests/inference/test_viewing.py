"""Flags and arguments that say what a model sees of a recording."""

import pytest

from stii_jax.config import ConfigError
from stii_jax.data.video.view import View
from stii_jax.inference.request import make_request
from stii_jax.inference.viewing import Viewing, parse_viewing


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
    with pytest.raises(ConfigError, match="--background is 'mean': give one of keep, median"):
        parse_viewing({"background": "mean"})


def test_views():
    trained = View(size=8, margins=(1, 2, 3, 4), square=True, gray=True)
    assert Viewing().view(trained) == trained
    assert Viewing(region=(2, 3, 9, 5)).view(trained).box(20, 30) == (2, 3, 11, 8)
    seen = Viewing(background="median").view(trained)
    assert seen.background == "median" and seen.box(20, 30) == trained.box(20, 30) and seen.gray
    assert Viewing(background="keep").view(seen) == trained
