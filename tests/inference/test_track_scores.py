"""`--mode evaluate --tracks`: a recording with a model, or the folder of a decomposition, scored alike."""

import csv
import importlib.util
import json
import tracemalloc

import jax
import numpy as np
import pytest
from sample_recordings import write_raw
from toy import ToyModel, save_run, use_toy_model

from stii_jax.config import ConfigError
from stii_jax.data import DataError
from stii_jax.evaluation.tracking_metrics import MissingExtraError
from stii_jax.inference.request import Request
from stii_jax.inference.track_request import SCORES, make_track_request
from stii_jax.inference.track_scores import describe_scores, score_folder
from stii_jax.inference.viewing import Viewing
from stii_jax.main import run
from stii_jax.runs import modes

pytestmark = pytest.mark.usefixtures("quick_compiles")

pytest.importorskip("trackeval")
WIDTH, HEIGHT, T = 24, 16, 5
LEFT, RIGHT = (5.5, 5.5), (17.5, 5.5)


def write_tracks(path, frames=range(T), places=(LEFT, RIGHT)):
    rows = [f"{t},{n},{x},{y}\n" for t in frames for n, (x, y) in enumerate(places)]
    path.write_text("frame,object,x,y\n" + "".join(rows))
    return path


def write_folder(folder, frames, predicted=0, background=0, summary=None, dtype=np.uint8):
    """Write a decomposition by another program: 5x5 squares by number, in every frame."""
    folder.mkdir()
    labels = np.full((len(frames), HEIGHT, WIDTH), background, dtype)
    with (folder / "trajectories.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("frame", "object", "centroid_x", "centroid_y", *["predicted"] * bool(predicted)))
        for t, places in enumerate(frames):
            for number, (x, y) in places.items():
                labels[t, int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3] = number
                table.writerow((t, number, x, y, *[int(t >= len(frames) - predicted)] * bool(predicted)))
    np.savez_compressed(folder / "masks.npz", segmentation=labels)
    if summary is not None:
        (folder / "decomposition.json").write_text(json.dumps(summary))
    return folder


def request(tracks, source, *options):
    return make_track_request("evaluate", str(tracks), list(options), str(source))


WHOLE, SWAPPED = {300: LEFT, 7: RIGHT}, {7: LEFT, 300: RIGHT}


def test_a_folder_of_another_program(tmp_path):
    """Numbers above 255 and no summary; both objects switch, and one object is lost in one frame."""
    folder = write_folder(tmp_path / "found", [WHOLE, WHOLE, {300: LEFT}, SWAPPED, SWAPPED], dtype=np.int32)
    scores = score_folder(request(write_tracks(tmp_path / "tracks.csv"), folder))
    assert (scores["num_frames"], scores["num_decomposed"], scores["frame_size"]) == (T, T, (WIDTH, HEIGHT))
    assert (scores["found"], scores["identity_switches"], scores["centroid_error"]) == (0.8, 2, 0)
    assert scores["objects_found"] == 0.9 and scores["point_in_own_mask"] == 0.5
    assert (scores["mota"], scores["mota_switches"]) == (0.7, 2)  # one miss and two switches in ten
    assert np.isnan(scores["body_length"]) and "touching" not in scores


def test_predicted_frames_are_left_out(tmp_path):
    folder = write_folder(tmp_path / "found", [WHOLE] * 3 + [{300: RIGHT, 7: LEFT}] * 2, predicted=2, dtype=np.uint16)
    scores = score_folder(request(write_tracks(tmp_path / "tracks.csv", range(3)), folder))
    assert (scores["num_decomposed"], scores["found"], scores["identity_switches"]) == (3, 1, 0)
    with pytest.raises(DataError, match="frame 4, but the recording has frames 0 to 2"):
        score_folder(request(write_tracks(tmp_path / "tracks.csv"), folder))


def test_every_second_frame_is_decomposed(tmp_path):
    """Frame 1 of the decomposition is frame 2 of the recording and of the tracks; frames 1 and 3 differ from it."""
    summary = {"frame_stride": 2, "input_size": [WIDTH, HEIGHT], "mask_scale": 1, "model": "balls", "step": 7}
    folder = write_folder(tmp_path / "found", [WHOLE] * 3, dtype=np.int16, summary=summary)
    lines = [
        f"{t},{n},{x},{y}\n" for t in range(5) for n, (x, y) in enumerate((LEFT, RIGHT) if t % 2 == 0 else (RIGHT,))
    ]
    tracks = tmp_path / "tracks.csv"
    tracks.write_text("frame,object,x,y\n" + "".join(lines))
    scores = score_folder(request(tracks, folder))
    assert (scores["num_labelled"], scores["num_frames"], scores["found"], scores["centroid_error"]) == (5, 3, 1, 0)
    assert scores["model"] == "balls" and scores["step"] == 7
    with pytest.raises(DataError, match="labels none of the 3 decomposed frames \\(frame stride 2\\)"):
        score_folder(request(write_tracks(tracks, [1, 3]), folder))


def test_sparse_labels(tmp_path):
    """A frame without labels is not one without objects: findings, losses and swaps there do not count."""
    third = {300: LEFT, 7: RIGHT, 9: (11.5, 12.5)}
    folder = write_folder(tmp_path / "found", [WHOLE, SWAPPED, {}, third, WHOLE], dtype=np.int16)
    scores = score_folder(request(write_tracks(tmp_path / "tracks.csv", [0, 4]), folder))
    assert (scores["num_labelled"], scores["num_frames"], scores["num_decomposed"]) == (2, 2, T)
    assert (scores["found"], scores["identity_switches"], scores["point_in_own_mask"]) == (1, 0, 1)
    assert (scores["hota"], scores["idf1"], scores["mota"]) == (1, 1, 1)
    # Switches between two labelled frames count, and so does an object that a labelled frame lacks.
    folder = write_folder(tmp_path / "worse", [WHOLE, WHOLE, {}, SWAPPED, SWAPPED | {9: (11.5, 12.5)}], dtype=np.int16)
    scores = score_folder(request(write_tracks(tmp_path / "tracks.csv", [0, 4]), folder))
    assert (scores["identity_switches"], scores["mota_switches"], scores["mota"]) == (2, 2, 1 - 3 / 4)


def test_reduced_masks(tmp_path):
    summary = {"frame_stride": 1, "input_size": [2 * WIDTH, 2 * HEIGHT], "mask_scale": 2}
    folder = write_folder(tmp_path / "found", [{1: LEFT, 2: RIGHT}], summary=summary)
    table = folder / "trajectories.csv"
    table.write_text("frame,object,centroid_x,centroid_y,background\n0,1,11,11,0\n0,2,35,11,0\n0,0,20,20,1\n")
    scores = score_folder(request(write_tracks(tmp_path / "tracks.csv", [0], [(11, 11), (35, 11)]), folder))
    assert (scores["found"], scores["point_in_own_mask"], scores["centroid_error"], scores["mota"]) == (1, 1, 0, 1)


def test_touching_frames_are_reported_apart(tmp_path):
    folder = write_folder(tmp_path / "found", [WHOLE, WHOLE, SWAPPED, SWAPPED], dtype=np.int16)
    tracks = tmp_path / "tracks.csv"
    tracks.write_text("frame,object,x,y\n0,0,5.5,5.5\n0,1,17.5,5.5\n1,0,7,5.5\n1,1,16,5.5\n2,0,5.5,5.5\n2,1,17.5,5.5\n")
    scores = score_folder(request(tracks, folder, "body_length=10"))
    assert [scores[key]["num_frames"] for key in ("touching", "apart")] == [1, 2]
    assert [scores[key]["identity_switches"] for key in ("touching", "apart")] == [2, 2]
    lines = list(describe_scores(scores))
    assert [line.split(",")[0] for line in lines] == ["all", "touching", "apart"]
    assert "3 frames: found 100.0%, identity switches 2, median centroid error" in lines[0]
    assert "HOTA" in lines[1] and "MOTA" in lines[2]
    alone = score_folder(request(tracks, folder, "body_length=1"))
    assert list(describe_scores(alone))[1] == "touching: no frame"


def test_masks_are_read_frame_by_frame(tmp_path):
    """A decomposition of any length needs the memory of a few frames."""
    tracks, peaks = write_tracks(tmp_path / "tracks.csv", [0]), []
    for number in (20, 400):
        folder = write_folder(tmp_path / f"found{number}", [WHOLE], dtype=np.int16)
        np.savez_compressed(folder / "masks.npz", segmentation=np.zeros((number, 100, 100), np.uint8))
        asked = request(tracks, folder)
        tracemalloc.start()
        scores = score_folder(asked)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert scores["num_decomposed"] == number
    assert peaks[1] < peaks[0] + 10**6 < 400 * 10**4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "trajectories.csv",
            b"frame,object,x,y\n",
            "trajectories.csv, line 1: no column centroid_x: expected frame",
        ),
        ("trajectories.csv", b"frame,object,centroid_x,centroid_y\n0,0,1,2\n0,a,1,2\n", "line 3: expected numbers"),
        ("masks.npz", b"no archive", "masks.npz cannot be read .*expected an archive of numpy.savez"),
        ("decomposition.json", b"{", "decomposition.json cannot be read"),
    ],
)
def test_a_damaged_folder(tmp_path, name, content, message):
    folder = write_folder(tmp_path / "found", [WHOLE], dtype=np.int16)
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        score_folder(request(write_tracks(tmp_path / "tracks.csv", [0]), folder))
    assert "\n" not in str(caught.value)


