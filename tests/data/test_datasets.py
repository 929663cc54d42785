"""Requirements on every variant of every dataset, and the errors for unknown names."""

import itertools

import numpy as np
import pytest
from samples import GENERATED, SAMPLES

from stii_jax.data import DATASETS, DataError, open_dataset, resolve_config
from stii_jax.data.catalog import prepare
from stii_jax.data.pipeline.source import VideoDataset

VARIANTS = [(name, config.name) for name, builder in DATASETS.items() for config in builder.BUILDER_CONFIGS]


@pytest.fixture(scope="session", params=DATASETS)
def source(request, tmp_path_factory) -> VideoDataset:
    """A small instance of each dataset, in its real format."""
    folder = tmp_path_factory.mktemp(request.param)
    variant, options, manual_dir = SAMPLES[request.param](folder / "raw")
    return open_dataset(request.param, variant, options, str(folder / "built"), manual_dir, num_threads=2)


def take(batches, count):
    return list(itertools.islice(batches, count))


def whole(source: VideoDataset, split: str) -> dict[str, np.ndarray]:
    """Return all videos of a split, at full length."""
    batches = list(source.eval_batches(split, source.frames_of(split), 1))
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], key)


def test_every_dataset_has_a_sample():
    assert SAMPLES.keys() == DATASETS.keys()


def test_shapes_types_and_ranges(source):
    size = source.image_size
    assert source.splits[0] == "train" and len(set(source.splits)) == len(source.splits)
    for split in source.splits:
        count, length = source.split_sizes[split], source.frames_of(split)
        videos = whole(source, split)
        assert count >= 1 and length >= 1
        assert videos["video"].shape == (count, length, size, size, 3) and videos["video"].dtype == np.uint8
        assert videos["valid"].all()
        assert videos["video"].std() > 1, "no picture is of one colour"
        if "segmentation" in videos:
            assert videos["segmentation"].shape == videos["video"].shape[:-1]
            assert videos["segmentation"].dtype == np.uint8
            assert 1 <= videos["segmentation"].max() <= source.num_objects


def test_a_label_stands_for_one_object_over_the_clip(source):
    """Across frames, pixels of a label overlap those of the same label more than those of any other."""
    labelled = [split for split in source.splits if "segmentation" in whole(source, split)]
    if not labelled:
        pytest.skip("this dataset has no labels")
    kept = swapped = 0
    for split in labelled:
        segmentation = whole(source, split)["segmentation"]
        now, then = segmentation[:, :-1], segmentation[:, 1:]
        both = (now > 0) & (then > 0)
        kept += (both & (now == then)).sum()
        swapped += (both & (now != then)).sum()
    assert kept > 10 * swapped


def test_the_same_again(source, tmp_path):
    """A dataset rebuilt from the same files or seed is identical."""
    name = source.builder.name
    variant, options, manual_dir = SAMPLES[name](tmp_path / "raw")
    again = open_dataset(name, variant, options, str(tmp_path / "built"), manual_dir)
    for split in source.splits:
        assert_same(whole(source, split), whole(again, split))
    length = min(3, source.num_frames)
    assert_same(next(source.train_batches(length, 4, seed=1)), next(again.train_batches(length, 4, seed=1)))


def test_splits_share_no_video(source):
    videos = [{video.tobytes() for video in whole(source, split)["video"]} for split in source.splits]
    assert len(set().union(*videos)) == sum(map(len, videos)) == sum(source.split_sizes.values())


def test_batches_resume(source):
    length = min(3, source.num_frames)
    batches = take(source.train_batches(length, 4, seed=0), 5)
    for one, two in zip(batches[3:], take(source.train_batches(length, 4, seed=0, start_step=3), 2)):
        assert_same(one, two)


def test_processes_share_a_batch(source):
    length = min(3, source.num_frames)
    parts = [next(source.train_batches(length, 4, seed=0, process_index=i, process_count=2)) for i in range(2)]
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    assert_same(joined, next(source.train_batches(length, 4, seed=0)))


def test_a_window_is_a_part_of_the_video(source):
    """However a dataset is stored, the frames of a window do not depend on its start."""
    record = source.builder.as_data_source("train")[0]
    length = source.num_frames
    everything = source.builder.decode(record, 0, length)
    for start, stop in {(0, 1), (length // 3, length), (length - 1, length)}:
        window = source.builder.decode(record, start, stop - start)
        assert_same({key: value[start:stop] for key, value in everything.items()}, window)


@pytest.mark.parametrize(("dataset", "variant"), [pair for pair in VARIANTS if pair[0] in GENERATED])
def test_every_generated_variant(dataset, variant, tmp_path):
    counts = {split: 5 if split == "test" else 3 for split in resolve_config(dataset, variant).splits}
    few = {f"num_{split}": count for split, count in counts.items()}
    source = open_dataset(dataset, variant, few | {"num_frames": 5}, str(tmp_path))
    size = source.image_size
    assert source.split_sizes == counts
    batch = next(source.train_batches(4, 3, seed=0))
    assert batch["video"].shape == (3, 4, size, size, 3)
    assert batch["video"].max() > 100 and 1 <= batch["segmentation"].max() <= source.num_objects
    valid = [batch["valid"].tolist() for batch in source.eval_batches("test", 5, 2)]
    assert valid == [[True, True], [True, True], [True, False]]


@pytest.mark.parametrize(
    "dataset", [name for name, builder in DATASETS.items() if builder.MANUAL_DOWNLOAD_INSTRUCTIONS]
)
def test_missing_downloads_are_requested(dataset, tmp_path):
    variant = DATASETS[dataset].BUILDER_CONFIGS[0].name
    for manual_dir, where in (("", tmp_path / "manual" / dataset), (str(tmp_path / "mine"), tmp_path / "mine")):
        with pytest.raises(DataError, match=rf"{where} has none\..*config\.data\.manual_dir"):
            prepare(dataset, variant, {}, str(tmp_path), manual_dir)


def test_nearest_names_are_suggested():
    with pytest.raises(DataError, match="dataset 'bouncing_bals'; did you mean 'bouncing_balls'"):
        resolve_config("bouncing_bals", "color4")
    with pytest.raises(DataError, match=r"variant of bouncing_balls 'colour4'; did you mean 'color4'.*binary678"):
        resolve_config("bouncing_balls", "colour4")
    with pytest.raises(DataError, match="option of color4 'imagesize'; did you mean 'image_size'"):
        resolve_config("bouncing_balls", "color4", {"imagesize": 32})
