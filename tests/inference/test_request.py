"""The flags of `--mode decompose`."""

from pathlib import Path

import pytest

from stii_jax.config import ConfigError
from stii_jax.inference.request import Request, make_request


def test_flags():
    assert make_request("decompose", "a.mp4", "b", None) == Request(Path("a.mp4"), Path("b"), 0)
    assert make_request("decompose", "a.mp4", "b", 4).num_predicted == 4
    assert make_request("train", None, None, None) is None
    given = make_request("decompose", "a.mp4", "b", 0, ["coco", " mot", "coco", ""], object_clips=True, overwrite=True)
    assert given == Request(Path("a.mp4"), Path("b"), 0, ("coco", "mot"), True, True)
    with pytest.raises(ConfigError, match="--value_range, --background would do nothing"):
        make_request("train", None, None, None, viewing={"value_range": ["0", "1"], "background": "keep"})
    for given, message in (
        (("decompose", None, None, None), "give --input"),
        (("decompose", "", "b", None), "give --input"),
        (("decompose", "a.mp4", None, None), "give --output"),
        (("decompose", "a.mp4", "b", -1), "--predict is -1, expected 0 or more"),
        (("train", "a.mp4", None, None), "--input would do nothing: give --mode decompose"),
        (("evaluate", None, "b", None), "--output would do nothing"),
        (("predict", None, None, 0), "--predict would do nothing"),
        (("train", None, None, None, ["coco"]), "--formats would do nothing"),
        (("predict", "a", "b", 5), "--input, --output, --predict would do nothing"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_request(*given)
    for flag in ("object_clips", "overwrite"):
        with pytest.raises(ConfigError, match=f"--{flag} would do nothing: give --mode decompose"):
            make_request("train", None, None, None, **{flag: True})


def test_futures():
    make = lambda futures, predicted=10, mode="decompose", **viewing: make_request(  # noqa: E731
        mode, "a.mp4", "b", predicted, viewing=viewing, num_futures=futures
    )
    assert make(3) == Request(Path("a.mp4"), Path("b"), 10, num_futures=3)
    assert make(None).num_futures == 0
    for arguments, message in (
        ((0,), "--futures is 0, expected 1 or more futures; leave it out for none"),
        ((-2,), "--futures is -2, expected 1 or more"),
        ((3, None), "--futures needs the number of frames to predict: add --predict 10, or leave out --futures"),
        ((3, 0), "--futures needs the number of frames"),
        ((3, 10, "predict"), "--predict, --futures would do nothing: give --mode decompose"),
    ):
        with pytest.raises(ConfigError, match=message):
            make(*arguments)
    with pytest.raises(ConfigError, match="--futures does not work with --tile: leave out one of them"):
        make(3, None, tile=64)
