"""The stored videos: the meaning of seeds and variants."""

import numpy as np
import pytest
from scipy import ndimage

from stii_jax.data import resolve_config
from stii_jax.data.pipeline.prepare import build_if_missing
from stii_jax.data.shapes import Shapes
from stii_jax.data.video.background import Background


def make(tmp_path, split="train", variant="default", **options):
    builder = Shapes(config=resolve_config("shapes", variant, options), data_dir=str(tmp_path))
    return builder, list(builder.videos(split))


def same(first, second):
    return all(np.array_equal(a[key], b[key]) for a, b in zip(first, second, strict=True) for key in a)


def test_a_seed_stands_for_its_videos(tmp_path):
    few = {"num_frames": 2, "num_train": 260}
    _, first = make(tmp_path, **few)
    assert same(first, make(tmp_path, **few)[1])
    assert not same(first, make(tmp_path, seed=1, **few)[1])
    # The videos depend neither on their number nor on the sizes of other splits.
    _, longer = make(tmp_path, num_frames=2, num_train=520, num_test=1)
    assert len(longer) == 520 and same(first, longer[:260])


def test_splits_and_blocks_share_no_video(tmp_path):
    sizes = {"num_train": 520, "num_validation": 300, "num_test": 300}
    videos = [
        video for split in ("train", "validation", "test") for video in make(tmp_path, split, num_frames=1, **sizes)[1]
    ]
    assert len({video["positions"].tobytes() for video in videos}) == len(videos) == 1120
    assert len({int(video["seed"]) for video in videos}) > 1118  # of 2**31


def test_the_first_video_is_the_one_it_was(tmp_path):
    # Changing these numbers changes every user's data: raise `Shapes.VERSION` with them.
    builder, (video,) = make(tmp_path, num_train=1)
    names = ("surface", "background", "motion", "gray", "seed")
    assert video["kinds"].tolist() == [4, 4, 4, 4, -1, -1]
    assert [int(video[name]) for name in names] == [1, 1, 1, 0, 91477570]
    np.testing.assert_allclose(video["lengths"], [0.19937, 0.18703, 0.19548, 0.17368, 0, 0], atol=1e-5)
    places = [[[0.1106, 0.6877], [0.1828, -0.0380]], [[0.2354, 0.8690], [0.2624, -0.2056]]]
    np.testing.assert_allclose(video["positions"][[0, 39], :2], places, atol=1e-3)
    clip = builder.decode(video, 0, 40)
    np.testing.assert_allclose(clip["video"].mean((0, 1, 2)), [222.69, 222.37, 222.27], atol=0.05)
    areas = np.bincount(clip["segmentation"][0].ravel(), minlength=7)
    np.testing.assert_allclose(areas, [4034, 40, 7, 15, 0, 0, 0], atol=1)


def test_white_shapes_on_black(tmp_path):
    builder, examples = make(tmp_path, variant="white", num_train=30, num_frames=2)
    for example in examples:
        clip = builder.decode(example, 0, 2)
        video, inside = clip["video"], clip["segmentation"] > 0
        assert video.shape == (2, 64, 64, 3) and video.max() == 255
        assert np.ptp(video, axis=-1).max() == 0
        assert (video[inside] > 127).all() and (video[~inside] == 0).mean() > 0.9


def test_plain_shapes_on_one_colour(tmp_path):
    builder, examples = make(tmp_path, variant="plain", num_train=30, num_frames=2)
    grays, colors = 0, set()
    for example in examples:
        clip = builder.decode(example, 0, 2)
        background = clip["video"][clip["segmentation"] == 0]
        middle = np.median(background, axis=0)
        assert (background == middle).all(-1).mean() > 0.85  # except for outlines
        grays += np.ptp(clip["video"], axis=-1).max() == 0
        colors.add(tuple(middle))
    assert 3 < grays < 27 and len(colors) > 10


def test_built_and_read_back(tmp_path):
    few = {"num_frames": 4, "num_train": 5, "num_validation": 2, "num_test": 2}
    builder = build_if_missing(Shapes, resolve_config("shapes", "mini", few), tmp_path, tmp_path)
    for split in builder.builder_config.splits:
        for record, example in zip(builder.as_data_source(split), builder.videos(split), strict=True):
            assert record.keys() == example.keys()
            for key, value in example.items():
                np.testing.assert_array_equal(record[key], value)
                assert np.asarray(record[key]).dtype == value.dtype
            for key, frames in builder.decode(record, 1, 3).items():
                np.testing.assert_array_equal(frames, builder.decode(example, 0, 4)[key][1:])


@pytest.mark.parametrize(("variant", "counts"), [("default", range(1, 7)), ("mini", range(1, 4))])
def test_variants_have_their_numbers_of_objects(variant, counts, tmp_path):
    builder, examples = make(tmp_path, variant=variant, num_train=200, num_frames=1)
    assert {int((example["kinds"] >= 0).sum()) for example in examples} == set(counts)
    assert builder.builder_config.max_objects == max(counts)


def test_difference_from_the_background(tmp_path):
    """In a video of at most 31 frames, the background is that of the whole video, and labels stay the same."""
    few = {"num_train": 4, "num_frames": 31}
    plain, examples = make(tmp_path, **few)
    builder, same_examples = make(tmp_path, difference=True, **few)
    assert same(examples, same_examples)
    for example in examples:
        whole, clip = plain.decode(example, 0, 31), builder.decode(example, 20, 3)
        background = Background(whole["video"])
        np.testing.assert_array_equal(clip["video"], [background.change(frame) for frame in whole["video"][20:23]])
        np.testing.assert_array_equal(clip["segmentation"], whole["segmentation"][20:23])


def test_difference_hides_the_scenery(tmp_path):
    options = {"num_train": 12, "num_frames": 160, "speed": (0.02, 0.03), "motions": "inertial", "shadow_share": 0.0}
    builder, examples = make(tmp_path, backgrounds="scenery", difference=True, **options)
    clips = [builder.decode(example, 50, 1) for example in examples]
    video, inside = (np.stack([clip[key][0] for clip in clips]) for key in ("video", "segmentation"))
    background = ndimage.minimum_filter(inside == 0, (1, 3, 3))  # without outlines
    assert (video[background] == 0).mean() > 0.95
    assert (video[inside > 0].max(-1) > 63).mean() > 0.7
