"""Novelty detection: worked examples, the summary of held-out videos, and the verdict on a video."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sample_recordings import write_raw
from toy import ToyModel, make_config, save_run, use_toy_model

from stii_jax.data.video.view import View
from stii_jax.evaluation import novelty
from stii_jax.evaluation.novelty import KEY, STATISTICS, Monitor, compare, find_reference, frame_fit, summarize, warning
from stii_jax.inference.recordings import Recording
from stii_jax.inference.request import Request
from stii_jax.inference.stream import Stream
from stii_jax.inference.viewing import Viewing
from stii_jax.main import run
from stii_jax.pretrained import Trained
from stii_jax.runs.modes import held_out
from stii_jax.types import Decomposition


class Flat(ToyModel):
    """A model in which every pixel has the same log-likelihood."""

    def log_likelihood(self, video, decomposition):
        return jnp.full(video.shape[:-1], -2.0)


def drawn(reconstruction):
    """Decompose a video `T H W C` in [0, 1] into one slot that draws this."""
    means = np.asarray(reconstruction, np.float32)[None, :, None]
    return Decomposition(jnp.asarray(means), jnp.ones(means.shape[:-1]), jnp.zeros((*means.shape[:3], 2)))


def summary_of(errors):
    """Return `summarize` of videos with these relative errors, `N T`."""
    errors = np.asarray(errors, float)
    return summarize({"relative_error": errors, "mse": errors / 10, "log_likelihood": -errors})


def values(error):
    return {"relative_error": error, "mse": error / 10, "log_likelihood": -error}


def test_the_fit_of_a_frame_by_hand():
    """Two black and two white pixels: variance 1/4 per channel."""
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[0] = 255
    exact, half = frame / 255, np.full((2, 2, 3), 0.5)
    video = np.stack([frame, frame, frame, np.full_like(frame, 51)])
    fit = frame_fit(Flat(2), video[None], drawn([exact, half, 1 - exact, half]))
    np.testing.assert_allclose(fit["mse"][0], [0, 0.25, 1, 0.09], atol=1e-6)
    # The last frame has a single colour: its variance counts as 1e-4.
    np.testing.assert_allclose(fit["relative_error"][0], [0, 1, 4, 900], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fit["log_likelihood"][0], -2)


def test_the_mean_colour_explains_nothing():
    video = np.random.default_rng(0).integers(0, 256, (1, 3, 5, 4, 3), dtype=np.uint8)
    mean = np.broadcast_to(video.mean((2, 3), keepdims=True) / 255, video.shape)
    np.testing.assert_allclose(frame_fit(Flat(2), video, drawn(mean[0]))["relative_error"], 1, rtol=1e-4)


def test_quantiles_over_videos_are_of_their_medians():
    """Video i has the errors i, i and a large one, so its median is i."""
    videos = np.arange(101.0)[:, None] + [0, 0, 1000]
    found = summary_of(videos)
    assert found["num_videos"] == 101
    assert [entry["num_frames"] for entry in found["per_video"]] == [1, 3]
    longest = found["per_video"][-1]
    assert longest["relative_error"] == pytest.approx({"q01": 1, "q05": 5, "q50": 50, "q95": 95, "q99": 99})
    assert longest["log_likelihood"]["q01"] == pytest.approx(-99)
    assert found["per_frame"]["num_frames"] == 303
    assert found["per_frame"]["relative_error"]["q95"] == pytest.approx(np.quantile(videos, 0.95))
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("num_frames", "lengths"),
    [(1, [1]), (2, [1, 2]), (10, [1, 3, 10]), (40, [1, 3, 10, 30, 40])],
)
def test_lengths_that_held_out_videos_are_summarised_over(num_frames, lengths):
    found = summary_of(np.ones((2, num_frames)))
    assert [entry["num_frames"] for entry in found["per_video"]] == lengths


def test_a_short_video_is_compared_with_the_start_of_others():
    """Here every first frame fits badly, as for a model that first has to observe motion."""
    found = summary_of(np.tile([1.0] + [0.1] * 9, (5, 1)))
    assert find_reference(found, 1).typical["relative_error"] == pytest.approx(1)
    assert find_reference(found, 9).num_frames == 3 and find_reference(found, 500).num_frames == 10
    assert compare(values(0.9), 1, found)["is_novel"] is False
    assert compare(values(0.9), 9, found)["is_novel"] is True


def test_the_verdict_is_at_twice_the_99th_percentile():
    found = summary_of(np.linspace(0.05, 0.1, 101)[:, None])
    limit = 2 * 0.0995
    assert find_reference(found).limit == pytest.approx(limit)
    inside, outside = (compare(values(limit * factor), 1, found) for factor in (0.999, 1.001))
    assert inside["is_novel"] is False and warning(inside, "a.mp4", "mine", "keep") is None
    assert outside["is_novel"] is True
    assert outside["relative_error"] == pytest.approx(
        {"video": limit * 1.001, "held_out": 0.075, "limit": limit, "ratio": limit * 1.001 / 0.075}
    )
    assert outside["mse"]["ratio"] == pytest.approx(limit * 1.001 / 0.075)
    assert outside["log_likelihood"]["difference"] == pytest.approx(0.075 - limit * 1.001)
    assert (outside["held_out_videos"], outside["held_out_frames"]) == (101, 1)


def test_the_warning_has_both_videos_numbers():
    found = compare({"relative_error": 0.912, "mse": 0.006, "log_likelihood": 0.755}, 200, summary_of([[0.06, 0.06]]))
    line = (
        "flies.mp4 is unlike the videos quickstart was trained on: relative reconstruction error 0.91, 15x higher than "
        "on held-out videos (0.06); log-likelihood 0.76 nats per pixel (-0.06); see docs/real-videos.md"
    )
    assert warning(found, "flies.mp4", "quickstart", "median") == line
    still = line.replace("see docs", "if the camera is static, try --background=median; see docs")
    assert warning(found, "flies.mp4", "quickstart", "keep") == still
    bright = still.replace("if the camera", "its background is bright, so try --background=bright; if the camera")
    assert warning(found, "flies.mp4", "quickstart", "keep", is_bright=True) == bright
    assert warning(found, "flies.mp4", "quickstart", "bright", is_bright=True) == line


@pytest.mark.parametrize(
    "summary",
    [
        *(None, 3, "x", [], {}, {"per_video": 3}, {"per_video": [3, None, {}]}),
        {"num_videos": 5, "per_video": [{"num_frames": "x", "relative_error": {}}]},
        {**summary_of([[math.nan]])},
        {**summary_of([[0.1]]), "num_videos": None},
        {**summary_of([[0.0]])},
    ],
    ids=str,
)
def test_no_verdict_without_numbers_of_held_out_videos(summary):
    """A model of an older version has none, and a stranger's file may contain anything."""
    assert find_reference(summary) is None
    found = compare(values(0.5), 3, summary)
    assert found["is_novel"] is None and warning(found, "a.mp4", "mine", "keep") is None
    assert [found[name]["video"] for name in STATISTICS] == [0.5, 0.05, -0.5]
    assert {found[name]["held_out"] for name in STATISTICS} == {None}
    assert json.loads(json.dumps(found)) == found
    assert found.keys() == compare(values(0.5), 3, summary_of([[0.1]])).keys()


