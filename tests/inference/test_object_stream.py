"""Recordings decomposed in tiles by a model that sees colours, from Python and into files."""

import csv
import json

import numpy as np
import pytest
import tifffile
from by_color import ByColor
from html_page import Reader
from sample_recordings import write_raw

from stii_jax.config import ConfigError
from stii_jax.data import DataError
from stii_jax.data.tracks.points import read_tracks
from stii_jax.data.video.view import View
from stii_jax.inference import decompose as module
from stii_jax.inference.model import Model
from stii_jax.inference.output_folder import NAMES, OF_ONE_VIEW
from stii_jax.inference.remarks import Remarks, Sight
from stii_jax.inference.request import Request, make_request
from stii_jax.inference.track_request import TrackRequest
from stii_jax.inference.track_scores import score_folder, score_model
from stii_jax.inference.viewing import Viewing
from stii_jax.report.tracks import write_tracks_page
from stii_jax.report.tracks.folder import open_decomposition

SIDE, HEIGHT, WIDTH, NUM_FRAMES = 16, 20, 40, 12
RED, GREEN = (255, 0, 0), (0, 255, 0)


@pytest.fixture(scope="module")
def model():
    return Model(network=ByColor(SIDE), params={}, view=View(size=SIDE, square=True))


def red_at(t):
    return 1 + 3 * t, 4


def green_at(t):
    return 34 - 3 * t, 12


