"""A model on a video file: equal to the evaluation, with consistent output files, complete or absent."""

import csv
import json
import shutil

import av
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image
from sample_recordings import write_raw, write_video
from toy import ToyModel, make_config, overrides, save_run, use_toy_model

from stii_jax.config import ConfigError
from stii_jax.data import DataError
from stii_jax.data.video.view import View
from stii_jax.evaluation.evaluator import Evaluator
from stii_jax.inference import decompose as module
from stii_jax.inference import output_folder, outputs
from stii_jax.inference.output_folder import NAMES
from stii_jax.inference.recordings import RecordedFrame, Recording
from stii_jax.inference.request import Request
from stii_jax.inference.stream import Stream
from stii_jax.main import ERRORS, run
from stii_jax.models import registry
from stii_jax.runs.setup import load_dataset
from stii_jax.storage.checkpoints import CheckpointError
from stii_jax.visualization.regions import OUTSIDE as NOT_SEEN
from stii_jax.visualization.regions import Canvas
from stii_jax.visualization.visualize import BACKGROUND, PREDICTED, animation_frame, slot_colors

pytestmark = pytest.mark.usefixtures("quick_compiles")

SIZE = 8
MODEL = ToyModel(SIZE)
TABLE_TYPES = (int, float, int, int, *[float] * 8, int, int)


@pytest.fixture(scope="module")
def params():
    return MODEL.init(jax.random.key(0))


