"""Traversals: one dimension of one slot is moved and nothing else, and the pictures show the decoded frames."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.tree_util import tree_map
from toy import make_config

from stii_jax.analysis.traversal import (
    OFFSETS,
    LatentStatistics,
    ObservedFrame,
    check_traversable,
    largest_object,
    latent_statistics,
    observe_frame,
    traverse,
    traverse_held_out,
)
from stii_jax.analysis.traversal_pictures import draw_traversal, traversal_animation
from stii_jax.evaluation.evaluator import Evaluator
from stii_jax.models.baselines.iodine import Iodine
from stii_jax.models.baselines.rnem import RNEM
from stii_jax.models.prior import gaussian_kl
from stii_jax.models.restarts import RestartedSTII
from stii_jax.models.video_model import EVALUATION_SEED, example_keys
from stii_jax.runs.setup import load_dataset
from stii_jax.visualization.visualize import CELL, GAP, LINE

pytestmark = pytest.mark.usefixtures("quick_compiles")

SCALE = CELL // tiny.H
FRAME, SLOT = 1, 1


@pytest.fixture(scope="module")
def model():
    return tiny.build()


@pytest.fixture(scope="module")
def params(model):
    return tiny.params_of(model)


@pytest.fixture(scope="module")
def video():
    return jnp.asarray(np.random.default_rng(1).random((tiny.B, 4, tiny.H, tiny.W, 3)), jnp.float32)


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(3), tiny.B)


@pytest.fixture(scope="module")
def observed(model, params, video, keys):
    return observe_frame(model, params, video, keys, FRAME)


@pytest.fixture(scope="module")
def statistics():
    return LatentStatistics(np.float32([0.5, 1.0, 2.0]), np.float32([0.1, 3.0, 1.0]), 10)


@pytest.fixture(scope="module")
def traversal(model, params, observed, statistics):
    return traverse(model, params, observed, statistics, index=1, slot=SLOT, num_dims=2)


@functools.cache
def decoder(model):
    def run(params, z, h):
        decoded = model.elbo.decode(params, z[None], h[None])
        return (decoded.masks[..., None] * decoded.means).sum(1)[0], decoded.masks[0], decoded.means[0]

    return tiny.jit(run)


def decode(model, params, z, h):
    return map(np.asarray, decoder(model)(params, z, h))


@functools.cache
def decomposer(model):
    return tiny.jit(lambda *inputs: model.decompose(*inputs))


def decompose(model, params, video, keys):
    return decomposer(model)(params, video, keys)


def as_pixels(values):
    return (np.clip(values, 0, 1) * 255).round()


def test_an_observed_frame_is_what_the_frame_was_decoded_from(model, params, video, keys, observed):
    whole, _ = decompose(model, params, video, keys)
    np.testing.assert_allclose(observed.posterior, whole.posterior[:, FRAME], atol=1e-5)
    np.testing.assert_allclose(observed.masks, whole.masks[:, FRAME], atol=1e-5)
    _, before = decompose(model, params, video[:, :FRAME], keys)
    np.testing.assert_allclose(observed.h, before.temporal.h, atol=1e-5)
    prior = tiny.jit(model.elbo.prior_parameters)(params, before.temporal.h)
    np.testing.assert_allclose(observed.prior, prior, atol=1e-5)
    np.testing.assert_array_equal(observed.frame, video[:, FRAME])


def test_later_frames_are_not_looked_at(model, params, video, keys, observed):
    again = observe_frame(model, params, video.at[:, FRAME + 1 :].set(0.5), keys, FRAME)
    tree_map(np.testing.assert_array_equal, again, observed)


def test_the_first_frame_has_a_moment_too(model, params, video, keys):
    first = observe_frame(model, params, video, keys, 0)
    assert first.time == 0 and not np.any(first.h)
    alone, _ = decompose(model, params, video[:, :1], keys)
    np.testing.assert_allclose(first.posterior, alone.posterior[:, 0], atol=1e-5)


def test_only_the_slots_own_dimension_moves(observed, statistics, traversal):
    assert traversal.dimensions == (1, 2), "by KL divergence, the highest first"
    assert traversal.kl == (3.0, 1.0)
    mean = np.asarray(observed.posterior[1, :, : tiny.Z])
    for row, dimension in enumerate(traversal.dimensions):
        moved = traversal.latents[row] - mean
        expected = np.float32(OFFSETS) * statistics.scale[dimension]
        np.testing.assert_allclose(moved[:, SLOT, dimension], expected, atol=1e-5)
        moved[:, SLOT, dimension] = 0
        assert not moved.any(), "all else stays, to the bit"


def test_the_middle_is_the_unchanged_reconstruction(model, params, observed, traversal):
    expected, _, _ = decode(model, params, observed.posterior[1, :, : tiny.Z], observed.h[1])
    for row in traversal.frames[:, traversal.middle]:
        np.testing.assert_allclose(row, as_pixels(expected), atol=1)
    np.testing.assert_array_equal(traversal.frames[0, traversal.middle], traversal.frames[1, traversal.middle])


def test_slots_that_are_not_used_paint_nothing(params, video, keys, statistics):
    model = RestartedSTII(slot_cost=1e6, **tiny.settings_of())  # no slot is worth its cost, but one is needed
    observed = observe_frame(model, params, video, keys, FRAME)
    assert np.asarray(observed.present).tolist() == [[True, False, False]] * tiny.B
    unchanged = traverse(model, params, observed, statistics, slot=0, num_dims=1)
    row = unchanged.frames[0, unchanged.middle]
    latents = jnp.asarray(unchanged.latents[:1, unchanged.middle, :1])
    alone = model.elbo.decode(params, latents, observed.h[:1, :1])
    np.testing.assert_allclose(row, 255 * np.asarray(alone.means[0, 0]), atol=1)


def test_pictures_are_decoded_from_the_latents_beside_them(model, params, observed, traversal):
    frame, masks, means = decode(model, params, jnp.asarray(traversal.latents[1, -1]), observed.h[1])
    np.testing.assert_allclose(traversal.frames[1, -1], as_pixels(frame), atol=1)
    mask = masks[SLOT, ..., None]
    np.testing.assert_allclose(traversal.alone[1, -1], as_pixels(mask * means[SLOT] + (1 - mask) * 215 / 255), atol=1)
    assert (traversal.frames[1, -1] != traversal.frames[1, 0]).any()


def test_a_dimension_without_use_changes_nothing(model, params, observed, statistics):
    """The first layer of the decoder ignores dimension 2."""
    first = params["decoder"]["Dense_0"]["kernel"]
    assert first.shape[0] == tiny.Z + tiny.D
    deaf = {**params, "decoder": {**params["decoder"], "Dense_0": {**params["decoder"]["Dense_0"]}}}
    deaf["decoder"]["Dense_0"]["kernel"] = first.at[2].set(0)
    traversal = traverse(model, deaf, observed, statistics, slot=SLOT, num_dims=2)
    for images in (traversal.frames, traversal.alone):
        assert (images[1] == images[1, :1]).all() and (images[0] != images[0, :1]).any()


def test_statistics_are_of_the_objects_alone():
    """Two videos of 4 x 4 pixels. Slot 0 has most pixels of the first, slot 2 of the second; slot 1 has none."""
    slots = np.zeros((2, 4, 4), int)
    slots[0, 0], slots[1], slots[1, 0, 0] = 2, 2, 0
    masks = np.moveaxis(np.eye(3, dtype=np.float32)[slots], -1, 1)
    rng = np.random.default_rng(0)
    posterior, prior = rng.normal(size=(2, 2, 3, 6)).astype(np.float32)
    observed = ObservedFrame(
        jnp.zeros((2, 4, 4, 3)), masks, jnp.asarray(posterior), jnp.asarray(prior), jnp.zeros((2, 3, 4)), 0
    )
    q, p = posterior[[0, 1], [2, 0]], prior[[0, 1], [2, 0]]
    found = latent_statistics(observed)
    assert found.num_objects == 2
    np.testing.assert_allclose(found.scale, np.abs(q[0] - q[1])[:3] / 2, rtol=1e-5)
    np.testing.assert_allclose(found.kl.sum(), gaussian_kl(jnp.asarray(q), jnp.asarray(p)).mean(), rtol=1e-5)
    assert [largest_object(observed, index) for index in range(2)] == [2, 0]
    with pytest.raises(ValueError, match="1 slots show an object, expected at least 2"):
        latent_statistics(ObservedFrame(*(array[:1] for array in observed[:5]), 0))


@pytest.mark.slow
def test_iodine_has_traversals_too(video, keys, statistics):
    iodine = Iodine(**tiny.settings_of(conditional_prior=False, conditional_decoder=False, posterior_start="learned"))
    own = tiny.params_of(iodine)
    observed = observe_frame(iodine, own, video, keys, 1)
    whole, _ = decompose(iodine, own, video[:, :2], keys)
    np.testing.assert_allclose(observed.posterior, whole.posterior[:, 1], atol=1e-5)
    traversal = traverse(iodine, own, observed, statistics, slot=0, num_dims=1, offsets=(-1.0, 0.0))
    expected, _, _ = decode(iodine, own, observed.posterior[0, :, : tiny.Z], observed.h[0])
    np.testing.assert_allclose(traversal.frames[0, 1], as_pixels(expected), atol=1)


@pytest.mark.slow
def test_traversals_of_held_out_videos(tmp_path):
    """Five videos of a dataset in a batch of eight, with the noise of the evaluation."""
    config = make_config(tmp_path, data__options__num_test=5, eval__batch_size=8)
    evaluator = Evaluator(config, load_dataset(config))
    params = tiny.params_of(evaluator.model)
    first, second = traverse_held_out(evaluator, params, 2, num_frames=2, num_dims=1, reach=1.5)
    batch, index = next(evaluator._batches("test", 2, 5))
    video = jnp.asarray(batch["video"][:5], jnp.float32) / 255
    keys = example_keys(jax.random.key(EVALUATION_SEED), jnp.asarray(index[:5]))
    observed = observe_frame(evaluator.model, params, video, keys, 1)
    for number, traversal in enumerate((first, second)):
        expected = traverse(evaluator.model, params, observed, latent_statistics(observed), index=number, num_dims=1)
        assert traversal.slot == expected.slot and traversal.dimensions == expected.dimensions
        np.testing.assert_allclose(traversal.latents[0, 6], expected.latents[0, 6], atol=1e-4)
        np.testing.assert_array_equal(traversal.seen, batch["video"][number, 1])
        assert traversal.offsets == tuple(np.linspace(-1.5, 1.5, 13)) and traversal.time == 1
    with pytest.raises(ValueError, match=r"config.probe.num_frames is 7, expected 1 to 6"):
        traverse_held_out(evaluator, params, 1, num_frames=7)


def test_bad_input_is_named(model, params, video, keys, observed, statistics):
    with pytest.raises(ValueError, match=r"RNEM decodes no latents .*config.system 'stii'"):
        check_traversable(RNEM.__new__(RNEM))
    with pytest.raises(ValueError, match="frame is 4, expected 0 to 3"):
        observe_frame(model, params, video, keys, 4)
    with pytest.raises(ValueError, match="slot is 3, expected 0 to 2"):
        traverse(model, params, observed, statistics, slot=3)
    with pytest.raises(ValueError, match=r"offsets are \(1.0, 2.0\), expected 0"):
        traverse(model, params, observed, statistics, offsets=(1.0, 2.0))


def test_a_still_shows_rows_of_dimensions_and_columns_of_values(traversal):
    for alone in (False, True):
        picture = draw_traversal(traversal, num_columns=3, alone=alone)
        images = traversal.alone if alone else traversal.frames
        head = LINE + CELL + GAP + 2 * LINE
        assert picture.shape[0] == head + 2 * (CELL + GAP)
        left = next(
            x for x in range(picture.shape[1]) if (picture[head : head + CELL : SCALE, x] == images[0, 0, :, 0]).all()
        )
        for row in range(2):
            for column, value in enumerate((0, 6, 12)):
                y, x = head + row * (CELL + GAP), left + column * (CELL + GAP)
                cell = picture[y : y + CELL : SCALE, x : x + CELL : SCALE]
                np.testing.assert_array_equal(cell, images[row, value])
        np.testing.assert_array_equal(picture[LINE : LINE + CELL : SCALE, left : left + CELL : SCALE], traversal.seen)


def test_an_animation_moves_all_dimensions_there_and_back(traversal):
    pictures = traversal_animation(traversal)
    assert len(pictures) == 2 * (len(OFFSETS) - 1) and len({picture.shape for picture in pictures}) == 1
    values = [*range(6, 13), *range(11, -1, -1), *range(1, 6)]
    top = 2 * LINE + CELL + GAP
    for picture, value in zip(pictures, values, strict=True):
        cell = picture[top : top + CELL : SCALE, GAP : GAP + CELL : SCALE]
        np.testing.assert_array_equal(cell, traversal.frames[0, value])