def labels_at(t):
    """A red square moves right from the first frame on, a green one left from the fourth on."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, (x, y) in enumerate([red_at(t), *[green_at(t)] * (t >= 3)], 1):
        labels[y : y + 4, max(x, 0) : x + 4] = number
    return labels


LABELS = np.stack([labels_at(t) for t in range(NUM_FRAMES)])
FRAMES = np.array([(0, 0, 0), RED, GREEN], np.uint8)[LABELS]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_raw(tmp_path_factory.mktemp("videos") / "video.mkv", FRAMES)


@pytest.fixture(scope="module")
def found(model, video, tmp_path_factory):
    output = tmp_path_factory.mktemp("outputs") / "found"
    request = Request(video, output, 0, ("coco", "mot", "tiff", "movement"), True, viewing=Viewing(tile=SIDE))
    return output, module.decompose(model, request, {"model": "colors"}, {})


def read_table(folder):
    with (folder / "trajectories.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_stream(model):
    stream = model.stream(FRAMES, tile=SIDE)
    results = list(stream)
    np.testing.assert_array_equal([result.mask for result in results], LABELS)
    assert len(stream.tiles) == 8 and stream.num_labels == 3 and stream.find_background(results) == 0
    assert stream.notes == ["8 tiles of 16x16 pixels: each frame takes about 8 times as long as one view"]
    last = results[-1]
    assert {number: region[1:3] for number, region in last.regions.items() if number} == {1: (36, 6), 2: (3, 14)}
    assert last.slot_masks.shape == (8, 3, SIDE, SIDE) and last.frame.shape == last.reconstruction.shape
    left, top, right, bottom = stream.tiles[5]
    np.testing.assert_array_equal(last.frame[5], FRAMES[-1, top:bottom, left:right])
    np.testing.assert_array_equal(last.appearances[5, 1], last.frame[5] / np.float32(255))


def test_a_result(model):
    result = model.decompose(FRAMES, tile=SIDE, fps=10.0)
    np.testing.assert_array_equal(result.masks, LABELS)
    assert result.background == 0 and result.tracks.centroids.shape == (NUM_FRAMES, 3, 2)
    np.testing.assert_array_equal(result.tracks.visible[:, 2], np.arange(NUM_FRAMES) >= 3)
    np.testing.assert_allclose(result.tracks.centroids[:, 1, 0], 3 + 3 * np.arange(NUM_FRAMES))
    assert result.novelty["relative_error"]["video"] == 0
    with pytest.raises(DataError, match=r"does not hold appearances and masks: use the frames of Model\.stream"):
        result.slots  # noqa: B018
    with pytest.raises(DataError, match="frames cannot be predicted in tiles"):
        result.predict(1)
    with pytest.raises(DataError, match="frames cannot be predicted in tiles"):
        model.stream(FRAMES, 2, tile=SIDE)


def test_objects_after_a_cut_are_new(model, monkeypatch):
    sights = iter([Sight(is_cut=t == 6) for t in range(NUM_FRAMES)])
    monkeypatch.setattr(Remarks, "see", lambda *_: next(sights))
    masks = model.decompose(FRAMES, tile=SIDE).masks
    np.testing.assert_array_equal(masks[:6], LABELS[:6])
    np.testing.assert_array_equal(masks[6:] > 0, LABELS[6:] > 0)
    assert set(np.unique(masks[6:])) == {0, 3, 4}


def test_one_tile_is_the_same_as_none(model):
    square = FRAMES[:, :SIDE, :SIDE]
    stream, plain = model.stream(square, tile=SIDE), model.stream(square)
    for tiled, whole in zip(stream, plain, strict=True):
        np.testing.assert_array_equal(tiled.mask, whole.mask)
        np.testing.assert_array_equal(tiled.appearances, whole.appearances)
        assert tiled.regions == whole.regions
    assert stream.tiles == [] and stream.notes == plain.notes


def test_a_recording_shorter_than_the_search_for_the_background(model):
    np.testing.assert_array_equal(model.decompose(FRAMES[:1], tile=SIDE).masks, LABELS[:1])


def test_files(found):
    output, summary = found
    assert summary.items() >= {"num_slots": 3, "num_objects": 2, "background_slot": 0, "num_frames": NUM_FRAMES}.items()
    assert (
        len(summary["tiles"]) == 8 and summary["tiles"][0] == (0, 0, 16, 16) and summary["view_box"] == (0, 0, 40, 20)
    )
    formats = {"coco.json", "mot.txt", "labels.tif", "via_tracks.csv", "objects"}
    assert {path.name for path in output.iterdir()} == {*NAMES, *formats} - {*OF_ONE_VIEW} == set(summary["files"])
    with np.load(output / "masks.npz") as arrays:
        np.testing.assert_array_equal(arrays["segmentation"], LABELS)
        assert len(np.unique(arrays["palette"][:20], axis=0)) == 20
    table = read_table(output)
    expected = [(t, number) for t in range(NUM_FRAMES) for number in range(2 + (t >= 3))]
    assert [(int(row["frame"]), int(row["object"])) for row in table] == expected
    assert all(row["background"] == str(int(row["object"] == "0")) for row in table)


def test_formats(found):
    output, _ = found
    np.testing.assert_array_equal(tifffile.imread(output / "labels.tif"), LABELS)
    tracks = {1, 2}
    annotations = json.loads((output / "coco.json").read_text())["annotations"]
    assert {each["track_id"] for each in annotations} == tracks and len(annotations) == 2 * NUM_FRAMES - 3
    mot = np.loadtxt(output / "mot.txt", delimiter=",")
    assert set(mot[:, 1]) == tracks and mot[0, :6].tolist() == [1, 1, 2, 5, 4, 4]
    assert len((output / "via_tracks.csv").read_text().splitlines()) == 1 + len(annotations)
    assert {path.name for path in (output / "objects").iterdir()} == {"slot_1.mp4", "slot_2.mp4"}


def test_the_page(found, tmp_path):
    """Its table has every object in every frame."""
    output, _ = found
    read = open_decomposition(output)
    assert [len(rows) for rows in read.rows] == [3] * NUM_FRAMES
    assert read.rows[0][2] | {"frame": "0"} == dict.fromkeys(read.rows[0][2], "") | {
        **{"frame": "0", "time": "0.0", "object": "2", "visible": "0", "area": "0", "background": "0"},
        **{"predicted": "0"},
    }
    write_tracks_page(output, tmp_path / "page.html")
    page = Reader((tmp_path / "page.html").read_text())
    data = json.loads(page.texts["script"][0])
    assert data["slots"] == 3 and data["table"] == read.table and data["box"] == [0, 0, WIDTH, HEIGHT]
    assert "2 objects and the background" in (tmp_path / "page.html").read_text()


def test_scores_of_tracks(model, found, video, tmp_path):
    output, _ = found
    lines = [f"{t},red,{red_at(t)[0] + 2},6" for t in range(NUM_FRAMES)]
    lines += [f"{t},green,{green_at(t)[0] + 2},14" for t in range(3, NUM_FRAMES)]
    (tmp_path / "tracks.csv").write_text("\n".join(["frame,object,x,y", *lines]))
    request = TrackRequest(read_tracks(tmp_path / "tracks.csv", {}), {}, output)
    viewed = request._replace(input=video, viewing=Viewing(tile=SIDE))
    for scores in (score_folder(request), score_model(model, viewed)[0]):
        expected = {"num_objects": 2, "found": 1, "identity_switches": 0, "point_in_own_mask": 1, "hota": 1}
        assert scores.items() >= expected.items()


def test_flags():
    assert make_request("decompose", "a", "b", None, viewing={"tile": 180}).viewing.tile == 180
    with pytest.raises(ConfigError, match="--predict does not work with --tile: leave out one of them"):
        make_request("decompose", "a", "b", 3, viewing={"tile": 180})
    with pytest.raises(ConfigError, match="--tile is 0, expected the side of a square in pixels"):
        make_request("decompose", "a", "b", None, viewing={"tile": 0})
    with pytest.raises(ConfigError, match="--tile would do nothing: give --mode decompose"):
        make_request("train", None, None, None, viewing={"tile": 180})
