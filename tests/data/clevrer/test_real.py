"""CLEVRER's own files, if they are available."""

import shutil

import numpy as np
import pytest
from sample_clevrer import encode_rle

from stii_jax.data import VideoDataset
from stii_jax.data.clevrer import Clevrer
from stii_jax.data.clevrer.annotations import read_scene
from stii_jax.data.clevrer.link import RELABELLED
from stii_jax.data.clevrer.proposals import read_detections
from stii_jax.data.pipeline.prepare import build_if_missing


@pytest.fixture(scope="module")
def clevrer(samples, tmp_path_factory):
    """A folder with the official files under their official names."""
    if not (samples / "clevrer").is_dir():
        pytest.skip("no CLEVRER among the sample files")
    folder = tmp_path_factory.mktemp("clevrer")
    for file in (samples / "clevrer").rglob("*.*"):
        target = folder / file.relative_to(samples / "clevrer")
        target = target.with_name(target.name.replace(".first12frames", ""))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    return folder


@pytest.mark.parametrize(
    ("number", "num_objects", "first", "end"), [(0, 6, 9, 74), (3_000, 5, 0, 99), (10_000, 4, 39, 128)]
)
def test_windows(clevrer, number, num_objects, first, end):
    (path,) = clevrer.rglob(f"annotation_{number:05d}.json")
    scene = read_scene(path.read_bytes(), path.name, 128)
    assert (len(scene.objects), *scene.window) == (num_objects, first, end)


def test_codes_are_the_official_ones(clevrer):
    data = (clevrer / "derender_proposals/proposal_00000.json").read_bytes()
    frames = read_detections(data, "", range(12), (320, 480))
    masks = [seen.mask for frame in frames for seen in frame]
    assert len(masks) == 54 and all(100 < mask.sum() < 3000 for mask in masks)
    assert all(f'"{encode_rle(mask)}"'.replace("\\", "\\\\").encode() in data for mask in masks)


def test_whole_videos(clevrer, tmp_path):
    options = {"train_videos": (9_000, 11_000), "validation_videos": (0, 0), "test_videos": (0, 0)}
    config = Clevrer.BUILDER_CONFIGS[0].with_options(options)
    source = VideoDataset(build_if_missing(Clevrer, config, tmp_path, clevrer))
    assert source.split_sizes == {"train": 1}
    (batch,) = source.eval_batches("train", 128, 1)
    assert batch["video"].std() > 10


def test_a_sequence_and_its_labels(clevrer, tmp_path):
    config = Clevrer.BUILDER_CONFIGS[0].with_options({"test_frames": 3})
    builder = Clevrer(config=config, data_dir=str(tmp_path), file_format="array_record")
    builder.manual_dir = clevrer
    ((clip,), notes) = builder.read("test6", "video_00000")
    assert {what: count for what, count in notes.items() if count} == {RELABELLED: 1}
    areas = np.stack([np.bincount(image.ravel(), minlength=7)[1:] for image in clip.segmentation])
    # The cube enters, and so does a sphere that is still in the margin; the others hardly change.
    assert (areas[:, [1, 3, 4, 5]] > 20).all() and (np.ptp(areas[:, [1, 3, 4, 5]], axis=0) < 5).all()
    assert (np.diff(areas[:, 2]) > 0).all() and (areas[:, 0] == 0).all()
    cyan, purple = (np.median(clip.video[clip.segmentation == label], axis=0) for label in (3, 4))
    assert min(cyan[1:]) > cyan[0] and min(purple[[0, 2]]) > purple[1]
