"""Evaluation: scores do not depend on chunks, batches or padding, and a forecast does not see the future."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import ToyModel, make_config, use_toy_model

from stii_jax.config import ConfigError
from stii_jax.data.bouncing_balls.builder import BouncingBallsConfig
from stii_jax.devices.parallel import DeviceError, process_batch_indices
from stii_jax.evaluation.evaluator import Evaluator, check_evaluation, check_forecast
from stii_jax.evaluation.result_files import label
from stii_jax.models.baselines.iodine import Iodine, SequentialIodine
from stii_jax.models.registry import make_model
from stii_jax.models.video_model import example_keys
from stii_jax.runs.setup import load_dataset

pytestmark = pytest.mark.usefixtures("quick_compiles")

SCORES = {"ari", "f_ari", "mse"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def make_evaluator(data_dir):
    def make(**changes):
        config = make_config(data_dir, **changes)
        return Evaluator(config, load_dataset(config))

    with pytest.MonkeyPatch.context() as patch:
        use_toy_model(patch)
        yield make


@pytest.fixture(scope="module")
def params():
    return ToyModel(8).init(jax.random.key(0))


@pytest.fixture(scope="module")
def results(make_evaluator, params):
    """Scores and pictures with the settings of `toy`: six videos in batches of four, in chunks of two frames."""
    return make_evaluator().final(params)


def assert_same_scores(left, right):
    assert left.keys() == right.keys()
    for key in left.keys() - {"seconds", "lengths"}:
        ours, others = jax.tree.leaves(left[key]), jax.tree.leaves(right[key])
        assert ours == pytest.approx(others, rel=1e-4, abs=1e-6), key


def test_scores_of_every_length(results):
    scores, pictures = results
    assert [(part["num_frames"], part["num_videos"]) for part in scores["lengths"]] == [(2, 6), (5, 6)]
    for part in scores["lengths"]:
        assert {f"{name}{end}" for name in SCORES for end in ("", "_stderr", "_count")} <= part.keys()
    # The longest length stands for the run.
    assert scores.items() >= scores["lengths"][1].items() and scores["seconds"] > 0
    ((video, decomposition, segmentation),) = pictures
    assert video.shape == (5, 8, 8, 3) and segmentation.shape == (5, 8, 8)
    assert decomposition.masks.shape == (1, 5, 2, 8, 8)


def test_chunks_give_what_the_whole_video_gives(make_evaluator, params, results):
    scores, pictures = make_evaluator(eval__chunk_frames=5).final(params)
    assert_same_scores(scores, results[0])
    for chunked, whole in zip(jax.tree.leaves(results[1]), jax.tree.leaves(pictures)):
        np.testing.assert_allclose(chunked, whole, rtol=1e-4, atol=1e-6)


def test_the_first_frames_score_alike_in_a_longer_video(make_evaluator, params, results):
    alone, _ = make_evaluator(eval__lengths=(2,)).final(params)
    assert_same_scores(alone["lengths"][0], results[0]["lengths"][0])


def test_batches_and_padding_change_nothing(make_evaluator, params, results):
    """Six videos: in batches of four with two black ones, and in one batch of eight with two black ones."""
    assert_same_scores(make_evaluator(eval__batch_size=8).final(params)[0], results[0])


def test_scores_by_hand(make_evaluator, params, results):
    """The mean over the videos themselves, decomposed at once without devices or chunks."""
    evaluator = make_evaluator()
    batch = next(evaluator.source.eval_batches("test", 5, 6))
    video = batch["video"].astype(np.float32) / 255
    keys = example_keys(jax.random.key(0), jnp.arange(6))
    outputs, _ = jax.jit(evaluator.model.unroll)(params, video, keys)
    errors = np.square(outputs.decomposition.reconstruction - video).mean((1, 2, 3, 4))
    assert results[0]["mse"] == pytest.approx(errors.mean(), rel=1e-4)
    assert results[0]["mse_stderr"] == pytest.approx(errors.std(ddof=1) / np.sqrt(6), rel=1e-4)


def test_lengths_beyond_the_videos_are_left_out(make_evaluator, params):
    scores, _ = make_evaluator(eval__lengths=(2, 40), eval__num_videos=1000).final(params)
    assert [(part["num_frames"], part["num_videos"]) for part in scores["lengths"]] == [(2, 8)]


def test_periodic_scores_are_of_the_validation_split(make_evaluator, params):
    evaluator = make_evaluator()
    scores, pictures = evaluator.periodic(params)
    assert (scores["num_frames"], scores["num_videos"]) == (2, 4) and scores.keys() >= SCORES
    first = next(evaluator.source.eval_batches("validation", 2, 4))["video"][0]
    np.testing.assert_array_equal(pictures[0][0], first)


def test_more_slots_than_in_training(make_evaluator, params):
    _, pictures = make_evaluator(eval__num_slots=3, eval__lengths=(2,)).final(params)
    assert pictures[0][1].masks.shape == (1, 2, 3, 8, 8)


def test_a_forecast_sees_no_future(make_evaluator, params, monkeypatch):
    evaluator = make_evaluator()
    scores, pictures = evaluator.forecast(params)
    assert [(part["num_frames"], part["num_videos"]) for part in scores] == [(2, 6)]
    assert pictures[0][1].means.shape == (1, 5, 2, 8, 8, 3)  # three frames observed, two predicted
    batches = evaluator._batches

    def another_future(*arguments):
        for batch, index in batches(*arguments):
            batch["video"][:, 3:] = 255 - batch["video"][:, 3:]
            yield batch, index

    monkeypatch.setattr(evaluator, "_batches", another_future)
    other_scores, other_pictures = evaluator.forecast(params)
    jax.tree.map(np.testing.assert_array_equal, pictures[0][1], other_pictures[0][1])
    assert other_scores[0]["mse"] != scores[0]["mse"]  # the predicted frames are scored against the true future


def test_forecast_lengths(make_evaluator, params):
    evaluator = make_evaluator(eval__observed_frames=1, eval__predict_frames=5)
    assert [part["num_frames"] for part in evaluator.forecast(params)[0]] == [3, 5]


def test_futures_leave_the_other_scores_alone(make_evaluator, params):
    evaluator, sampled = make_evaluator(eval__futures=3), []
    scores, _ = evaluator.forecast(params, sampled)
    expected, _ = make_evaluator().forecast(params)
    assert scores == expected and [row["frame"] for row in sampled] == [1, 2]
    for row in sampled:
        assert 0 < row["best_position_error"] <= row["mean_position_error"] and row["spread"] > 0
    assert sampled[-1]["position_error"] == pytest.approx(scores[-1]["position_error"], abs=1e-5)
    again: list = []
    make_evaluator(eval__futures=3, eval__batch_size=8).forecast(params, again)
    assert again == [pytest.approx(row, abs=1e-4) for row in sampled], "futures do not depend on the batches"


def test_futures_need_labels(make_evaluator, params, monkeypatch):
    evaluator = make_evaluator(eval__futures=3)
    batches = evaluator._batches
    without = lambda *of: ((dict(video=b["video"], valid=b["valid"]), i) for b, i in batches(*of))  # noqa: E731
    monkeypatch.setattr(evaluator, "_batches", without)
    with pytest.raises(ConfigError, match=r"config\.eval\.futures needs true objects, but the videos have no labels"):
        evaluator.forecast(params, [])


def test_keys_and_numbers_of_videos():
    np.testing.assert_array_equal(process_batch_indices(3), [0, 1, 2])
    keys = jax.random.key_data(example_keys(jax.random.key(1), jnp.array([5, 2])))
    np.testing.assert_array_equal(keys[0], jax.random.key_data(jax.random.fold_in(jax.random.key(1), 5)))


def test_the_model_of_a_config(data_dir):
    config = make_config(data_dir)
    model = make_model(config, 8)
    assert (model.num_slots, model.frame_shape) == (2, (8, 8, 3))
    assert make_model(config, 8, num_slots=7).num_slots == 7


def test_another_schedule_is_another_evaluation(data_dir):
    """Its scores are therefore stored beside those of the run, in a separate file."""
    config = make_config(data_dir)
    assert label(config, make_config(data_dir, eval__schedule="constant", eval__first_noise="mean")) == "_mean_constant"
    assert label(config, make_config(data_dir, eval__segmentation="responsibilities")) == "_responsibilities"
    assert label(config, make_config(data_dir, eval__num_refinements=6)) == "_num_refinements=6"
    assert label(config, config) == ""
    assert label(make_config(data_dir, eval__schedule="constant"), config) == "_schedule=own"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"eval__batch_size": 6}, DeviceError, r"eval\.batch_size=6 cannot be divided by the 4 devices"),
        ({"eval__split": "tests"}, ConfigError, r"eval\.split is 'tests', expected one of train, validation, test"),
        ({"eval__lengths": (7, 9)}, ConfigError, r"eval\.lengths is \(7, 9\), but the videos have 6 frames"),
    ],
)
def test_settings_that_cannot_be_evaluated(tmp_path, changes, error, message):
    videos = BouncingBallsConfig(name="toy", image_size=8, num_frames=6)
    check_evaluation(make_config(tmp_path), videos)
    with pytest.raises(error, match=message) as caught:
        check_evaluation(make_config(tmp_path, **changes), videos)
    assert "\n" not in str(caught.value)


def test_frames_that_cannot_be_pooled(tmp_path):
    with pytest.raises(ConfigError, match=r"frames of 10x10 pixels: .* give a multiple of 4"):
        check_evaluation(make_config(tmp_path), BouncingBallsConfig(name="toy", image_size=10, num_frames=6))


@pytest.mark.parametrize(("observed", "ahead"), [(3, 0), (4, 3), (6, 1)])
def test_forecasts_that_cannot_be(tmp_path, observed, ahead):
    videos = BouncingBallsConfig(name="toy", image_size=8, num_frames=6)
    check_forecast(make_config(tmp_path), videos)
    config = make_config(tmp_path, eval__observed_frames=observed, eval__predict_frames=ahead)
    with pytest.raises(ConfigError, match=rf"observed_frames is {observed} and .* is {ahead}: .* the 6 frames"):
        check_forecast(config, videos)


ALONE = {
    "model__conditional_prior": False,
    "model__conditional_decoder": False,
    "model__posterior_start": "learned",
}


def test_the_system_that_is_evaluated(tmp_path):
    config = make_config(tmp_path, system="iodine", eval__system="seq_iodine", eval__clamp=10.0, **ALONE)
    assert type(make_model(config, 8)) is Iodine
    sequential = make_model(config, 8, system="seq_iodine")
    assert type(sequential) is SequentialIodine and sequential.clamp == 10
    with pytest.raises(ConfigError, match="'seq_iodine', which cannot predict frames: choose another system"):
        check_forecast(config, BouncingBallsConfig(name="toy", image_size=8, num_frames=6))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"system": "iodine"}, r"model\.conditional_prior is True, expected false with config\.system=iodine"),
        (
            {"eval__system": "seq_iodine"},
            r"eval\.system is 'seq_iodine', expected a way to evaluate config\.system=stii",
        ),
        ({"system": "iodine", "eval__system": "stii", **ALONE}, r"expected a way to evaluate config\.system=iodine"),
        (
            {"model__conditional_prior": False},
            r"model\.posterior_start is 'prior', expected 'learned' or 'previous' without model\.conditional_prior",
        ),
        ({"eval__clamp": 1.0}, r"eval\.clamp is 1\.0, expected 0 except for eval\.system=seq_iodine"),
    ],
)
def test_systems_that_do_not_go_together(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        make_config(tmp_path, **changes)
