"""Formats of other programs, read back by those programs' libraries."""

import csv
import json

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stii_jax.config import ConfigError
from stii_jax.inference.formats import FORMATS, check_formats, run_lengths
from stii_jax.inference.outputs import SegmentedFrame, VideoInfo
from stii_jax.visualization.regions import Canvas
from stii_jax.visualization.visualize import slot_colors

WIDTH, HEIGHT, K, BACKGROUND = 30, 20, 4, 1
BOX = (4, 2, 28, 18)
NUM_FRAMES = 3

# Deprecation warnings from the readers themselves, with numpy 2.5 and pandas 3.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools"),
    pytest.mark.filterwarnings("ignore:Operation with tuple is deprecated:DeprecationWarning:motmetrics"),
]


def make_info(width=WIDTH, height=HEIGHT, scale=1, expected=NUM_FRAMES):
    return VideoInfo("video.mp4", width, height, scale, 10.0, expected, slot_colors(K, BACKGROUND), BACKGROUND)


@pytest.fixture(scope="module")
def frames():
    """Return frames with slot 0 in all, slot 2 in the last one only, slot 3 in none."""
    canvas, made = Canvas((8, 12), BOX, WIDTH, HEIGHT), []
    for t in range(NUM_FRAMES):
        masks = np.full((K, 8, 12), 0.05, np.float32)
        masks[BACKGROUND] = 0.4
        masks[0, 2:5, t : t + 4] = 0.9
        if t == 2:
            masks[2, 5:7, 8:] = 0.8
        labels = canvas.segment(masks)
        made.append(SegmentedFrame(t, 0.25 + t / 10, False, labels.slots, canvas.measure(labels)))
    assert [set(frame.regions) for frame in made] == [{0, 1}, {0, 1}, {0, 1, 2}]
    return made


def write(folder, name, frames, info=None):
    with FORMATS[name](folder, info or make_info()) as file:
        for frame in frames:
            file.write(frame)
    assert [path.name for path in folder.iterdir()] == [FORMATS[name].name]
    return folder / FORMATS[name].name


def objects(frames):
    """Return frame, number and region of every object expected in a file."""
    return [(frame, slot + 1, region) for frame in frames for slot, region in frame.regions.items() if slot != 1]


def test_coco(tmp_path, frames):
    coco_module = pytest.importorskip("pycocotools.coco")
    coco = coco_module.COCO(write(tmp_path, "coco", frames))
    assert [coco.imgs[t]["time"] for t in range(NUM_FRAMES)] == [0.25, 0.35, 0.45]
    assert {(image["width"], image["height"]) for image in coco.imgs.values()} == {(WIDTH, HEIGHT)}
    annotations = coco.loadAnns(sorted(coco.anns))
    assert len(annotations) == 4 and 0 not in coco.anns
    for annotation, (frame, number, region) in zip(annotations, objects(frames), strict=True):
        assert (annotation["image_id"], annotation["track_id"]) == (frame.number, number)
        mask = frame.slots == number - 1
        np.testing.assert_array_equal(coco.annToMask(annotation), mask)
        assert annotation["area"] == mask.sum() == region.area
        left, top, width, height = annotation["bbox"]
        assert (left, top, left + width, top + height) == region[4:8]
    assert coco.getCatIds() == [1] and len(coco.getAnnIds(imgIds=[2])) == 2


def test_coco_of_a_reduced_frame_has_the_size_of_the_input(tmp_path):
    coco_module = pytest.importorskip("pycocotools.coco")
    canvas = Canvas((4, 4), (0, 0, 2001, 9), 2001, 9)
    masks = np.full((K, 4, 4), 0.1, np.float32)
    masks[BACKGROUND, :, :2] = masks[0, :, 2:] = 0.7
    labels = canvas.segment(masks)
    frame = SegmentedFrame(0, 0.0, False, labels.slots, canvas.measure(labels))
    coco = coco_module.COCO(write(tmp_path, "coco", [frame], make_info(2001, 9, canvas.scale)))
    mask = coco.annToMask(coco.anns[1])
    assert mask.shape == (9, 2001) and mask[:, 1002:].all() and not mask[:, :1000].any()


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 60))))
def test_run_lengths(mask):
    library = pytest.importorskip("pycocotools.mask")
    counts = run_lengths(mask)
    np.testing.assert_array_equal(library.decode({"size": list(mask.shape), "counts": counts.encode()}), mask)
    assert library.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode() == counts