def test_masks_of_another_shape(tmp_path):
    folder = write_folder(tmp_path / "found", [WHOLE], dtype=np.int16)
    np.savez(folder / "masks.npz", segmentation=np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"segmentation is float64 of shape \(2, 3\): expected an archive"):
        score_folder(request(write_tracks(tmp_path / "tracks.csv", [0]), folder))
    np.savez(folder / "masks.npz", masks=np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"cannot be read .*with `segmentation`"):
        score_folder(request(write_tracks(tmp_path / "tracks.csv", [0]), folder))


def test_a_model_and_its_decomposition_have_the_same_scores(tmp_path, monkeypatch, capsys):
    """A command with a model writes only scores; decomposing first and scoring the folder gives the same."""
    use_toy_model(monkeypatch)
    workdir, scores = tmp_path / "run", tmp_path / "scores"
    save_run(workdir, ToyModel(8).init(jax.random.key(0)))
    frames = np.random.default_rng(0).integers(0, 256, (T, HEIGHT, WIDTH, 3), dtype=np.uint8)
    video, tracks = write_raw(tmp_path / "video.mkv", frames), write_tracks(tmp_path / "tracks.csv")
    before = set(workdir.rglob("*"))
    run("evaluate", None, workdir, [], tracks=request(tracks, video))
    assert set(workdir.rglob("*")) - before == {workdir / "track_scores_video.json"}
    direct = json.loads((workdir / "track_scores_video.json").read_text())
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("tracks.csv: frame in 'frame'") and said[0].endswith("frames 0 to 4, counted from 0")
    assert said[1].startswith("all, 5 frames: found ")
    assert said[-1] == f"scores: {workdir / 'track_scores_video.json'}"

    run("decompose", None, workdir, [], request=Request(video, tmp_path / "found", 2))
    of_folder = request(tracks, tmp_path / "found")
    assert of_folder.is_decomposed and not request(tracks, video).is_decomposed
    modes.evaluate_decomposition(of_folder, tmp_path / "found")
    from_files = json.loads((tmp_path / "found" / SCORES).read_text())
    assert from_files["num_decomposed"] == T and from_files["step"] == direct["step"] == 3
    for key in direct.keys() - {"seconds", "input", "dataset"}:
        assert from_files[key] == pytest.approx(direct[key], abs=1e-3), key  # the table is rounded
    assert direct["num_points"] == 2 * T and direct["separated"] is not None
    modes.evaluate_decomposition(of_folder, scores)
    assert [path.name for path in scores.iterdir()] == ["track_scores_found.json"]

    # New results invalidate old scores.
    run("decompose", None, workdir, [], request=Request(video, tmp_path / "found", overwrite=True))
    assert not (tmp_path / "found" / SCORES).exists()