@pytest.fixture(scope="module")
def workdir(params, tmp_path_factory):
    """The workdir of a run of three steps."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    save_run(folder, params)
    return folder


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    use_toy_model(monkeypatch)


def noise(num_frames, height=16, width=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


def recorded(frames):
    return (RecordedFrame(frame, frame, t / 25) for t, frame in enumerate(frames))


def decompose(workdir, video, output, num_predicted=0, settings=(), **options):
    run("decompose", None, workdir, list(settings), request=Request(video, output, num_predicted, **options))
    summary = json.loads((output / "decomposition.json").read_text())
    with np.load(output / "masks.npz", allow_pickle=False) as archive:
        arrays = dict(archive)
    with (output / "trajectories.csv").open() as file:
        head, *rows = csv.reader(file)
    assert tuple(head) == outputs.COLUMNS
    return summary, arrays, [tuple(kind(value or "nan") for kind, value in zip(TABLE_TYPES, row)) for row in rows]


def frames_of(output, name):
    with av.open(str(output / name)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


@pytest.fixture
def video(tmp_path):
    return write_raw(tmp_path / "video.mkv", noise(7))


def test_files_agree(workdir, video, params, tmp_path, capsys):
    output = tmp_path / "deep" / "results"
    summary, arrays, rows = decompose(workdir, video, output, num_predicted=3)
    assert {path.name for path in output.iterdir()} == set(NAMES) == set(summary["files"])
    assert (
        summary.items()
        >= {
            "input": str(video),
            "input_size": [24, 16],
            "view_box": [4, 0, 20, 16],
            "fps": 10,
            "frame_stride": 1,
            "num_frames": 7,
            "num_predicted": 3,
            "damage": None,
            "size": 8,
            "mask_scale": 1,
            "num_slots": 2,
            "step": 3,
            "dataset": "bouncing_balls/mini",
            "workdir": str(workdir),
        }.items()
    )
    # Masks are those of the model, 8x8 for the middle 16x16 pixels, in the frames of the input.
    segmentation, background = arrays["segmentation"], summary["background_slot"]
    canvas, items = Canvas((SIZE, SIZE), (4, 0, 20, 16), 24, 16), list(stream(params, video, 3))
    expected = [canvas.segment(np.asarray(item.decomposition.masks)[0, 0]) for item in items]
    np.testing.assert_array_equal(segmentation, [labels.slots for labels in expected])
    assert (segmentation.shape, segmentation.dtype) == ((10, 16, 24), np.uint8)
    assert (segmentation[:, :, [*range(4), *range(20, 24)]] == NOT_SEEN).all()
    labels = np.concatenate([np.asarray(item.decomposition.segmentation).ravel() for item in items])
    assert background == np.bincount(labels).argmax()
    np.testing.assert_array_equal(arrays["palette"][:2], slot_colors(2, background))
    assert arrays["time"] == pytest.approx(np.arange(10) / 10, abs=1e-3)

    images = sorted((output / "masks").iterdir())
    assert [image.name for image in images] == [f"{t:06}.png" for t in range(10)]
    for image, labels in zip(images, segmentation):
        with Image.open(image) as opened:
            np.testing.assert_array_equal(np.asarray(opened), labels)

    assert [row[:1] + row[2:3] for row in rows] == [(t, slot) for t in range(10) for slot in range(2)]
    for row in rows:
        found = canvas.measure(expected[row[0]]).get(row[2])
        assert row[1] == pytest.approx(row[0] / 10, abs=1e-3) and row[3] == (found is not None)
        assert row[12:] == (int(row[2] == background), int(row[0] >= 7))
        if found is not None:
            assert row[4:12] == pytest.approx(found[1:], abs=1e-3)
    assert [frame.shape for frame in frames_of(output, "overlay.mp4")] == [(11 * 16, 11 * 24, 3)] * 10
    assert len(frames_of(output, "slots.mp4")) == 10
    with Image.open(output / "slots.gif") as animation:
        assert animation.n_frames == 10 and animation.info["duration"] == 100
    assert "7 frames decomposed and 3 predicted in" in capsys.readouterr().out


def stream(params, video, num_predicted):
    return Stream(MODEL, params).run(Recording(video, View(size=SIZE, square=True)), num_predicted)


def test_files_on_request(workdir, video, tmp_path):
    """Formats of other programs, which do not show predicted frames, and clips; then a run without them."""
    output, wanted = tmp_path / "results", {"coco.json", "mot.txt", "labels.tif", "via_tracks.csv", "objects"}
    options = {"formats": ("coco", "mot", "tiff", "movement"), "object_clips": True}
    summary, _, rows = decompose(workdir, video, output, 2, **options)
    assert {path.name for path in output.iterdir()} == {*NAMES, *wanted} == set(summary["files"])
    visible = [row for row in rows if row[3] and not row[12] and not row[13]]
    assert len(json.loads((output / "coco.json").read_text())["annotations"]) == len(visible) > 0
    assert len((output / "mot.txt").read_text().splitlines()) == len(visible)
    assert len((output / "via_tracks.csv").read_text().splitlines()) == 1 + len(visible)
    with Image.open(output / "labels.tif") as stack:
        assert stack.n_frames == 7
    (slot,) = {row[2] for row in visible}
    with av.open(str(output / "objects" / f"slot_{slot}.mp4")) as clip:
        assert len(list(clip.decode(video=0))) == 7
    decompose(workdir, video, output, overwrite=True)
    assert {path.name for path in output.iterdir()} == set(NAMES)


def test_times_are_kept(workdir, tmp_path):
    times = [5, 6, 17, 40, 41, 90]
    video = write_video(tmp_path / "video.mkv", noise(6), "libx264", times=times)
    summary, arrays, rows = decompose(workdir, video, tmp_path / "results", num_predicted=2)
    assert summary["untimed"] is None
    expected = [*((time - 5) / 100 for time in times), 0.85 + 0.17, 0.85 + 2 * 0.17]  # continues at the mean interval
    assert arrays["time"] == pytest.approx(expected, abs=1e-3)
    assert [row[1] for row in rows[::2]] == pytest.approx(expected, abs=1e-3)
    for name in ("overlay.mp4", "slots.mp4"):
        with av.open(str(tmp_path / "results" / name)) as container:
            assert [frame.time for frame in container.decode(video=0)] == pytest.approx(expected, abs=1e-3)


def test_the_same_as_the_evaluation(workdir, video, params, tmp_path):
    """The evaluator's first video, in batches, chunks and on several devices, and its forecast."""
    config = make_config(tmp_path)
    evaluator = Evaluator(config, load_dataset(config))
    seen = np.stack([View(size=SIZE, square=True).frame(frame) for frame in noise(7)])
    batch = np.stack([seen, *noise(3 * 7, SIZE, SIZE).reshape(3, 7, SIZE, SIZE, 3)])
    parts = evaluator.predict(params, batch, np.arange(4), 3)
    items = list(Stream(MODEL, params).run(Recording(video, View(size=SIZE, square=True)), 3))
    for item, frame in zip(items, seen):
        np.testing.assert_array_equal(item.frame, frame)
    assert [item.frame is None for item in items] == [False] * 7 + [True] * 3
    for i in range(3):
        whole = np.concatenate([parts[0][i][0], parts[1][i][0]])
        np.testing.assert_allclose(np.stack([item.decomposition[i][0, 0] for item in items]), whole, atol=1e-5)
    arrays = decompose(workdir, video, tmp_path / "results", num_predicted=3)[1]
    canvas = Canvas((SIZE, SIZE), (4, 0, 20, 16), 24, 16)
    labels = [canvas.segment(np.asarray(item.decomposition.masks)[0, 0]).slots for item in items]
    np.testing.assert_array_equal(arrays["segmentation"], labels)


