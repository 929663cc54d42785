"""Large splits are built without tensorflow, in the memory of one video."""

import numpy as np
import pytest

from stii_jax.data import open_dataset
from stii_jax.data.pipeline import tfds
from stii_jax.data.pipeline.spool import Spool

RECORDS = [b"", b"one", b"\n" * 100_000, b"last"]


def test_a_spool_gives_back_what_it_was_given_in_order(tmp_path):
    spool = Spool(tmp_path, disable_shuffling=True, hash_salt="train", ignore_duplicates=False)
    for key, record in enumerate(RECORDS):
        spool.add(key, record)
    assert (spool.size, spool.num_examples, spool.bucket_lengths) == (100_007, 4, [4])
    assert list(spool) == list(enumerate(RECORDS))
    assert not list(tmp_path.iterdir())


def test_a_spool_keeps_no_other_order(tmp_path):
    with pytest.raises(AssertionError, match="video 1 came after -1"):
        Spool(tmp_path, disable_shuffling=True).add(1, b"")
    with pytest.raises(AssertionError, match="order"):
        Spool(tmp_path, disable_shuffling=False)


def test_a_split_that_is_too_large_for_the_memory_of_tfds(tmp_path, monkeypatch, tiny):
    monkeypatch.setattr(tfds.shuffle, "MAX_MEM_BUFFER_SIZE", 1_000)  # of 1 GB; above it, TFDS needs tensorflow
    options = {"num_frames": 12, "num_train": 40, "num_validation": 8, "num_test": 10}
    built = open_dataset("bouncing_balls", "mini", options, str(tmp_path))
    assert built.split_sizes == tiny.split_sizes
    for split in built.splits:
        for ours, theirs in zip(built.builder.as_data_source(split), tiny.builder.as_data_source(split), strict=True):
            assert ours.keys() == theirs.keys()
            for key, value in ours.items():
                np.testing.assert_array_equal(value, theirs[key])


def test_tfds_has_its_own_back_afterwards():
    own = tfds.shuffle.Shuffler
    with pytest.raises(KeyError), tfds.shuffled_by(Spool):
        assert tfds.shuffle.Shuffler is Spool
        raise KeyError
    assert tfds.shuffle.Shuffler is own
