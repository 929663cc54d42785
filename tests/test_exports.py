"""The numbers of a trajectory, and the folder that changes all at once."""

import numpy as np
import pytest

from stii_jax.data import DataError
from stii_jax.exports import regions, replacing


def test_numbers_of_a_region():
    labels = np.zeros((4, 4), int)
    labels[1:3, 2:4], labels[3, 0] = 2, 5
    rows = {label: values for label, *values in regions(labels, (0, 0, 4, 4))}
    assert rows.keys() == {0, 2, 5}  # none of those without a pixel
    assert rows[2] == [3, 2, 4, 2, 1, 4, 3]
    assert rows[5] == [0.5, 3.5, 1, 0, 3, 1, 4]
    # From 10 to 30 and from 5 to 13: a pixel is 5 wide and 2 high.
    rows = {label: values for label, *values in regions(labels, (10, 5, 30, 13))}
    assert rows[2] == [25, 9, 40, 20, 7, 30, 11]
    assert rows[5] == [12.5, 12, 10, 10, 11, 15, 13]


def test_masks_of_somebody_else_stay(tmp_path):
    others = tmp_path / "mine"
    (others / "masks").mkdir(parents=True)
    (others / "masks" / "000000.png").touch()
    with pytest.raises(DataError, match=r"mine/masks is there already, .* another --output"), replacing(others):
        pass
    assert [path.name for path in (others / "masks").iterdir()] == ["000000.png"]