def test_deep_frames_and_what_is_said_of_them(workdir, tmp_path, capsys):
    frames = np.arange(4 * 16 * 24, dtype=np.uint16).reshape(4, 16, 24)
    tifffile.imwrite(tmp_path / "a.tif", frames, imagej=True, metadata={"axes": "ZYX", "fps": 5.0})
    summary, *_ = decompose(workdir, tmp_path / "a.tif", tmp_path / "a")
    assert summary["value_range"] == [0, 1535] and (summary["fps"], summary["num_frames"]) == (5, 4)
    assert summary["notes"][:2] == [
        f"{tmp_path / 'a.tif'} has no axis T: its axis Z of length 4 is taken as time",
        "frames hold values 0 to 1535 (16-bit): scaled to 0..255; set --value_range=LOW,HIGH to choose",
    ]
    assert all(f"note: {note}\n" in capsys.readouterr().err for note in summary["notes"][:1])


def test_predicted_frames_are_marked(workdir, video, tmp_path):
    decompose(workdir, video, tmp_path / "results", num_predicted=2)
    with Image.open(tmp_path / "results" / "slots.gif") as animation:
        for t in range(9):
            animation.seek(t)
            pixels = np.asarray(animation.convert("RGB")).astype(int)
            orange = (np.abs(pixels - PREDICTED).sum(-1) < 12).sum()
            assert orange > 1000 if t >= 7 else orange == 0
    for t, frame in enumerate(frames_of(tmp_path / "results", "overlay.mp4")):
        corners = frame[[0, 0, -1, -1], [0, -1, 0, -1]].astype(int)
        assert (np.abs(corners - PREDICTED).max() < 12) == (t >= 7), "the frame has an edge"


def test_a_slot_has_one_color_everywhere(workdir, video, tmp_path, monkeypatch):
    """A slot's colour is the same in the arrays, in the images (see above), and in the drawings."""
    drawn = []
    monkeypatch.setattr(
        module.visualize, "animation_frame", lambda *given: drawn.append(given[2]) or animation_frame(*given)
    )
    summary, arrays, _ = decompose(workdir, video, tmp_path / "results")
    palette = arrays["palette"][:2]
    assert tuple(palette[summary["background_slot"]]) == BACKGROUND
    assert len(drawn) == 7
    np.testing.assert_array_equal(drawn, [palette] * 7)


@pytest.mark.parametrize("num_frames", [1, 25])
def test_any_length(workdir, tmp_path, monkeypatch, num_frames):
    monkeypatch.setattr(outputs, "MAX_ANIMATED", 12)
    video = write_raw(tmp_path / "video.mkv", noise(num_frames))
    summary, arrays, _ = decompose(workdir, video, tmp_path / "results")
    assert summary["num_frames"] == len(arrays["segmentation"]) == num_frames
    assert len(frames_of(tmp_path / "results", "overlay.mp4")) == num_frames
    with Image.open(tmp_path / "results" / "slots.gif") as animation:
        assert animation.n_frames == min(num_frames, 12)


def test_a_folder_of_images_is_in_the_order_of_its_numbers(workdir, video, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number, frame in enumerate(noise(7)):
        Image.fromarray(frame).save(folder / f"frame{number + 5}.png")  # 9 before 10
    (folder / ".frame1.png").touch()
    (folder / "notes.txt").touch()
    results = decompose(workdir, folder, tmp_path / "a")
    assert results[0]["fps"] == 25 and results[0]["num_frames"] == 7
    of_video = decompose(workdir, video, tmp_path / "b")[2]
    assert [row[:1] + row[2:] for row in results[2]] == [row[:1] + row[2:] for row in of_video]
    assert [row[1] for row in results[2][::2]] == [t / 25 for t in range(7)]


def test_more_slots(workdir, video, tmp_path):
    summary, arrays, _ = decompose(workdir, video, tmp_path / "results", settings=["eval.num_slots=5"])
    assert summary["num_slots"] == 5 and arrays["palette"][:5].any(axis=1).all() and not arrays["palette"][5:].any()


def test_earlier_results_are_kept_unless_asked(workdir, video, tmp_path):
    """See tests/inference/test_output_folder.py for the rest."""
    output = tmp_path / "results"
    decompose(workdir, video, output, num_predicted=3)
    short = write_raw(tmp_path / "short.mkv", noise(2))
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    for again in (short, video):
        with pytest.raises(DataError, match="holds the results of a decomposition: give another --output, or --overw"):
            run("decompose", None, workdir, [], request=Request(again, output))
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    (output / "notes.txt").write_text("mine")
    assert decompose(workdir, short, output, overwrite=True)[0]["num_frames"] == 2
    assert len(list((output / "masks").iterdir())) == 2
    assert {path.name for path in output.iterdir()} == {*NAMES, "notes.txt"}


def test_the_same_command_works_after_a_kill(workdir, video, tmp_path, monkeypatch):
    output = tmp_path / "results"
    with monkeypatch.context() as patch:
        patch.setattr(output_folder.shutil, "rmtree", lambda *_, **__: None)
        patch.setattr(module.visualize, "animation_frame", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            decompose(workdir, video, output)
    assert [path.name for path in output.iterdir()] == [".unfinished"]
    decompose(workdir, video, output)
    assert {path.name for path in output.iterdir()} == set(NAMES)


def test_the_folders_of_the_run_are_refused(workdir, video):
    for output in (workdir, workdir / "checkpoints", workdir / "media" / "video"):
        request = Request(video, output, overwrite=True)
        fails("the folder of a run, which is protected: give another --output, such as", workdir, request)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("No space left on device")])
