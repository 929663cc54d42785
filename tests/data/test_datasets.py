"""What every variant of every dataset must do, and the errors for names that are not there."""

import numpy as np
import pytest

from stii_jax.data import DATASETS, DataError, open_dataset, resolve_config

VARIANTS = [(name, config.name) for name, builder in DATASETS.items() for config in builder.BUILDER_CONFIGS]


@pytest.mark.parametrize(("dataset", "variant"), VARIANTS)
def test_conformance(dataset, variant, tmp_path):
    options = {"num_frames": 5, "num_train": 6, "num_validation": 3, "num_test": 5}
    source = open_dataset(dataset, variant, options, str(tmp_path))
    size = source.image_size
    assert source.split_sizes == {"train": 6, "validation": 3, "test": 5}
    assert source.num_frames == 5
    batch = next(source.train_batches(4, 3, seed=0))
    assert batch["video"].shape == (3, 4, size, size, 3) and batch["video"].dtype == np.uint8
    assert batch["segmentation"].shape == (3, 4, size, size) and batch["segmentation"].dtype == np.uint8
    assert batch["video"].max() > 100
    assert 1 <= batch["segmentation"].max() <= source.num_objects
    # Every label stays in sight, as nothing occludes and nothing leaves.
    batches = list(source.eval_batches("test", 5, 2))
    assert [batch["valid"].tolist() for batch in batches] == [[True, True], [True, True], [True, False]]
    assert all(batch["video"].shape == (2, 5, size, size, 3) for batch in batches)


def test_nearest_names_are_suggested():
    with pytest.raises(DataError, match="dataset 'bouncing_bals'; did you mean 'bouncing_balls'"):
        resolve_config("bouncing_bals", "color4")
    with pytest.raises(DataError, match=r"variant of bouncing_balls 'colour4'; did you mean 'color4'.*binary678"):
        resolve_config("bouncing_balls", "colour4")
    with pytest.raises(DataError, match="option of color4 'imagesize'; did you mean 'image_size'"):
        resolve_config("bouncing_balls", "color4", {"imagesize": 32})
