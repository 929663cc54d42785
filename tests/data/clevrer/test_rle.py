"""Run-length codes: worked examples, round trips, and invalid codes."""

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sample_clevrer import encode_number, encode_rle

from stii_jax.data import DataError
from stii_jax.data.clevrer import rle


@pytest.mark.parametrize(
    ("code", "mask"),
    [
        ("6", [[0, 0, 0], [0, 0, 0]]),
        ("06", [[1, 1, 1], [1, 1, 1]]),
        ("121", [[0, 1], [1, 0]]),  # column by column: 0 1 1 0
        ("1110", [[0, 0], [1, 1]]),  # the fourth run is 1, like the second
        ("021O", [[1, 0], [1, 1]]),  # the fourth run is one less than the second
        ("`0", [[0] * 4] * 4),  # 16 needs a second digit, or it would be -16
    ],
)
def test_by_hand(code, mask):
    mask = np.array(mask, bool)
    np.testing.assert_array_equal(rle.decode(code, *mask.shape), mask)
    assert encode_rle(mask) == code


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
@settings(deadline=None)
def test_there_and_back(mask):
    np.testing.assert_array_equal(rle.decode(encode_rle(mask), *mask.shape), mask)


@given(st.integers(-100, 100), st.integers(0, 400))
@settings(deadline=None)
def test_runs_of_every_length(shift, run):
    """The difference of two long runs can be any number in the range."""
    height, width = 25, 40
    runs = [run, 200, 1, max(0, 200 + shift)]
    runs.append(height * width - sum(runs))
    mask = np.repeat([False, True, False, True, False], runs).reshape(width, height).T
    code = "".join(map(encode_number, [*runs[:3], runs[3] - runs[1], runs[4] - runs[2]]))
    np.testing.assert_array_equal(rle.decode(code, height, width), mask)


CODES = st.text(st.characters(min_codepoint=48, max_codepoint=111)) | st.text(string.printable) | st.text()


@given(CODES, st.integers(1, 9), st.integers(1, 9))
@settings(deadline=None)
def test_anything_is_a_mask_or_an_error(code, height, width):
    try:
        mask = rle.decode(code, height, width)
    except DataError:
        return
    assert mask.shape == (height, width) and mask.dtype == bool


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "the runs have 0 pixels, not the 6 of a 3x2 mask"),
        ("5", "the runs have 5 pixels"),
        ("7", "run 0 has 7 pixels"),
        ("O7", "run 0 has -1 pixels"),
        ("6p", "'p' is not a digit"),
        ("6é", "'é' is not a digit"),
        ("6P", "truncated"),
        ("o" * 400, "does not end"),
    ],
)
def test_errors_name_the_problem(code, message):
    with pytest.raises(DataError, match=message):
        rle.decode(code, 2, 3)