def test_an_interrupted_run_leaves_nothing_new(workdir, video, tmp_path, monkeypatch, error):
    calls = []

    def fails_at_the_fifth(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise error
        return animation_frame(*arguments)

    monkeypatch.setattr(module.visualize, "animation_frame", fails_at_the_fifth)
    with pytest.raises(error if isinstance(error, type) else OSError):
        decompose(workdir, video, tmp_path / "results")
    assert not list((tmp_path / "results").iterdir())


def test_an_interrupted_run_leaves_the_earlier_results(workdir, video, tmp_path, monkeypatch):
    output = tmp_path / "results"
    decompose(workdir, video, output)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    monkeypatch.setattr(module, "write_results", lambda *_: 1 / 0)  # the last file to be written
    with pytest.raises(ZeroDivisionError):
        decompose(workdir, video, output, num_predicted=1, overwrite=True)
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_a_damaged_video_is_decomposed_as_far_as_it_goes(workdir, video, tmp_path, capsys):
    whole = write_video(tmp_path / "whole.avi", noise(40, 64, 64))
    damaged = tmp_path / "damaged.avi"
    damaged.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    summary, arrays, _ = decompose(workdir, damaged, tmp_path / "results")
    assert 0 < summary["num_frames"] == len(arrays["segmentation"]) < 40
    assert f"damaged.avi is damaged after {summary['num_frames']} frames" in summary["damage"]
    assert f"warning: {summary['damage']}" in capsys.readouterr().err
    expected = decompose(workdir, whole, tmp_path / "other")[1]["segmentation"]
    np.testing.assert_array_equal(arrays["segmentation"], expected[: summary["num_frames"]])


def test_a_model_that_leaves_the_finite_numbers(workdir, params, tmp_path, monkeypatch, capsys):
    class Diverging(ToyModel):
        start = 3

        def stream(self, params, state, frame, keys):
            out, new = super().stream(params, state, frame, keys)
            return out._replace(means=jnp.where(state.frame < self.start, out.means, jnp.nan)), new

    monkeypatch.setattr(registry, "make_model", lambda *_: Diverging(SIZE))
    video = write_raw(tmp_path / "video.mkv", noise(7))
    summary, arrays, _ = decompose(workdir, video, tmp_path / "results", num_predicted=2)
    assert (summary["num_frames"], summary["num_predicted"], len(arrays["segmentation"])) == (3, 0, 3)
    assert "warning: the model's output is not finite from frame 3 on" in capsys.readouterr().err
    monkeypatch.setattr(Diverging, "start", 0)
    fails("not finite from frame 0 on", workdir, Request(video, tmp_path / "other"), DataError)


def fails(message, workdir, request, error=DataError):
    """Assert that the command line shows one line, and that there are no results."""
    assert issubclass(error, ERRORS)
    with pytest.raises(error, match=message) as caught:
        run("decompose", None, workdir, [], request=request)
    assert "\n" not in str(caught.value)
    assert not any((request.output / name).exists() for name in NAMES)


def test_invalid_inputs(workdir, tmp_path):
    output = tmp_path / "results"
    fails("there is no file .*video.mp4", workdir, Request(tmp_path / "video.mp4", output))
    (tmp_path / "empty.mp4").touch()
    fails("empty.mp4 is empty", workdir, Request(tmp_path / "empty.mp4", output))
    (tmp_path / "page.mp4").write_text("<!doctype html>")
    fails("page.mp4 is a web page", workdir, Request(tmp_path / "page.mp4", output))
    (tmp_path / "text.mp4").write_text("no video")
    fails("text.mp4 cannot be read as a video", workdir, Request(tmp_path / "text.mp4", output))
    (tmp_path / "folder").mkdir()
    fails("folder has no images", workdir, Request(tmp_path / "folder", output))
    assert not output.exists()


def test_invalid_outputs(workdir, video, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        run("decompose", None, workdir, [], request=Request(video, tmp_path / "file" / "folder"))
    kept = tmp_path / "overlay.mp4"
    shutil.copy(video, kept)
    with pytest.raises(DataError, match=r"overlay.mp4 would be replaced"):
        run("decompose", None, workdir, [], request=Request(kept, tmp_path))


def test_no_run(video, tmp_path):
    request = Request(video, tmp_path / "results")
    fails("and no --config to train one", tmp_path, request, ConfigError)
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        run("decompose", "default", tmp_path, overrides(tmp_path), request=request)
