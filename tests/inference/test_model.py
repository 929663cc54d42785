"""The Python interface: a trained model on files and arrays gives the command line's results."""

import csv

import jax
import numpy as np
import pytest
from sample_recordings import write_raw
from test_decompose import noise
from toy import overrides, use_toy_model

import stii_jax
from stii_jax.config import ConfigError
from stii_jax.data import DataError
from stii_jax.inference.outputs import COLUMNS
from stii_jax.inference.request import Request
from stii_jax.main import run
from stii_jax.pretrained.files import ModelFileError

pytestmark = pytest.mark.usefixtures("quick_compiles")

T, K, S, HEIGHT, WIDTH = 6, 2, 8, 16, 24


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    use_toy_model(monkeypatch)


@pytest.fixture
def model(workdir):
    return stii_jax.load_model(workdir)


@pytest.fixture
def frames():
    return noise(T)


def number(cell):
    return float(cell) if cell else np.nan


def test_the_public_names():
    assert set(stii_jax.__all__) == {
        *("Model", "Result", "fine_tune", "load_config", "load_model", "open_dataset", "train")
    }
    assert all(callable(getattr(stii_jax, name)) for name in stii_jax.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        stii_jax.nothing  # noqa: B018


def test_a_file_gives_what_the_command_line_writes(model, workdir, tmp_path, frames):
    video, output = write_raw(tmp_path / "video.mkv", frames), tmp_path / "found"
    run("decompose", None, workdir, [], request=Request(video, output))
    found = model.decompose(str(video))
    with np.load(output / "masks.npz") as arrays:
        np.testing.assert_array_equal(found.masks, arrays["segmentation"])
        np.testing.assert_array_equal(found.times, arrays["time"])
    with (output / "trajectories.csv").open() as file:
        table = list(csv.reader(file))
    assert table[0] == list(COLUMNS) == list(found.tracks.to_dataframe().columns)
    rows = np.array([[number(cell) for cell in row] for row in table[1:]])
    np.testing.assert_allclose(found.tracks.to_dataframe().to_numpy(float), rows, atol=1e-6)


def test_arrays_and_single_frames_give_what_the_file_gives(model, tmp_path, frames):
    """The file is lossless."""
    whole = model.decompose(write_raw(tmp_path / "video.mkv", frames))
    for given in (frames, list(frames), iter(frames)):
        found = model.decompose(given, fps=10.0)
        np.testing.assert_array_equal(found.masks, whole.masks)
        np.testing.assert_allclose(found.times, np.arange(T) / 10)


def test_shapes_and_ranges(model, frames):
    found = model.decompose(frames)
    assert found.masks.shape == (T, HEIGHT, WIDTH) and set(np.unique(found.masks)) <= {0, 1, 255}
    appearance, mask = found.slots
    assert appearance.shape == (T, K, S, S, 3) and mask.shape == (T, K, S, S)
    np.testing.assert_allclose(mask.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(found.reconstruction, (mask[..., None] * appearance).sum(1), atol=1e-6)
    assert found.reconstruction.min() >= 0 and found.reconstruction.max() <= 1
    assert found.background in (0, 1) and found.damage is None and found.novelty["is_novel"] is None


def test_tracks(model, frames):
    found = model.decompose(frames)
    tracks = found.tracks
    for slot in range(K):
        inside = found.masks == slot
        np.testing.assert_array_equal(tracks.areas[:, slot], inside.sum((1, 2)))
        np.testing.assert_array_equal(tracks.visible[:, slot], inside.any((1, 2)))
        for t in np.flatnonzero(tracks.visible[:, slot]):
            rows, columns = np.nonzero(inside[t])
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_array_equal(tracks.boxes[t, slot], box)
            x, y = tracks.centroids[t, slot]
            assert box[0] < x < box[2] and box[1] < y < box[3]
    assert np.isnan(tracks.centroids[~tracks.visible]).all() and np.isnan(tracks.boxes[~tracks.visible]).all()


def test_predictions_go_on(model, frames):
    found = model.decompose(frames, fps=10.0)
    streamed = list(model.stream(frames, 3, fps=10.0))
    first, second = found.predict(2), found.predict(1)
    assert [result.number for result in (*first.frames, *second.frames)] == [6, 7, 8]
    np.testing.assert_allclose([*first.times, *second.times], [0.6, 0.7, 0.8])
    for result, expected in zip((*found.frames, *first.frames, *second.frames), streamed, strict=True):
        np.testing.assert_array_equal(result.mask, expected.mask)
        assert result.predicted == expected.predicted == (expected.number >= T)
    assert first.background == found.background and len(found.frames) == T
    with pytest.raises(DataError, match="num_frames is 0: predict at least one frame"):
        found.predict(0)


def test_futures(model, frames):
    found, same, other, plain = (model.decompose(frames, fps=10.0) for _ in range(4))
    future, fewer = found.predict(3, samples=4, seed=1), same.predict(3, samples=2, seed=1)
    expected = plain.predict(3)
    assert len(future.futures) == 4 and expected.futures == found.futures == ()
    np.testing.assert_array_equal(future.slots.appearance, expected.slots.appearance)
    first = np.stack([sample.slots.appearance for sample in future.futures])
    np.testing.assert_array_equal(first[:2], [sample.slots.appearance for sample in fewer.futures])
    assert len({sample.tobytes() for sample in (*first, expected.slots.appearance)}) == 5
    another = other.predict(3, samples=1, seed=2).futures[0]
    assert not np.array_equal(another.slots.appearance, first[0])
    for sample in future.futures:
        np.testing.assert_array_equal(sample.times, expected.times)
        assert [frame.number for frame in sample.frames] == [6, 7, 8] and sample.background == found.background
        assert all(frame.predicted for frame in sample.frames)
    np.testing.assert_array_equal(found.predict(1).masks, plain.predict(1).masks)
    assert [frame.number for frame in future.futures[0].predict(1).frames] == [9]


def test_futures_that_cannot_be(model, frames, monkeypatch):
    found = model.decompose(frames)
    with pytest.raises(DataError, match="samples is -1: give the number of futures to sample, or 0 for none"):
        found.predict(2, samples=-1)
    monkeypatch.setattr(model.network, "can_sample", False)
    with pytest.raises(DataError, match="predicts a single future: leave out the number of futures"):
        found.predict(2, samples=1)
    assert [frame.number for frame in found.predict(1).frames] == [6]


def test_a_stream_takes_frames_as_it_goes(model, frames):
    taken = []

    def camera():
        for frame in frames:
            taken.append(frame)
            yield frame

    for result in model.stream(camera()):
        assert len(taken) <= result.number + 2


def test_grey_frames(model, frames):
    grey = frames[..., 0]
    found = model.decompose(grey)
    np.testing.assert_array_equal(found.masks, model.decompose(np.repeat(grey[..., None], 3, axis=-1)).masks)


@pytest.mark.parametrize(
    ("video", "options", "message"),
    [
        (np.zeros((0, 16, 24, 3), np.uint8), {}, "the video has no frames"),
        (np.zeros((2, 16, 24, 3)), {}, r"frame 0 is float64 of shape \(16, 24, 3\), .* multiply values in \[0, 1\] by"),
        (np.zeros((2, 16, 24, 4), np.uint8), {}, r"frame 0 is uint8 of shape \(16, 24, 4\), expected uint8 of shape"),
        (np.zeros((16, 3), np.uint8), {}, r"frame 0 is uint8 of shape \(3,\)"),
        ([np.zeros((16, 24), np.uint8), np.zeros((16, 20), np.uint8)], {}, "frame 1 has 20x16 pixels, the first 24x16"),
        ("nowhere.mp4", {}, "nowhere.mp4"),
        ("nowhere.mp4", {"fps": 5.0}, "fps is for frames in memory"),
        (np.zeros((2, 16, 24), np.uint8), {"value_range": (0.0, 9.0)}, "value_range is for files"),
    ],
)
def test_invalid_videos(model, video, options, message):
    with pytest.raises(DataError, match=message) as caught:
        model.decompose(video, **options)
    assert "\n" not in str(caught.value)


def test_other_settings_of_the_evaluation(workdir, frames):
    assert stii_jax.load_model(workdir, ["eval.num_slots=3"]).decompose(frames).slots.mask.shape[1] == 3
    own, other = stii_jax.load_model(workdir), stii_jax.load_model(workdir, ["eval.background=bright"])
    assert (own.view.background, other.view.background) == ("keep", "bright")
    given = own.decompose(frames, background="bright")
    np.testing.assert_array_equal(other.decompose(frames).slots.mask, given.slots.mask)
    with pytest.raises(ConfigError, match=r"was trained with other settings \(model.num_slots: .*: leave those out"):
        stii_jax.load_model(workdir, ["model.num_slots=3"])
    with pytest.raises(ConfigError, match=r"config.eval.num_slots is -1, expected at least 0"):
        stii_jax.load_model(workdir, ["eval.num_slots=-1"])


def test_invalid_models(tmp_path):
    with pytest.raises(ModelFileError, match="no model 'quikstart'; nearest: quickstart"):
        stii_jax.load_model("quikstart")
    with pytest.raises(
        ConfigError,
        match=f"no run in {tmp_path}: give the folder of a run, or one of balls, general, quickstart, tabletop",
    ):
        stii_jax.load_model(tmp_path)


def test_training(tmp_path):
    settings = overrides(tmp_path / "data", train__num_steps=2, eval__periodic_videos=0)
    config = stii_jax.load_config("default", settings)
    model = stii_jax.train(config, tmp_path / "run")
    assert (model.facts["step"], model.num_slots) == (2, K)
    again = stii_jax.train("default", tmp_path / "run", settings)
    jax.tree.map(np.testing.assert_array_equal, model.params, again.params)
    source = stii_jax.open_dataset("bouncing_balls", "mini", config.data.options.to_dict(), str(tmp_path / "data"))
    video = next(source.eval_batches("test", 2, 1))["video"][0]
    assert model.decompose(video).masks.shape == (2, S, S)
