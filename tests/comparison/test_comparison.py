"""Classical trackers and a model on one recording, scored by the same code."""

import importlib.util
import json

import jax
import numpy as np
import pytest
from sample_recordings import write_raw
from toy import ToyModel, save_run, use_toy_model

cv2 = pytest.importorskip("cv2")
pytest.importorskip("trackpy")
pytest.importorskip("trackeval")

from stii_jax.comparison import classical, linking, main  # noqa: E402
from stii_jax.comparison.command import compare  # noqa: E402
from stii_jax.comparison.detection import DETECTORS, Setting, components  # noqa: E402
from stii_jax.comparison.linking import LINKERS, Link  # noqa: E402
from stii_jax.comparison.table import tables  # noqa: E402
from stii_jax.data import DataError  # noqa: E402
from stii_jax.inference.track_request import make_track_request  # noqa: E402
from stii_jax.runs.provenance import provenance  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_compiles")

HEIGHT, WIDTH, T = 48, 64, 30
KEEP_ALL = Setting(min_area=1, max_objects=9, opening=1)


def squares(places, side=7, level=250):
    """Draw a frame with a bright square around each position, on dark grey."""
    frame = np.full((HEIGHT, WIDTH), 20, np.uint8)
    for x, y in places:
        frame[y - side // 2 : y + side // 2 + 1, x - side // 2 : x + side // 2 + 1] = level
    return frame


def crossing(num_frames=T):
    """Two squares, moving right and left, pass each other at a distance."""
    return [[(8 + 2 * min(t, 24), 12), (56 - 2 * min(t, 24), 34)] for t in range(num_frames)]


def test_components():
    frame = squares([(8, 12), (56, 34)]) > 100
    frame[30:32, 10:12] = True  # a speck of 4 pixels
    found = components(frame, KEEP_ALL)
    assert sorted(np.bincount(found.labels.ravel())[1:]) == [4, 49, 49]
    np.testing.assert_allclose(sorted(found.centroids.tolist()), [[8.5, 12.5], [11, 31], [56.5, 34.5]])
    for setting in (KEEP_ALL._replace(min_area=5), KEEP_ALL._replace(max_objects=2), KEEP_ALL._replace(opening=3)):
        found = components(frame, setting)
        np.testing.assert_allclose(sorted(found.centroids.tolist()), [[8.5, 12.5], [56.5, 34.5]])
        assert set(np.unique(found.labels)) == {0, 1, 2}
    assert len(components(frame & False, KEEP_ALL).centroids) == 0


@pytest.mark.parametrize("dark", [False, True])
def test_the_threshold_finds_the_smaller_part(dark):
    frames = [squares(places) for places in crossing(5)]
    frames = [255 - frame if dark else frame for frame in frames]
    for places, found in zip(crossing(5), DETECTORS["threshold"](frames, KEEP_ALL), strict=True):
        np.testing.assert_allclose(sorted(found.centroids.tolist()), sorted((x + 0.5, y + 0.5) for x, y in places))


def test_mog2_finds_moving_objects():
    frames = [squares(places) for places in crossing()]
    found = list(DETECTORS["mog2"](frames, KEEP_ALL._replace(min_area=5)))[20]
    for x, y in crossing()[20]:
        assert found.labels[y, x + (2 if y == 12 else -2)] > 0  # the leading edge
    assert found.labels[5, 5] == found.labels[25, 30] == 0


@pytest.mark.parametrize("linker", LINKERS)
def test_linkers(linker):
    """Objects keep their numbers in any order of detections and through short gaps; long gaps end them."""
    here, there = np.array([[10.0, 10.0], [30.0, 10.0]]), np.array([[31.0, 11.0], [11.0, 10.0]])
    none = np.zeros((0, 2))
    numbers = LINKERS[linker]([here, there, here[:1], here], Link(reach=5.0, memory=1))
    first, second = numbers[0]
    assert [row.tolist() for row in numbers[1:]] == [[second, first], [first], [first, second]]
    numbers = LINKERS[linker]([here, none, none, here], Link(reach=5.0, memory=1))
    assert not set(numbers[0].tolist()) & set(numbers[3].tolist())
    far = LINKERS[linker]([here, here + 6], Link(reach=5.0, memory=1))
    assert not set(far[0].tolist()) & set(far[1].tolist())


def test_nearest_links_by_the_least_sum():
    """The first object is nearest to the second one's place, but taking it would cost the second one more."""
    numbers = linking.nearest([np.array([[0.0, 0], [3.0, 0]]), np.array([[2.0, 0], [5.0, 0]])], Link(9.0, 0))
    assert numbers[1].tolist() == numbers[0].tolist()


def test_too_many_candidates_for_trackpy():
    crowd = np.random.default_rng(0).uniform(0, 10, (60, 2))
    with pytest.raises(DataError, match="trackpy cannot link so many detections within 30 pixels"):
        linking.trackpy([crowd, crowd + 1], Link(30.0, 0))


@pytest.fixture
def recording(tmp_path):
    """A video and its true tracks."""
    frames = np.stack([squares(places) for places in crossing()])
    video = write_raw(tmp_path / "video.mkv", np.repeat(frames[..., None], 3, axis=3))
    rows = [f"{t},{n},{x + 0.5},{y + 0.5}\n" for t, row in enumerate(crossing()) for n, (x, y) in enumerate(row)]
    tracks = tmp_path / "tracks.csv"
    tracks.write_text("frame,object,x,y\n" + "".join(rows))
    return video, tracks


def few_settings(monkeypatch):
    monkeypatch.setattr(classical, "settings_of", lambda *_: [KEEP_ALL._replace(min_area=200), KEEP_ALL])
    monkeypatch.setattr(linking, "grid", lambda side: [Link(1.0, 0), Link(5.0, 0)])


def test_compare(recording, tmp_path, monkeypatch):
    """The threshold finds everything in these frames; a model with random parameters is scored beside it."""
    few_settings(monkeypatch)
    use_toy_model(monkeypatch)
    save_run(tmp_path / "run", ToyModel(8).init(jax.random.key(0)))
    request = make_track_request("evaluate", str(recording[1]), ["body_length=25"], str(recording[0]))
    results = compare(request, ["threshold", "mog2"], [str(tmp_path / "run")], tune_frames=10)
    best, other, ours = results["rows"]
    assert best["method"] == "Otsu's threshold, trackpy" and ours["method"] == "stii_jax, run"
    assert (best["found"], best["identity_switches"], best["hota"], best["idf1"], best["mota"]) == (1, 0, 1, 1, 1)
    assert best["centroid_error"] == best["settings"]["min_area"] - 1 == 0
    assert (best["settings"]["reach"], best["tuned_on"]["tried"], best["tuned_on"]["num_frames"]) == (5, 4, 10)
    assert "history" in other["settings"] and "history" not in best["settings"] and other["found"] < 1
    assert results["commit"] == provenance()["commit"]
    assert ours["settings"]["num_slots"] == 2 and ours["num_frames"] == T
    assert all(row["seconds"] > 0 and row["tracks"] == "tracks.csv" for row in results["rows"])
    assert best["touching"]["num_frames"] + best["apart"]["num_frames"] == T and best["touching"]["found"] == 1
    lines = tables(results).splitlines()
    assert lines[0] == f"**All frames** ({T})" and lines[2].endswith("| minutes of compute |")
    assert lines[4].startswith("| Otsu's threshold, trackpy | 100.0% | 100.0% | 0 | 1.000 | 1.000 | 1.000 | 0.00 | ")
    assert lines[8].startswith("**Frames in which objects touch** (")


def test_the_command(recording, tmp_path, monkeypatch, capsys):
    few_settings(monkeypatch)
    output = tmp_path / "new" / "scores.json"
    flags = ["--input", str(recording[0]), "--tracks", str(recording[1]), "--output", str(output)]
    main([*flags, "--classical", "threshold"])
    assert json.loads(output.read_text())["rows"][0]["found"] == 1
    assert output.with_suffix(".md").read_text() in capsys.readouterr().out
    use_toy_model(monkeypatch)
    save_run(tmp_path / "run", ToyModel(8).init(jax.random.key(0)))
    seen = ["--background", "median", "--region", "0,0,60,48", "--tile", "40", "--frame_stride", "2"]
    main([*flags, "--model", str(tmp_path / "run"), "--classical", *seen])
    (ours,) = json.loads(output.read_text())["rows"]
    assert ours["settings"]["region"] == [0, 0, 60, 48] and ours["settings"]["tile"] == 40
    assert ours["settings"]["background"] == "median" and ours["frame_stride"] == 2 and ours["num_frames"] == -(-T // 2)
    for wrong, message in (
        (["--output", "scores.txt"], "expected a .json file"),
        (["--classical"], "nothing to compare"),
        (["--tune_frames", "0"], "--tune_frames is 0, expected 1 or more"),
    ):
        with pytest.raises(SystemExit):
            main([*flags, *wrong])
        assert message in capsys.readouterr().err
    late = tmp_path / "late.csv"
    late.write_text("frame,object,x,y\n20,0,9,9\n")
    with pytest.raises(SystemExit, match=r"late.csv labels none of the first 9 frames: increase --tune_frames"):
        main([*flags[:2], "--tracks", str(late), *flags[4:], "--classical", "threshold", "--tune_frames", "9"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "trackpy" else name)
    with pytest.raises(SystemExit, match=r"error: the comparison needs more packages: pip install 'trackpy>=0.7'"):
        main(flags)