def test_a_video_frame_by_frame():
    """Frames of one black and one white pixel, with reconstructions that have these relative errors."""
    frame = np.zeros((1, 2, 3), np.uint8)
    frame[0, 1] = 255
    monitor = Monitor(ToyModel(1))
    for error in (0.2, 0.4, 3.0):
        off = math.sqrt(error / 4) * np.array([1, -1])[None, :, None]
        monitor.add(frame, drawn([frame / 255 + off]))
    assert monitor.num_frames == 3
    found = monitor.compare(summary_of([[0.1, 0.1, 0.1]]))
    assert found["is_novel"] is True and found["relative_error"]["video"] == pytest.approx(0.4, rel=1e-4)
    assert found["mse"]["video"] == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize("num_frames", [7, 8, 100])
def test_memory_does_not_grow_with_the_video(monkeypatch, num_frames):
    monkeypatch.setattr(novelty, "_SAMPLE", 4)
    monitor = Monitor(ToyModel(1))
    monkeypatch.setattr(novelty, "_fit", lambda _, frame, __: dict.fromkeys(STATISTICS, np.full((1, 1), frame.sum())))
    for t in range(num_frames):
        monitor.add(np.full((1, 1, 1), t, np.uint8), drawn(np.zeros((1, 1, 1, 1))))
        assert len(monitor._sample) < 8
    kept = [sample[0] for sample in monitor._sample]
    assert monitor.num_frames == num_frames and len(kept) >= 4
    assert len(set(np.diff(kept))) == 1, "evenly spaced"
    median = monitor.compare(None)["mse"]["video"]
    assert median == (num_frames - 1) / 2 if num_frames < 8 else abs(median - num_frames / 2) <= num_frames / 8


