"""Scenes: the shares and ranges of the options, one by one, and their independence."""

import numpy as np
import pytest
from scipy.stats import kstest

from stii_jax.data import resolve_config
from stii_jax.data.shapes.options import CHOICES, RANGES
from stii_jax.data.shapes.scene import Scene, draw_scenes

NUMBER = 3000
CONTRAST = (0.2, 0.45)
"""A contrast that fits any background, so that objects have equal colours only if that is intended."""


def draw(number=NUMBER, **options):
    options = {"num_frames": 1, "num_objects": (2, 4), "contrast": CONTRAST, **options}
    return draw_scenes(np.random.default_rng(0), number, resolve_config("shapes", "default", options))


@pytest.fixture(scope="module")
def scenes() -> Scene:
    return draw()


def one_color(scenes):
    return (scenes.colors[:, 0] == scenes.colors[:, 1]).all((1, 2))


def one_kind(scenes):
    return (scenes.traits[:, 0] == scenes.traits[:, 1]).all(1)


SHARES = {
    "one_kind_share": one_kind,
    "one_color_share": one_color,
    "shadow_share": lambda scenes: scenes.shadow[:, 0] > 0,
    "vignette_share": lambda scenes: scenes.vignette > 0,
    "compression_share": lambda scenes: scenes.compression > 0,
    "gray_share": lambda scenes: scenes.gray,
    "collide_share": lambda scenes: scenes.collide,
    "leave_share": lambda scenes: scenes.leave,
}


def test_every_share_is_tested(scenes):
    config = resolve_config("shapes", "default")
    assert {key for key in config.__dataclass_fields__ if key.endswith("_share")} == SHARES.keys()


@pytest.mark.parametrize("option", SHARES)
def test_shares(option, scenes):
    share = getattr(resolve_config("shapes", "default"), option)
    found = SHARES[option](scenes).mean()
    assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / NUMBER)
    for extreme in (0.0, 1.0):
        assert (SHARES[option](draw(number=50, **{option: extreme})) == extreme).all()


# The values of a range option where it applies, and True if they are uniform in the range.
MEASURES = {
    "shadow": lambda scenes: scenes.shadow[scenes.shadow[:, 0] > 0, 0],
    "vignette": lambda scenes: scenes.vignette[scenes.vignette > 0],
    "noise": lambda scenes: scenes.noise,
    "compression": lambda scenes: scenes.compression[scenes.compression > 0],
}


@pytest.mark.parametrize("option", MEASURES)
def test_ranges_are_uniform(option, scenes):
    low, high = getattr(resolve_config("shapes", "default"), option)
    assert kstest((MEASURES[option](scenes) - low) / (high - low), "uniform").pvalue > 1e-3
    assert option in RANGES


def test_lengths():
    scenes = draw(length=(0.1, 0.4), length_spread=0.0)
    first = scenes.lengths[:, 0]
    np.testing.assert_array_equal(scenes.lengths[:, 1], first)
    assert kstest(np.log(first / 0.1) / np.log(4), "uniform").pvalue > 1e-3
    spread = draw(length=(0.1, 0.4), length_spread=0.25).lengths
    present = spread[spread > 0]
    assert present.min() == pytest.approx(0.1) and present.max() == pytest.approx(0.4)
    ratio = spread[:, 1] / spread[:, 0]
    assert 0.75 / 1.25 <= ratio.min() < 0.7 and 1.5 < ratio.max() <= 1.25 / 0.75


def test_counts_are_equally_likely(scenes):
    counts = (scenes.kinds >= 0).sum(1)
    assert (np.diff((scenes.kinds >= 0).astype(int), axis=1) <= 0).all(), "absent ones come last"
    for count in (2, 3, 4):
        assert abs((counts == count).mean() - 1 / 3) < 4 * np.sqrt(2 / 9 / NUMBER)
    absent = scenes.kinds < 0
    for values in (scenes.lengths, scenes.widths, scenes.traits, scenes.colors, scenes.positions[:, 0]):
        assert not values[absent].any()
        assert values[~absent].any()


