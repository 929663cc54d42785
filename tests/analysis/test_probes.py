"""Probes: known answers from synthetic codes, factors of synthetic objects, and no video on both sides of a split."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import ToyModel, make_config, use_toy_model

from stii_jax.analysis.probes import NUM_FOLDS, PROBES, cross_validate, disentanglement, fit_linear, probe, r_squared
from stii_jax.analysis.probes_figure import draw_scores
from stii_jax.analysis.probes_samples import COMPONENTS, FACTORS, Samples, _codes, collect, match_slots, object_factors
from stii_jax.evaluation.evaluator import Evaluator
from stii_jax.models.baselines.rnem import RNEM
from stii_jax.runs.setup import load_dataset
from stii_jax.types import Decomposition

NUM_VIDEOS, PER_VIDEO = 40, 4


def make_samples(latents=None, temporal=None, **changes):
    rng = np.random.default_rng(0)
    num = NUM_VIDEOS * PER_VIDEO
    factors = rng.normal(size=(num, len(COMPONENTS))).astype(np.float32)
    video = np.repeat(np.arange(NUM_VIDEOS), PER_VIDEO)
    latents = factors if latents is None else latents
    return Samples(latents, temporal, factors, video, COMPONENTS, num + 40, 9)._replace(**changes)


def random(shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def results():
    """The temporal state is a rotated code of the factors; the latents are noise."""
    samples = make_samples()
    rotation = np.linalg.qr(random((8, 8)))[0]
    return probe(samples._replace(latents=random((len(samples.video), 5), 2), temporal=samples.factors @ rotation))


def test_a_linear_code_is_read_perfectly_and_noise_not_at_all(results):
    for factor in FACTORS:
        assert results["probes"]["temporal"]["linear"]["r2"][factor] == pytest.approx(1, abs=1e-4)
        assert results["probes"]["both"]["linear"]["r2"][factor] == pytest.approx(1, abs=1e-4)
        assert 0.1 < results["probes"]["temporal"]["tree"]["r2"][factor] < 0.95
        assert -0.3 < results["probes"]["latents"]["linear"]["r2"][factor] < 0.1
        assert -0.7 < results["probes"]["latents"]["tree"]["r2"][factor] < 0.1
    assert results["probes"]["both"]["linear"]["num_dims"] == 13


def test_a_factor_scores_the_mean_of_its_components(results):
    for of_probes in results["probes"].values():
        for score in of_probes.values():
            for factor, components in FACTORS.items():
                expected = np.mean([score["components"][component] for component in components])
                assert score["r2"][factor] == pytest.approx(expected)
                assert 0 <= score["r2_stderr"][factor] < 0.3


def test_counts(results):
    counted = {key: results[key] for key in ("frame", "num_videos", "num_objects", "num_found", "found_fraction")}
    expected = {"frame": 9, "num_videos": 40, "num_objects": 200, "num_found": 160, "found_fraction": 0.8}
    assert counted == expected


def test_an_axis_aligned_code_is_more_disentangled_than_a_rotated_one(results):
    aligned = probe(make_samples())["probes"]
    assert list(aligned) == ["latents"], "no temporal state"
    for name in PROBES:
        rotated = results["probes"]["temporal"][name]
        for measure in ("disentanglement", "completeness"):
            assert aligned["latents"][name][measure] > rotated[measure] + 0.3
    assert aligned["latents"]["linear"]["disentanglement"] == pytest.approx(1, abs=0.02)
    assert aligned["latents"]["linear"]["completeness"] == pytest.approx(1, abs=0.02)


def test_features_of_the_video_do_not_leak():
    """All objects of a video share a factor and a code unique to the video, so only leakage could predict one."""
    samples = make_samples()
    identity = np.eye(NUM_VIDEOS, dtype=np.float32)[samples.video]
    shared = random((NUM_VIDEOS, len(COMPONENTS)))[samples.video]
    shared[:, 4:] = 1.0  # position and velocity suffice
    for score in probe(samples._replace(latents=identity, factors=shared))["probes"]["latents"].values():
        assert max(score["components"][name] for name in COMPONENTS[:4]) < 0.05


def test_every_sample_is_predicted_by_a_probe_of_other_videos():
    seen = []

    def fit(codes, targets, seed):
        seen.append(set(codes[:, 0]))
        return (lambda codes: np.zeros((len(codes), 1))), np.ones((1, 1))

    video = np.repeat(np.arange(20), 3) + 100
    codes = np.arange(60.0)[:, None]
    predictions, _ = cross_validate(codes, codes, video, fit, seed=0)
    assert len(seen) == NUM_FOLDS and (np.array([len(codes) for codes in seen]) == 48).all()
    # A prediction of 0 is the mean of the training set, which is the other folds.
    means = [np.setdiff1d(video, video[predictions[:, 0] == mean]).size for mean in np.unique(predictions)]
    assert means == [16] * NUM_FOLDS


def test_r_squared_is_that_of_the_textbook():
    rng = np.random.default_rng(0)
    targets, video = rng.normal(size=(60, 2)) + 5, np.repeat(np.arange(20), 3)
    predictions = targets + rng.normal(size=(60, 2)) * [0.1, 0.5]
    scores, resampled = r_squared(targets, predictions, video, seed=0)
    expected = 1 - ((targets - predictions) ** 2).sum(0) / ((targets - targets.mean(0)) ** 2).sum(0)
    np.testing.assert_allclose(scores, expected)
    np.testing.assert_allclose(resampled.mean(0), expected, atol=0.05)
    mean = np.broadcast_to(targets.mean(0), targets.shape)
    np.testing.assert_allclose(r_squared(targets, mean, video, seed=0)[0], 0, atol=1e-12)


def test_disentanglement_of_known_importances():
    identity = np.eye(4)
    assert disentanglement(identity) == pytest.approx((1, 1))
    assert disentanglement(np.ones((4, 4))) == pytest.approx((0, 0))
    # A dimension without information changes only the base of the other one's logarithm.
    assert disentanglement(np.vstack([identity, np.zeros((2, 4))])) == pytest.approx((1, 1))
    # Two dimensions for each of two factors: disentangled, but half of the codes' choice is open.
    assert disentanglement(np.repeat(np.eye(2), 2, axis=0)) == pytest.approx((1, 0.5))
    # One dimension encodes both factors and has three times the weight of the other.
    assert disentanglement(np.array([[1.5, 1.5], [1.0, 0.0]]))[0] == pytest.approx(0.25)
    assert np.isnan(disentanglement(np.zeros((3, 2)))).all()


def test_a_factor_that_does_not_vary_has_no_score(tmp_path):
    samples = make_samples()
    factors = samples.factors.copy()
    factors[:, [4, 5, 6]] = 1.0  # white balls
    factors[:, [2, 3]] = 0.0  # at rest
    results = probe(samples._replace(factors=factors))
    score = results["probes"]["latents"]["linear"]
    assert np.isnan([score["r2"]["color"], score["r2_stderr"]["color"], score["components"]["red"]]).all()
    assert score["r2"]["position"] == pytest.approx(1, abs=1e-4) and score["disentanglement"] > 0.9
    draw_scores(tmp_path / "probes.png", results)
    assert (tmp_path / "probes.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_seed_gives_the_same_scores():
    samples = make_samples(random((NUM_VIDEOS * PER_VIDEO, 3)))
    few = samples.video < 2 * NUM_FOLDS
    factors = samples.factors[few].copy()
    factors[:, 2:] = 1.0  # all factors except the position, to save time
    samples = samples._replace(latents=samples.latents[few], factors=factors, video=samples.video[few])
    once, again, other = (json.dumps(probe(samples, seed=seed)) for seed in (1, 1, 2))
    assert once == again != other


def test_too_few_videos_are_an_error():
    samples = make_samples()
    with pytest.raises(ValueError, match=r"1 videos have an object .* expected at least 10.*config.probe.num_videos"):
        probe(samples._replace(video=np.zeros_like(samples.video)))


def test_one_target_and_one_dimension_are_enough():
    codes = random((60, 1)).astype(np.float64)
    predictions, importances = cross_validate(codes, 3 * codes + 1, np.arange(60), fit_linear, seed=0)
    np.testing.assert_allclose(predictions, 3 * codes + 1, atol=1e-2)
    assert importances.shape == (1, 1)


def test_factors_of_a_hand_made_object():
    """A block of 2 x 3 pixels moves right by 1 and then 2 pixels, and down by 1; another one is at rest."""
    segmentation = np.zeros((1, 3, 8, 10), np.uint8)
    for t, (y, x) in enumerate([(1, 2), (2, 3), (2, 5)]):
        segmentation[0, t, y : y + 2, x : x + 3] = 1
        segmentation[0, t, 6:8, 0:2] = 3
    frame = np.zeros((1, 8, 10, 3), np.uint8)
    frame[0, 2:4, 3:6] = (255, 51, 0)
    frame[0, 2, 3] = (0, 51, 0)
    factors, visible = object_factors(frame, segmentation, num_objects=3)
    np.testing.assert_array_equal(visible, [[True, False, True]])
    expected = [0.45, 3 / 8, 1.5, 0.5, 5 / 6, 0.2, 0, 6 / 80]
    np.testing.assert_allclose(factors[0, 0], expected, atol=1e-6)
    np.testing.assert_allclose(factors[0, 2, :4], [0.1, 7 / 8, 0, 0], atol=1e-6)


def test_an_object_that_hides_before_or_after_has_no_velocity():
    segmentation = np.ones((2, 3, 4, 4), np.uint8)
    segmentation[0, 0] = segmentation[1, 2] = 0
    _, visible = object_factors(np.zeros((2, 4, 4, 1), np.uint8), segmentation, num_objects=1)
    assert not visible.any()


def test_objects_are_matched_to_the_slots_that_overlap_them():
    segmentation = np.array([[[1, 1, 2, 2], [1, 1, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0]]], np.uint8)
    slots = np.array([[[2, 2, 1, 1], [2, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]])
    masks = np.moveaxis(np.eye(3, dtype=np.float32)[slots], -1, 1)[:, None]
    decomposition = Decomposition(jnp.zeros((1, 1, 3, 4, 4, 3)), jnp.array(masks), jnp.zeros((1, 1, 3, 2)))
    found, iou = match_slots(decomposition, segmentation, num_objects=2)
    np.testing.assert_array_equal(found, [[2, 1]])
    np.testing.assert_allclose(iou, [[3 / 4, 3 / 4]])


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory):
    config = make_config(tmp_path_factory.mktemp("data"))
    with pytest.MonkeyPatch.context() as patch:
        use_toy_model(patch)
        yield Evaluator(config, load_dataset(config))


@pytest.mark.usefixtures("quick_compiles")
def test_samples_are_of_the_objects_slots_in_the_last_frame(evaluator):
    """The toy's slots overlap objects by chance, so any overlap is accepted. Six videos, in two batches of four."""
    params = ToyModel(8).init(jax.random.key(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stii_jax.analysis.probes_samples.MIN_IOU", 0.0)
        samples = collect(evaluator, params, num_videos=6, num_frames=3)
    assert samples.frame == 2 and samples.num_objects == len(samples.video) and set(samples.video) <= set(range(6))
    assert samples.latents.shape[1] == 2 and samples.temporal.shape[1] == 4
    for batch, index in evaluator._batches("test", 4, 6):
        decomposition, state = evaluator.observe(params, batch["video"][:, :3], index)
        factors, _ = object_factors(batch["video"][:, 2], batch["segmentation"][:, 1:4], 2)
        for b, video in enumerate(index):
            for n in np.flatnonzero(samples.video == video):
                slot = np.abs(np.asarray(state.temporal.h[b]) - samples.temporal[n]).max(-1).argmin()
                np.testing.assert_allclose(samples.temporal[n], state.temporal.h[b, slot], atol=1e-5)
                np.testing.assert_allclose(samples.latents[n], decomposition.posterior[b, 2, slot, :2], atol=1e-5)
                assert np.abs(factors[b] - samples.factors[n]).max(-1).min() == 0


def test_a_velocity_needs_a_frame_before_and_one_after(evaluator):
    for num_frames in (1, 6):
        with pytest.raises(ValueError, match=f"config.probe.num_frames is {num_frames}, expected 2 to 5"):
            collect(evaluator, {}, 6, num_frames)


def test_codes_of_models_without_a_temporal_state():
    posterior = jnp.arange(24.0).reshape(1, 2, 2, 6)
    decomposition = Decomposition(jnp.zeros((1, 2, 2, 4, 4, 3)), jnp.zeros((1, 2, 2, 4, 4)), posterior)
    model = ToyModel(4)
    before_anything = model.initial_state({"initial_posterior": jnp.zeros(4)}, 1)
    (latents,) = _codes(model, decomposition, before_anything)
    np.testing.assert_array_equal(latents, posterior[:, 1, :, :3])
    (hidden,) = _codes(RNEM.__new__(RNEM), decomposition, ())
    np.testing.assert_array_equal(hidden, posterior[:, 1])