SIZE = 8


@pytest.fixture(scope="module")
def params():
    return ToyModel(SIZE).init(jax.random.key(0))


@pytest.fixture(scope="module")
def workdir(params, tmp_path_factory):
    """The workdir of a run of three steps."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    save_run(folder, params)
    return folder


@pytest.mark.usefixtures("quick_compiles")
@pytest.mark.parametrize(("step", "typical", "is_novel"), [(3, 0.01, True), (3, 100.0, False), (2, 0.01, None)])
def test_a_decomposed_video_is_compared(workdir, params, tmp_path, monkeypatch, capsys, step, typical, is_novel):
    """It is compared with the held-out videos in `results.json`, if those scores belong to the same parameters."""
    use_toy_model(monkeypatch)
    scores = {"step": step, "seed": 0, KEY: summary_of([[typical] * 6])}
    (workdir / "results.json").write_text(json.dumps(scores))
    frames = np.random.default_rng(0).integers(0, 256, (7, SIZE, SIZE, 3), dtype=np.uint8)
    video, output = write_raw(tmp_path / "video.mkv", frames), tmp_path / "results"
    run("decompose", None, workdir, [], request=Request(video, output, 2))
    found = json.loads((output / "decomposition.json").read_text())["novelty"]
    assert found["is_novel"] is is_novel
    assert found["relative_error"]["held_out"] == (None if is_novel is None else pytest.approx(typical))

    seen = Recording(video, View(size=SIZE, square=True))
    errors = [
        np.square(item.decomposition.reconstruction[0, 0] - item.frame / 255).mean()
        for item in Stream(ToyModel(SIZE), params).run(seen)
    ]
    assert found["mse"]["video"] == pytest.approx(np.median(errors), rel=1e-4), "of the seven frames that were seen"
    line = f"warning: {video} is unlike the videos {workdir} was trained on: relative reconstruction error "
    assert (line in capsys.readouterr().err) == bool(is_novel)


@pytest.mark.usefixtures("quick_compiles")
@pytest.mark.parametrize(("separate", "warns"), [(None, False), (False, True)])
def test_objects_before_a_removed_background_need_no_warning(workdir, tmp_path, monkeypatch, capsys, separate, warns):
    """They hardly depend on the model. Slots (`--noseparate`) do."""
    use_toy_model(monkeypatch)
    scores = {"step": 3, "seed": 0, KEY: summary_of([[0.01] * 6])}
    (workdir / "results.json").write_text(json.dumps(scores))
    frames = np.full((9, 16, 16, 3), 90, np.uint8)
    for number, frame in enumerate(frames):
        frame[4:8, number : number + 4] = 250
    viewing = Viewing(background="median", separate=separate)
    request = Request(write_raw(tmp_path / "video.mkv", frames), tmp_path / "results", viewing=viewing)
    run("decompose", None, workdir, [], request=request)
    summary = json.loads((tmp_path / "results" / "decomposition.json").read_text())
    assert summary["background"] == "median" and summary["novelty"]["is_novel"]
    assert ("is unlike the videos" in capsys.readouterr().err) == warns


def test_another_system_is_compared_with_nothing(tmp_path):
    """The stored numbers belong to the system that was trained."""
    config = make_config(tmp_path)
    summary = summary_of([[0.1]])
    trained = Trained(make_config(tmp_path), {}, {"results": {KEY: summary}, "step": 3})
    assert held_out(config, trained, {"model": "mine"}) == summary
    config.eval.system = "seq_iodine"
    assert held_out(config, trained, {"model": "mine"}) is None
    assert held_out(trained.config, trained._replace(facts={"results": 3}), {"model": "mine"}) is None
