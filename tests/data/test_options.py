"""Options: the dataset name they imply, and invalid values."""

import pytest
from ml_collections import ConfigDict

from stii_jax.data import DataError, resolve_config


def resolve(**options):
    return resolve_config("bouncing_balls", "color4", options)


def test_names_spell_out_changes_in_one_order():
    first = resolve(image_size=32, num_balls=(2, 3), box_size=5.0)
    second = resolve(num_balls=[2, 3], box_size=5, image_size=32)
    assert first.name == second.name == "color4-image_size=32-num_balls=2_3-box_size=5.0"
    assert (second.num_balls, second.box_size, second.image_size) == ((2, 3), 5.0, 32)
    assert first.split_sizes == {"train": 50_000, "validation": 1_000, "test": 10_000}


def test_names_of_many_changes_are_cut_and_still_differ():
    ranges = ("length", "contrast", "pattern", "shadow", "vignette", "noise", "speed", "turning", "stopped", "margin")
    options = dict.fromkeys(ranges, (0.1, 0.12345)) | dict.fromkeys(
        ("gray_share", "leave_share", "collide_share"), 0.75
    )
    names = [resolve_config("shapes", "default", options | {"margin": (0.1, end)}).name for end in (0.3, 0.5, 0.3)]
    assert names[0].startswith("default-length=0.1_0.12345-contrast=") and names[0] != names[1]
    assert names[0] == names[2] and len(names[0]) == len(names[1]) == 240


def test_an_option_equal_to_its_default_changes_nothing():
    assert resolve(image_size=64, num_balls=[4, 4]).name == "color4"


def test_options_of_a_config_file():
    options = ConfigDict({"num_balls": [2, 2], "seed": 3}).to_dict()
    assert resolve_config("bouncing_balls", "mini", options).name == "mini-seed=3-num_balls=2_2"
    assert resolve_config("bouncing_balls", "mini", {}).name == "mini"


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("image_size", "64", "int"),
        ("image_size", 64.0, "int"),
        ("num_train", True, "int"),
        ("num_balls", 4, r"tuple\[int, int\]"),
        ("num_balls", [4, 5, 6], r"tuple\[int, int\]"),
        ("speed", [0.1, "fast"], r"tuple\[float, float\]"),
    ],
)
def test_wrong_types(option, value, expected):
    with pytest.raises(DataError, match=rf"option {option}=.* of color4 has the wrong type: give {expected}"):
        resolve(**{option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("image_size", 0),
        ("num_frames", -1),
        ("num_test", 0),
        ("seed", -1),
        ("num_balls", (5, 4)),
        ("num_balls", (0, 4)),
        ("num_colors", 9),
        ("radii", (0.0, 1.0)),
        ("speed", (0.2, 0.1)),
        ("box_size", -1.0),
        ("margin", 5.0),
        ("screen", 10.0),
    ],
)
def test_impossible_values(option, value):
    with pytest.raises(DataError, match=f"{option}=.*: give"):
        resolve(**{option: value})


def test_unknown_palette_is_named_with_the_nearest():
    with pytest.raises(DataError, match=r"unknown palette.*'vivd'.*did you mean 'vivid'"):
        resolve(palette="vivd")


def test_too_few_colours_to_shuffle():
    with pytest.raises(DataError, match=r"num_colors=.*: shuffle_colors needs"):
        resolve(shuffle_colors=True, num_colors=3)
