"""Decompositions of one view into objects: separate pieces of a slot have numbers of their own."""

import csv
import itertools
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from by_color import ByColor
from html_page import Reader
from sample_recordings import write_raw

from stii_jax.config import ConfigError
from stii_jax.data import resolve_config
from stii_jax.data.shapes.render import render
from stii_jax.data.shapes.scene import Scene, draw_scenes
from stii_jax.data.video.view import View
from stii_jax.inference import decompose as module
from stii_jax.inference.decomposed_folder import ObservedFrame
from stii_jax.inference.model import Model
from stii_jax.inference.object_stream import CHANGED
from stii_jax.inference.object_tracker import ObjectTracker
from stii_jax.inference.output_folder import NAMES, OF_FUTURES
from stii_jax.inference.recordings import Recording
from stii_jax.inference.remarks import Remarks, Sight
from stii_jax.inference.request import Request, make_request
from stii_jax.inference.track_request import make_track_request
from stii_jax.inference.track_scores import Recorded, score_frames
from stii_jax.inference.viewing import Viewing
from stii_jax.report.tracks import write_tracks_page
from stii_jax.report.tracks.folder import open_decomposition
from stii_jax.report.tracks.futures import read_futures
from stii_jax.runs.fine_tuning_settings import make_fine_tuning
from stii_jax.runs.loading import load_model
from stii_jax.visualization.regions import Canvas

SIDE, NUM_FRAMES = 24, 14
RED, GREEN = 0, 2
"""Slots of the model; the background has slot 1."""


def places_at(t):
    """The corners of two red squares and a green one, which appears in the fourth frame."""
    return [(1 + t, 2), (20 - t, 10), *[(4, 18)] * (t >= 3)]


def labels_at(t):
    labels = np.zeros((SIDE, SIDE), np.uint8)
    for number, (x, y) in enumerate(places_at(t), 1):
        labels[y : y + 3, x : x + 3] = number
    return labels