@pytest.mark.parametrize(
    ("option", "field"),
    [
        ("surfaces", "surface"),
        ("backgrounds", "background"),
        ("motions", "motion"),
        ("orientations", "orientation"),
        ("kinds", "kinds"),
    ],
)
def test_names_have_the_given_probabilities(option, field, scenes):
    values = getattr(scenes, field).reshape(NUMBER, -1)[:, 0]
    weights = resolve_config("shapes", "default").weights(option)
    shares = np.bincount(values, minlength=len(weights)) / NUMBER
    assert (np.abs(shares - weights) < 4 * np.sqrt(weights * (1 - weights) / NUMBER)).all()
    last = CHOICES[option][-1]
    only = getattr(draw(number=50, **{option: last}), field).reshape(50, -1)[:, 0]
    assert (only == len(CHOICES[option]) - 1).all()


def test_contrast_and_gray(scenes):
    contrast = np.sqrt(((scenes.colors[:, 0, 0] - scenes.background_colors[:, 0]) ** 2).mean(-1))
    low, high = CONTRAST
    assert kstest((contrast - low) / (high - low), "uniform").pvalue > 1e-3
    for colors in (scenes.colors, scenes.background_colors):
        assert np.ptp(colors[scenes.gray], axis=-1).max() < 1e-6 < np.ptp(colors[~scenes.gray], axis=-1).max()


def test_speeds_and_margins():
    scenes = draw(speed=(0.01, 0.02), motions="turning", leave_share=1.0, margin=(0.2, 0.3), num_frames=30)
    speeds = np.linalg.norm(scenes.velocities, axis=-1)[:, :, :2]
    assert 0.005 <= speeds.min() + 1e-6 < 0.006 and 0.029 < speeds.max() - 1e-6 <= 0.03
    assert speeds.mean() == pytest.approx(0.015, rel=0.02)
    beyond = np.maximum(-scenes.positions, scenes.positions - 1).max(-1) - scenes.lengths[:, None] / 2
    assert 0.28 < beyond.max() < 0.3 + 1e-6


def test_shadows_fall_in_all_directions(scenes):
    _, x, y, softness = scenes.shadow.T
    assert np.hypot(x, y).min() >= 0.1 and np.hypot(x, y).max() <= 0.5
    assert kstest((np.arctan2(y, x) + np.pi) / (2 * np.pi), "uniform").pvalue > 1e-3
    assert kstest((softness - 0.1) / 0.4, "uniform").pvalue > 1e-3


def test_brightness_flickers_around_one():
    flat = draw(number=20, flicker=(0.0, 0.0), num_frames=8).brightness
    np.testing.assert_array_equal(flat, 1)
    values = draw(flicker=(0.02, 0.02), num_frames=20).brightness - 1
    assert values.std() == pytest.approx(0.02, rel=0.03)
    np.testing.assert_allclose(values.std(0), 0.02, rtol=0.06)
    drift = (values[:, 1:] * values[:, :-1]).mean(1) / 0.02**2
    assert np.quantile(drift, 0.1) < 0.2 and np.quantile(drift, 0.9) > 0.6, "from noise to slow drifts"


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"backgrounds": "black", "pattern": (0.9, 1.0)}, {"background", "background_colors", "colors"}),
        ({"surfaces": "textured"}, {"surface"}),
        ({"one_color_share": 1.0}, {"colors"}),
        ({"noise": (0.1, 0.1)}, {"noise"}),
        ({"flicker": (0.1, 0.1)}, {"brightness"}),
        ({"shadow_share": 1.0}, {"shadow"}),
        ({"speed": (0.1, 0.1), "leave_share": 1.0}, {"positions", "velocities", "angles", "phases", "leave"}),
        ({"gray_share": 1.0}, {"gray", "background_colors", "colors"}),
    ],
)
def test_an_option_changes_its_own_property_alone(options, changed):
    before, after = draw(number=60, num_frames=5), draw(number=60, num_frames=5, **options)
    different = {key for key in Scene._fields if not np.array_equal(getattr(before, key), getattr(after, key))}
    assert different <= changed and different


def test_frames_of_other_sizes_show_the_same_scenes():
    for one, other in zip(draw(number=20, image_size=32), draw(number=20)):
        np.testing.assert_array_equal(one, other)


def test_longer_videos_begin_like_shorter_ones():
    short, long = draw(number=20, num_frames=3)._asdict(), draw(number=20, num_frames=7)._asdict()
    for key in Scene._fields:
        tracks = key in ("positions", "velocities", "angles", "phases", "brightness")
        np.testing.assert_array_equal(short[key], long[key][:, :3] if tracks else long[key], key)
