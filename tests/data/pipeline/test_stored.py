"""Any part of a stored video is read back exactly."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stii_jax.data.options import VideoConfig
from stii_jax.data.pipeline import tfds
from stii_jax.data.pipeline.stored import CHUNK, Clip, StoredBuilder, pack, unpack


@given(
    num_frames=st.integers(1, 3 * CHUNK + 1),
    window=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    shape=st.sampled_from([(4, 4, 3), (5, 5), (1, 1, 3)]),
    seed=st.integers(0, 9),
)
def test_any_window_of_what_was_packed(num_frames, window, shape, seed):
    frames = np.random.default_rng(seed).integers(0, 256, (num_frames, *shape), np.uint8)
    start = min(int(window[0] * num_frames), num_frames - 1)
    length = 1 + int(window[1] * (num_frames - start - 1))
    found = unpack(pack(frames), start, length, shape)
    np.testing.assert_array_equal(found, frames[start : start + length])


def test_packing_ends_where_the_last_chunk_does():
    packed = pack(np.zeros((CHUNK + 1, 2, 2), np.uint8))
    assert len(packed["ends"]) == 2 and packed["ends"][-1] == len(packed["data"])
    nothing = pack(np.zeros((0, 2, 2), np.uint8))
    assert len(nothing["ends"]) == len(nothing["data"]) == 0


class _StoredConfig(VideoConfig):
    splits = ("train", "test")
    max_objects = 3


class Noise(StoredBuilder):
    """A dataset of random clips, each with a number; those of the test split have no labels."""

    VERSION = tfds.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[VideoConfig]] = [_StoredConfig(name="default", image_size=6, num_frames=10)]

    def extra_features(self):
        return {"number": tfds.Scalar(np.int64)}

    def clips(self, split: str) -> Iterator[Clip]:
        for seed in range(3):
            rng = np.random.default_rng([seed, split == "test"])
            labels = rng.integers(0, 4, (10, 6, 6), np.uint8) if split == "train" else None
            yield Clip(rng.integers(0, 256, (10, 6, 6, 3), np.uint8), labels, {"number": np.int64(seed)})


@pytest.fixture
def noise(tmp_path) -> Noise:
    builder = Noise(data_dir=str(tmp_path), file_format="array_record")
    builder.download_and_prepare()
    return builder


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_dataset_of_stored_frames(noise, split):
    for record, clip in zip(noise.as_data_source(split), noise.clips(split)):
        assert record["number"] == clip.extras["number"]
        for start, length in ((0, 10), (7, 3), (3, 1)):
            frames = noise.decode(record, start, length)
            assert ("segmentation" in frames) == (split == "train")
            for key, values in frames.items():
                np.testing.assert_array_equal(values, getattr(clip, key)[start : start + length])


@pytest.mark.parametrize(
    ("video", "segmentation"), [((10, 6, 5, 3), None), ((10, 8, 8, 3), None), ((10, 6, 6, 3), (9, 6, 6))]
)
def test_a_clip_of_another_shape_is_no_part_of_the_dataset(tmp_path, video, segmentation):
    labels = None if segmentation is None else np.zeros(segmentation, np.uint8)
    with pytest.raises(ValueError, match=r"a clip of .*, expected 6x6 pixels"):
        Noise(data_dir=str(tmp_path)).encode(Clip(np.zeros(video, np.uint8), labels))
