"""A folder of videos in tiles: the clips of each tile, and those that are left out."""

import numpy as np
import pytest
from sample_recordings import write_raw
from test_video_folder import build, whole

from stii_jax.data.errors import DataError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "videos").mkdir()
    return tmp_path / "videos"


def squares(num_frames: int, places: list[int]) -> np.ndarray:
    """Frames of 32x64 pixels. In each span of four, a white square rises; `places` are its left edges."""
    frames = np.zeros((num_frames, 32, 64, 3), np.uint8)
    for number, frame in enumerate(frames):
        top, left = 20 - 2 * (number % 4), places[number // 4]
        frame[top : top + 6, left : left + 6] = 255
    return frames


def test_tiles_give_clips_of_their_own_if_something_moves_in_them(folder):
    frames = squares(8, [4, 40])
    write_raw(folder / "a.avi", frames)
    np.savez(folder / "a.npz", (frames[..., 0] > 127).astype(np.uint8))
    source = build(folder, tile=32)
    clips = whole(source)
    tiles = source.builder.builder_config.view.tiles(32, 64)
    assert [left for left, *_ in tiles] == [0, 16, 32]
    seen = [(0, 0), (1, 1), (1, 2)]  # span and tile; the square's left edge is at 4, then at 40
    expected = [frames[4 * span : 4 * span + 4, :, 16 * tile : 16 * tile + 32] for span, tile in seen]
    np.testing.assert_array_equal(clips["video"], expected)
    np.testing.assert_array_equal(
        clips["segmentation"][..., 0] if clips["segmentation"].ndim == 5 else clips["segmentation"],
        (np.array(expected)[..., 0] > 127),
    )


def test_one_recording_in_tiles_shares_its_spans(folder):
    """Training never sees the time of a clip held out for validation, in whichever tile."""
    frames = squares(16, [4, 40, 4, 40])
    write_raw(folder / "a.avi", frames)
    source = build(folder, tile=32, validation_fraction=0.25)
    assert source.split_sizes == {"train": 1 + 2 + 1, "validation": 2}
    np.testing.assert_array_equal(whole(source, "validation")["video"][1], frames[12:, :, 32:])


def test_tiles_in_which_nothing_moves_are_refused(folder):
    write_raw(folder / "a.avi", np.full((8, 32, 64, 3), 99, np.uint8))
    with pytest.raises(DataError, match=r"nothing moves in its tiles: omit the tiles \(option tile\)"):
        build(folder, tile=32)
    with pytest.raises(DataError, match="a tile of 40 pixels is larger than 64x32: give at most --tile=32"):
        build(folder, tile=40)
    with pytest.raises(DataError, match="tile"):
        build(folder, tile=-1)