LABELS = np.stack([labels_at(t) for t in range(NUM_FRAMES)])
FRAMES = np.array([(0, 0, 0), (255, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)[LABELS]
SLOTS = np.array([1, RED, RED, GREEN], np.uint8)[LABELS]


@pytest.fixture(scope="module")
def model():
    return Model(network=ByColor(SIDE), params={}, view=View(size=SIDE, square=True))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_raw(tmp_path_factory.mktemp("videos") / "video.mkv", FRAMES)


@pytest.fixture(scope="module")
def found(model, video, tmp_path_factory):
    output = tmp_path_factory.mktemp("outputs") / "found"
    request = Request(video, output, 2, object_clips=True, viewing=Viewing(separate=True), num_futures=2)
    return output, module.decompose(model, request, {"model": "colors"}, {})


def test_pieces_of_a_slot_are_objects(model):
    """Each keeps its number. Without `separate`, labels are slots."""
    result = model.decompose(FRAMES, separate=True)
    np.testing.assert_array_equal(result.masks, LABELS)
    assert result.background == 0 and result.tracks.visible.shape == (NUM_FRAMES, 4)
    np.testing.assert_allclose(result.tracks.centroids[:, 2, 0], 21.5 - np.arange(NUM_FRAMES))
    assert result.slots.mask.shape == (NUM_FRAMES, 3, SIDE, SIDE)
    for separate in (False, None):
        plain = model.decompose(FRAMES, separate=separate)
        assert (repr(result), repr(plain)) == ("<Result: 14 frames, 3 objects>", "<Result: 14 frames, 3 slots>")
        np.testing.assert_array_equal(plain.masks, SLOTS)
        assert plain.background == 1


def test_pieces_are_objects_if_the_background_is_removed(model):
    """The default depends on what the model sees: a moving camera prevents the removal."""
    frames = np.maximum(FRAMES, 60)
    removed = model.stream(frames, background="median")
    assert removed.is_numbered and removed.video.background == "median"
    assert not model.stream(frames, background="median", separate=False).is_numbered
    moving = np.random.default_rng(0).integers(0, 256, FRAMES.shape, np.uint8)
    kept = model.stream(moving, background="median")
    assert kept.video.background == "keep" and not kept.is_numbered


class Timid(ByColor):
    """Every pixel is most likely background: three in five for it, two for the first slot."""

    def decompose(self, params, video, keys, state=None, start=0):
        found, state = super().decompose(params, video, keys, state)
        shares = jnp.array([0.4, 0.6, 0.0])[:, None, None]
        return found._replace(masks=jnp.broadcast_to(shares, found.masks.shape)), state


def test_pixels_that_differ_from_a_removed_background_belong_to_objects():
    """No pixel of the background does, nor one that differs a little."""
    model = Model(network=Timid(SIDE), params={}, view=View(size=SIDE, square=True))
    scene = np.random.default_rng(0).integers(0, 100, (SIDE, SIDE, 3), np.uint8)
    moving = np.where(LABELS < 3, LABELS, 0)
    frames = np.where(moving[..., None] > 0, np.uint8(220), scene)
    frames[7, 20:23, 20:23] += 12
    np.testing.assert_array_equal(model.decompose(frames, background="median").masks, moving)
    assert not model.decompose(frames, separate=True).masks.any()


def test_a_large_slot(model):
    """A slot of up to half of the view is an object. A larger one is background until it vanishes."""
    frames = np.zeros((12, SIDE, SIDE, 3), np.uint8)
    heights = np.array([11] * 5 + [13] + [11] * 2 + [0] + [11] * 3)
    for frame, height in zip(frames, heights):
        frame[:height, :, 0] = 255
    areas = [np.count_nonzero(mask) for mask in model.decompose(frames, separate=True).masks]
    assert areas == [11 * SIDE] * 5 + [0] * 4 + [11 * SIDE] * 3


def test_predicted_objects_keep_their_numbers(model):
    result = model.decompose(FRAMES, separate=True)
    predicted = result.predict(2, samples=2)
    np.testing.assert_array_equal(predicted.masks, [LABELS[-1]] * 2)
    assert [(future.masks == 0).all() for future in predicted.futures] == [True, True]
    np.testing.assert_array_equal(result.predict(1).masks, [LABELS[-1]])
    streamed = list(model.stream(FRAMES, 2, separate=True))
    np.testing.assert_array_equal([frame.mask for frame in streamed[NUM_FRAMES:]], [LABELS[-1]] * 2)


def test_before_a_removed_background_every_object_moves_on_with_its_outline():
    """The model itself predicts the last frame. Steady objects have one future."""
    model = Model(network=Timid(SIDE), params={}, view=View(size=SIDE, square=True))
    scene = np.random.default_rng(0).integers(60, 70, (SIDE, SIDE, 3), np.uint8)
    labels = np.stack([np.where(labels_at(t) < 3, labels_at(t), 0) for t in range(NUM_FRAMES + 4)])
    frames = np.where(labels[..., None] > 0, np.uint8(250), scene)[:NUM_FRAMES]
    result = model.decompose(frames, background="median")
    predicted = result.predict(3, samples=2)
    expected = labels[NUM_FRAMES:-1]
    np.testing.assert_array_equal(predicted.masks, expected)
    for future in predicted.futures:
        np.testing.assert_array_equal(future.masks, expected)
    np.testing.assert_array_equal(result.predict(1).masks, labels[-1:])
    streamed = list(model.stream(frames, 3, background="median"))
    np.testing.assert_array_equal([frame.mask for frame in streamed[NUM_FRAMES:]], expected)


def test_objects_after_a_cut_are_new(model, monkeypatch):
    sights = iter([Sight(is_cut=t == 6) for t in range(NUM_FRAMES)])
    monkeypatch.setattr(Remarks, "see", lambda *_: next(sights))
    masks = model.decompose(FRAMES, separate=True).masks
    np.testing.assert_array_equal(masks[:6], LABELS[:6])
    np.testing.assert_array_equal(masks[6:], np.where(LABELS[6:] > 0, LABELS[6:] + 3, 0))


def test_files(found):
    output, summary = found
    assert summary.items() >= {"num_slots": 3, "num_objects": 3, "background_slot": 0, "num_futures": 2}.items()
    assert "tiles" not in summary
    assert {path.name for path in output.iterdir()} == {*NAMES, *OF_FUTURES, "objects"} == set(summary["files"])
    assert {path.name for path in (output / "objects").iterdir()} == {f"slot_{number}.mp4" for number in (1, 2, 3)}
    with np.load(output / "masks.npz") as arrays:
        np.testing.assert_array_equal(arrays["segmentation"], [*LABELS, LABELS[-1], LABELS[-1]])
    with (output / "futures.csv").open() as file:
        rows = list(csv.DictReader(file))
    places = [(int(row["future"]), int(row["frame"]), int(row["object"])) for row in rows]
    assert places == [(f, NUM_FRAMES + t, label) for f in (0, 1) for t in (0, 1) for label in range(4)]


def test_slots_keep_their_own_colors(model, video, tmp_path, monkeypatch):
    """In pictures of the slots, the background's slot is the grey one, although label 0 is the background."""
    drawn, draw = [], module.visualize.animation_frame
    monkeypatch.setattr(module.visualize, "animation_frame", lambda *given: drawn.append(given[2]) or draw(*given))
    module.decompose(model, Request(video, tmp_path / "found", viewing=Viewing(separate=True)), {"model": ""}, {})
    np.testing.assert_array_equal(drawn[0], module.visualize.slot_colors(3, 1))


def test_the_page(found, tmp_path):
    output, _ = found
    read = open_decomposition(output)
    assert [len(rows) for rows in read.rows] == [4] * (NUM_FRAMES + 2)
    futures = read_futures(read)
    assert futures is not None and [len(paths) for paths in futures] == [2] * 4
    write_tracks_page(output, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "3 objects and the background" in text and " tiles of" not in text
    assert json.loads(Reader(text).texts["script"][0])["slots"] == 4


def test_flags():
    for value in (True, False, None):
        assert make_request("decompose", "a", "b", None, viewing={"separate": value}).viewing.separate is value
    with pytest.raises(ConfigError, match="--noseparate does not work with --tile"):
        make_request("decompose", "a", "b", None, viewing={"separate": False, "tile": 180})
    with pytest.raises(ConfigError, match="--separate would do nothing: give --mode decompose"):
        make_request("train", None, None, None, viewing={"separate": False})
    with pytest.raises(ConfigError, match="--separate would do nothing in training"):
        make_fine_tuning("fine_tune", ".", {"separate": True}, "balls")


@pytest.mark.slow
@pytest.mark.parametrize("index", [24, 29, 33])
def test_objects_that_share_a_slot_are_separated(index):
    """On generated recordings whose walkers or polygons the included model draws with too few slots."""
    from sklearn.metrics import adjusted_rand_score

    config = resolve_config("shapes", "default", {"num_frames": 240})
    scenes = draw_scenes(np.random.default_rng(1), 36, config)._asdict()
    video, truth = render(Scene(**{key: values[index] for key, values in scenes.items()}), 0, 240, 64)
    stream = load_model("balls").stream(video, background="median")
    scores = []
    for frame, labels in zip(itertools.islice(stream, 20), truth):
        foreground = labels > 0
        found = frame.mask, frame.slot_masks.argmax(axis=0)
        scores.append([adjusted_rand_score(labels[foreground], each[foreground]) for each in found])
    objects, slots = np.mean(scores, axis=0)
    print(f"F-ARI {objects:.2f} by objects, {slots:.2f} by slots")
    assert objects > slots + 0.2


@pytest.mark.slow
def test_walkers_who_pass_each_other(samples):
    """A street, by the rules alone, without slots: outlines and colours keep most of the eight walkers apart."""
    pytest.importorskip("trackeval")
    path, side = samples / "pedestrian" / "pets2009_vtest_480x360_h264.avi", 64
    recording = Recording(path, View(size=side, region=(0, 0, 480, 360), background="median"))
    tracker = ObjectTracker(side, recording.box, 480, 360, 0, recording.detail)
    canvas = Canvas((side, side), recording.box, 480, 360)
    no_slots = np.stack([np.ones((side, side)), np.zeros((side, side))]).astype(np.float32)

    def frames():
        for frame in recording:
            labels = tracker.join(no_slots, frame.detailed.picture, frame.detailed.change >= CHANGED)
            places = {number: (region.x, region.y) for number, region in canvas.measure(labels).items() if number}
            yield ObservedFrame(labels.slots, places)

    boxes = str(Path(__file__).parents[1] / "data" / "pedestrian_boxes.csv")
    request = make_track_request("evaluate", boxes, ["body_length=25"], str(path))
    scores = score_frames(frames(), Recorded(480, 360, 795), request)
    print({key: scores[key] for key in ("objects_found", "identity_switches", "hota", "idf1", "mota")})
    assert recording.detail == 2
    assert scores["objects_found"] > 0.7 and scores["hota"] > 0.65
    assert scores["touching"]["objects_found"] > 0.65 and scores["touching"]["hota"] > 0.65