def test_mot(tmp_path, frames):
    motmetrics = pytest.importorskip("motmetrics")
    table = motmetrics.io.loadtxt(str(write(tmp_path, "mot", frames)), fmt="mot15-2D")
    assert len(table) == 4
    for frame, number, region in objects(frames):
        row = table.loc[(frame.number + 1, number)]
        box = (row["X"], row["Y"], row["X"] + row["Width"], row["Y"] + row["Height"])
        assert box == region[4:8] and row["Confidence"] == pytest.approx(region.confidence, abs=1e-4)


def test_label_stack(tmp_path, frames):
    path = write(tmp_path, "tiff", frames)
    with tifffile.TiffFile(path) as file:
        assert file.is_imagej and not file.is_bigtiff and len(file.series) == 1
        assert (file.series[0].axes, file.imagej_metadata["frames"]) == ("TYX", NUM_FRAMES)
        assert file.imagej_metadata["finterval"] == pytest.approx(0.1)
        assert file.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        labels = file.asarray()
    assert (labels.shape, labels.dtype) == ((NUM_FRAMES, HEIGHT, WIDTH), np.uint8)
    slots = np.stack([frame.slots for frame in frames])
    np.testing.assert_array_equal(labels, np.where((slots == BACKGROUND) | (slots == 255), 0, slots + 1))


def test_a_stack_that_may_pass_4_gigabytes_is_a_bigtiff(tmp_path, frames):
    with tifffile.TiffFile(write(tmp_path, "tiff", frames, make_info(expected=10**8))) as file:
        assert file.is_bigtiff and file.asarray().shape[0] == NUM_FRAMES


def test_via_tracks(tmp_path, frames):
    """The format that `movement` reads: JSON in cells of a table. The next test uses the library itself."""
    with write(tmp_path, "movement", frames).open() as file:
        rows = list(csv.DictReader(file))
    for row, (frame, number, region) in zip(rows, objects(frames), strict=True):
        assert json.loads(row["file_attributes"]) == {
            "clip": "video.mp4",
            "frame": frame.number,
            "time": pytest.approx(frame.seconds),
        }
        shape, attributes = json.loads(row["region_shape_attributes"]), json.loads(row["region_attributes"])
        assert shape["name"] == "rect" and attributes["track"] == number
        assert (shape["x"], shape["y"], shape["x"] + shape["width"], shape["y"] + shape["height"]) == region[4:8]
        assert int(row["region_id"]) < int(row["region_count"]) == len(frame.regions) - 1


def test_movement_loads_its_tracks(tmp_path, frames):
    """`movement` pulls in napari and other large packages, so it is not part of the extra `test`."""
    load_bboxes = pytest.importorskip("movement.io.load_bboxes")
    tracks = load_bboxes.from_via_tracks_file(write(tmp_path, "movement", frames), fps=10)
    individuals = tracks.coords[tracks.position.dims[-1]].values.tolist()
    assert individuals == ["id_1", "id_3"]
    np.testing.assert_allclose(tracks.time, [0, 0.1, 0.2])
    position, shape = np.full((3, 2, 2), np.nan), np.full((3, 2, 2), np.nan)
    for frame, number, region in objects(frames):
        box = np.array(region[4:8]).reshape(2, 2)
        position[frame.number, :, individuals.index(f"id_{number}")] = box.mean(0)
        shape[frame.number, :, individuals.index(f"id_{number}")] = box[1] - box[0]
    np.testing.assert_allclose(tracks.position, position)
    np.testing.assert_allclose(tracks.shape, shape)


@pytest.mark.parametrize("name", FORMATS)
def test_a_video_without_objects(tmp_path, frames, name):
    alone = [frame._replace(regions={1: frame.regions[1]}, slots=np.ones_like(frame.slots)) for frame in frames]
    path = write(tmp_path, name, alone)
    if name == "coco":
        assert json.loads(path.read_text())["annotations"] == []


def test_unknown_formats():
    check_formats(("coco", "mot"))
    with pytest.raises(ConfigError, match="unknown --formats 'coca': give some of coco, mot, tiff, movement"):
        check_formats(("coco", "coca"))
