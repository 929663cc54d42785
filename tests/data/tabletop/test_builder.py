"""The videos of a variant: the meaning of a seed, the stored arrays, and invalid options."""

import numpy as np
import pytest

from stii_jax.data import DataError
from stii_jax.data.pipeline.prepare import build_if_missing
from stii_jax.data.tabletop import Tabletop

FEW = {"num_frames": 5, "num_train": 4, "num_validation": 3, "num_test": 3, "num_test6": 3}


def make(variant, tmp_path, **options):
    config = {config.name: config for config in Tabletop.BUILDER_CONFIGS}[variant]
    return Tabletop(config=config.with_options({**FEW, **options}), data_dir=str(tmp_path))


def same(first, second):
    return all(
        np.array_equal(a.video, b.video)
        and np.array_equal(a.segmentation, b.segmentation)
        and all(np.array_equal(a.extras[key], b.extras[key]) for key in a.extras)
        for a, b in zip(first, second)
    )


def test_a_seed_stands_for_its_videos(tmp_path):

    def clips(num_train, **options):
        return list(make("mini", tmp_path, num_train=num_train, num_frames=2, **options).clips("train"))

    first = clips(34)
    assert same(first, clips(34))
    assert not same(first, clips(34, seed=1))
    # The videos depend neither on their number nor on the sizes of other splits.
    longer = clips(66, num_test=1)
    assert len(first) == 34 and len(longer) == 66 and same(first, longer)


def test_splits_and_blocks_share_no_video(tmp_path):
    builder = make("mini", tmp_path, num_frames=2, num_train=40, num_validation=34, num_test=34)
    clips = [clip for split in builder.builder_config.splits for clip in builder.clips(split)]
    assert len({clip.video.tobytes() for clip in clips}) == len(clips) == 40 + 34 + 34 + 3


@pytest.mark.parametrize(("variant", "size", "counts"), [("default", 64, {3, 4, 5}), ("mini", 32, {2, 3})])
def test_stored_arrays(variant, size, counts, tmp_path):
    builder = make(variant, tmp_path, num_train=12)
    clips = list(builder.clips("train"))
    assert {int(clip.extras["num_objects"]) for clip in clips} == counts
    for clip in clips:
        extras, count = clip.extras, int(clip.extras["num_objects"])
        assert clip.video.shape == (5, size, size, 3) and clip.video.dtype == np.uint8
        assert clip.segmentation.shape == (5, size, size) and clip.segmentation.dtype == np.uint8
        pixels = np.stack([np.bincount(mask.ravel(), minlength=7)[1:] for mask in clip.segmentation])
        np.testing.assert_array_equal(extras["visible_pixels"], pixels)
        assert (extras["whole_pixels"] >= extras["visible_pixels"]).all()
        for key in ("colors", "materials", "shapes"):
            assert (extras[key][:count] >= 0).all() and (extras[key][count:] == -1).all()
        assert (extras["positions"][:, :count, 2] > 0).all() and not extras["positions"][:, count:].any()
        # A mask's centre is near the object's if nothing occludes or cuts it off.
        for k in range(count):
            x, y = extras["image_positions"][0, k]
            rows, columns = np.nonzero(clip.segmentation[0] == k + 1)
            if min(x, y, size - x, size - y) > 8 and len(rows) == extras["whole_pixels"][0, k]:
                assert np.hypot(columns.mean() + 0.5 - x, rows.mean() + 0.5 - y) < 1.5


@pytest.mark.parametrize("variant", ["default", "mini"])
def test_six_objects_all_of_them_inside(variant, tmp_path):
    builder = make(variant, tmp_path, num_frames=40)
    assert builder.builder_config.max_objects == 6
    for clip in builder.clips("test6"):
        assert clip.extras["num_objects"] == 6
        size = clip.video.shape[1]
        assert clip.extras["whole_pixels"].min() >= 12
        middles = clip.extras["image_positions"]
        assert middles.min() > 1 and middles.max() < size - 1


def test_built_and_read_back(tmp_path):
    builder = build_if_missing(Tabletop, make("mini", tmp_path).builder_config, tmp_path, tmp_path)
    assert builder.builder_config.split_sizes == {"train": 4, "validation": 3, "test": 3, "test6": 3}
    for split in builder.builder_config.splits:
        for record, clip in zip(builder.as_data_source(split), builder.clips(split), strict=True):
            frames = builder.decode(record, 0, 5)
            np.testing.assert_array_equal(frames["video"], clip.video)
            np.testing.assert_array_equal(frames["segmentation"], clip.segmentation)
            for key, value in clip.extras.items():
                np.testing.assert_array_equal(record[key], value)


def test_the_first_video_is_the_one_it_was(tmp_path):
    # Changing these numbers changes every user's data: raise `Tabletop.VERSION` with them.
    clip = next(make("default", tmp_path, num_frames=64).clips("train"))
    extras = clip.extras
    assert extras["num_objects"] == 4
    assert extras["colors"].tolist() == [6, 2, 1, 0, -1, -1]
    assert extras["materials"].tolist() == [1, 1, 0, 1, -1, -1]
    assert extras["shapes"].tolist() == [0, 1, 2, 2, -1, -1]
    places = [[[-0.7266, -1.6360], [0.0188, 4.2745]], [[2.3560, -0.5634], [-2.0688, 0.5434]]]
    np.testing.assert_allclose(extras["positions"][[0, 63], :2, :2], places, atol=1e-3)
    np.testing.assert_allclose(extras["visible_pixels"][0], [135, 41, 141, 57, 0, 0], atol=1)
    np.testing.assert_allclose(clip.video.mean((0, 1, 2)), [137.52, 136.56, 136.36], atol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_objects": [0, 3]}, "num_objects=.*fewest, most"),
        ({"num_objects": [4, 3]}, "num_objects=.*fewest, most"),
        ({"image_size": 30}, "image_size=30 .*multiple of 4"),
        ({"num_test6": 0}, "num_test6=0 .*1 or more"),
        ({"view_width": 1}, "view_width=1.0.*width of 2 to 12"),
        ({"speed": [0.2, 0.1]}, r"speed=\(0.2, 0.1\).*lowest, highest"),
        ({"friction": -0.1}, "friction=-0.1.*0 or more"),
        ({"speeed": 1}, "did you mean 'speed'"),
    ],
)
def test_options_that_make_no_videos(options, message, tmp_path):
    with pytest.raises(DataError, match=message):
        make("default", tmp_path, **options)