def test_flags(tmp_path, monkeypatch):
    tracks, video = write_tracks(tmp_path / "tracks.csv"), tmp_path / "video.mp4"
    video.touch()
    assert make_track_request("evaluate", None, None, None) is None
    viewing = {"value_range": ["0", "9"], "frame_stride": 2}
    made = make_track_request("evaluate", str(tracks), ["match=2"], str(video), viewing)
    assert (made.input, made.options, made.viewing) == (video, {"match": "2"}, Viewing((0.0, 9.0), frame_stride=2))
    for arguments, message in (
        (("evaluate", None, ["match=2"], None), "--track_options would do nothing: give --tracks"),
        (("evaluate", None, None, str(video)), "give --tracks, the CSV file of true tracks to score --input against"),
        (("decompose", str(tracks), None, str(video)), "--tracks would do nothing with --mode decompose"),
        (
            ("evaluate", str(tracks), None, None),
            "give --input, the recording or the folder of its decomposition: --",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            make_track_request(*arguments)
    with pytest.raises(DataError, match=r"none.mp4 does not exist: give --input"):
        make_track_request("evaluate", str(tracks), None, str(tmp_path / "none.mp4"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'trackeval>=1.3'"):
        make_track_request("evaluate", str(tmp_path / "none.csv"), None, str(video))
