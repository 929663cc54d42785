"""The options of a dataset, and the errors for invalid ones."""

import ast
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from stii_jax.data import DataError, resolve_config
from stii_jax.data.options import GeneratedConfig
from stii_jax.data.shapes.options import CHOICES, RANGES


def resolve(**options):
    return resolve_config("shapes", "default", options)


def test_weights_of_names():
    np.testing.assert_allclose(resolve().weights("kinds"), 1 / 6)
    np.testing.assert_allclose(resolve(kinds="worm").weights("kinds"), [0, 0, 0, 1, 0, 0])
    np.testing.assert_allclose(resolve(kinds="worm + disc:3").weights("kinds"), [0.75, 0, 0, 0.25, 0, 0])
    np.testing.assert_allclose(resolve(kinds="worm+disc+worm:0.5").weights("kinds"), [0.4, 0, 0, 0.6, 0, 0])


@pytest.mark.parametrize("value", ["disc:x", "disc:-1", "disc:0", "disc:nan", "disc:inf"])
def test_weights_are_positive_numbers(value):
    with pytest.raises(DataError, match=f"option kinds='{value}' of .*: give positive weights, as in disc:2"):
        resolve(kinds=value)


@pytest.mark.parametrize("option", CHOICES)
def test_unknown_names_are_answered_with_the_nearest(option):
    nearest = CHOICES[option][0]
    with pytest.raises(DataError, match=rf"unknown name for option {option} '{nearest}s'; did you mean '{nearest}'"):
        resolve(**{option: f"{nearest}s"})
    with pytest.raises(DataError, match=rf"unknown name for option {option} ''. Known: "):
        resolve(**{option: ""})


@pytest.mark.parametrize("option", RANGES)
def test_a_range_is_ordered_and_within_bounds(option):
    low, high = RANGES[option]
    assert getattr(resolve(**{option: (low, high)}), option) == (low, high)
    for value in ((high, low), (low - 0.01, high), (low, high + 0.01), (float("nan"), high)):
        with pytest.raises(
            DataError, match=rf"option {option}=.* of default.*: give \(lowest, highest\), {low} to {high}"
        ):
            resolve(**{option: value})


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("num_objects", (0, 3), "fewest, most"),
        ("num_objects", (4, 3), "fewest, most"),
        ("num_objects", (4, 21), "1 to 20"),
        ("image_size", 30, "a multiple of 4"),
        ("gray_share", 1.5, "0 to 1"),
        ("gray_share", -0.1, "0 to 1"),
        ("length_spread", 2.0, "0 to 1"),
        ("num_test", 0, "1 or more"),
    ],
)
def test_impossible_values(option, value, expected):
    with pytest.raises(DataError, match=rf"option {option}=.* of .*: give .*{expected}"):
        resolve(**{option: value})


def test_the_documentation_names_every_option_with_its_default():
    page = Path(__file__).resolve().parents[3] / "docs" / "datasets.md"
    section = page.read_text().partition("\n## shapes\n")[2].partition("\n## ")[0]
    documented = {}
    for names, defaults in re.findall(r"^\| (`[^|]+`) \| (`[^|]+`) \|", section, re.M):
        documented |= dict(zip(re.findall(r"`(.+?)`", names), re.findall(r"`(.+?)`", defaults), strict=True))
    config = resolve()
    inherited = {field.name for field in dataclasses.fields(GeneratedConfig)}
    own = {field.name for field in dataclasses.fields(config)} - inherited
    assert documented.keys() == own
    for name, default in documented.items():
        value = getattr(config, name)
        assert value == (default if isinstance(value, str) else ast.literal_eval(default)), name
