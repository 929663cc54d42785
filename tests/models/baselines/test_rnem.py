"""R-NEM: its parts against slow numpy, the symmetry of slots, and learning."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from jax import lax
from jax.flatten_util import ravel_pytree

from stii_jax.models.baselines import rnem
from stii_jax.models.baselines.rnem import RNEM, RNEMState

pytestmark = pytest.mark.usefixtures("quick_compiles")

B, T, K, H, W, C, D = 2, 4, 3, 8, 16, 3, 6
e_step, loss_terms = tiny.jit(rnem.e_step), tiny.jit(rnem.loss_terms)
SIZES = {"num_slots": K, "hidden_dim": D, "encoder_channels": (3, 4), "feature_dim": 10, "attention_dim": 5}


def build(**changes):
    return RNEM(**{"height": H, "width": W, "channels": C, **SIZES, **changes})


def uniform(seed, *shape):
    return jax.device_put(np.random.default_rng(seed).random(shape).astype(np.float32))


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def params(model):
    """Larger than at initialisation, and none of them zero."""
    return tiny.params_of(model)


@pytest.fixture(scope="module")
def video():
    frames = np.asarray(uniform(1, B, T, H, W, 1)) > 0.7
    return np.broadcast_to(frames.astype(np.float32), (B, T, H, W, C))


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(3), B)


@pytest.fixture(scope="module")
def decompose(model):
    return tiny.jit(model.decompose)


@pytest.fixture(scope="module")
def whole(params, video, keys, decompose):
    """The clip's Decomposition and the state after it."""
    return decompose(params, video, keys)


@pytest.fixture(scope="module")
def loss_and_gradient(model):
    def losses(params, video, keys):
        out = model.loss(params, video, keys)
        return out.loss, out

    return tiny.jit(jax.value_and_grad(losses, has_aux=True))


@pytest.fixture(scope="module")
def trained(loss_and_gradient, params, video, keys):
    """The clip in training: losses and the gradient."""
    (_, losses), gradient = loss_and_gradient(params, video, keys)
    return losses, gradient


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(p, x):
    return x @ p["kernel"] + p["bias"]


def norm(p, x, axes=(-1,)):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def test_e_step_shares_pixels_by_likelihood():
    frame, means = np.array([[[1.0, 0.0, 0.5, 1.0]]]), np.array([[[[0.9, 0.9, 0.2, 0.0]], [[0.3, 0.5, 0.4, 0.0]]]])
    expected = [[[0.75, 1 / 6, 0.5, 0.5]], [[0.25, 5 / 6, 0.5, 0.5]]]  # no slot predicted it: shared evenly
    masks = e_step(frame.astype(np.float32), means.astype(np.float32))
    np.testing.assert_allclose(masks[0], expected, atol=1e-5)


def test_predicted_frame_is_white_where_a_slot_says_so():
    means = jax.device_put(np.array([[[[0.9, 0.05, 0.11]], [[0.1, 0.01, 0.0]]]], np.float32))
    np.testing.assert_array_equal(rnem.predicted_frame(means), [[[1, 0, 1]]])


def test_loss_against_loops():
    frame, means, masks = np.random.default_rng(0).random((B, 2, 3)), uniform(1, B, K, 2, 3), uniform(2, B, K, 2, 3)
    frame[0, 0, 0] = 1.0
    own, background = np.zeros(B), np.zeros(B)
    in_float64 = np.float64(means), np.float64(masks)
    for b, k, i, j in np.ndindex(B, K, 2, 3):
        x, (mu, gamma) = frame[b, i, j], (array[b, k, i, j] for array in in_float64)
        own[b] -= gamma * (x * np.log(mu) + (1 - x) * np.log(1 - mu))
        background[b] += (1 - gamma) * np.log(1 / (1 - mu))
    terms = loss_terms(frame.astype(np.float32), means, masks)
    np.testing.assert_allclose(terms["cross_entropy"], own, rtol=1e-5)
    np.testing.assert_allclose(terms["kl_to_background"], background, rtol=1e-5)


def test_loss_of_a_certain_mistake_is_finite():
    frame, masks = np.ones((1, 1, 1), np.float32), np.ones((1, 2, 1, 1), np.float32)
    terms = loss_terms(frame, np.array([0.0, 1.0], np.float32).reshape(1, 2, 1, 1), masks)
    np.testing.assert_allclose(terms["cross_entropy"], -np.log(1e-6), rtol=1e-4)


def test_flip_is_exclusive_or():
    np.testing.assert_array_equal(rnem.flip(jnp.array([0.0, 0, 1, 1]), jnp.array([0.0, 1, 0, 1])), [0, 1, 1, 0])


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 2, 2, 1)])
def test_resampling_convolutions_are_those_of_the_library(shape):
    """The library's are slow inside loops on a CPU, but equal otherwise."""
    x, kernel = uniform(0, *shape), uniform(1, 4, 4, shape[-1], 5)

    @tiny.jit
    def convolutions(x, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        halved = lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=layout)
        repeated = x.repeat(2, axis=1).repeat(2, axis=2)
        doubled = lax.conv_general_dilated(repeated, kernel, (1, 1), ((1, 2), (1, 2)), dimension_numbers=layout)
        return (rnem.halving_convolution(x, kernel), rnem.doubling_convolution(x, kernel)), (halved, doubled)

    for ours, theirs in zip(*convolutions(x, kernel)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def normed_dense(p, x):
    return norm(p["LayerNorm_0"], dense(p["Dense_0"], x))


def relation_by_loops(p, theta, features):
    """Compute the relation slot by slot and pair by pair."""

    def layer(name, x):
        return np.maximum(normed_dense(p[name], x), 0)

    out = np.zeros(theta.shape)
    for b, k in np.ndindex(theta.shape[:2]):
        total = np.zeros(theta.shape[-1])
        for i in set(range(theta.shape[1])) - {k}:
            pair = layer("pair", np.concatenate([layer("state", theta[b, k]), layer("state", theta[b, i])]))
            hidden = np.tanh(normed_dense(p["attention_hidden"], pair))
            total += sigmoid(dense(p["attention"], hidden)) * layer("effect", pair)
        out[b, k] = dense(p["update"], np.concatenate([layer("state", theta[b, k]), total, features[b, k]]))
    return out


@pytest.mark.parametrize("num_slots", [K, 1])
def test_relation_against_loops_over_pairs(params, num_slots):
    """A single slot has no relations."""
    theta, features = uniform(5, B, num_slots, D), uniform(6, B, num_slots, 10)
    out = tiny.jit(rnem.Relation(D, 5).apply)({"params": params["relation"]}, theta, features)
    expected = relation_by_loops(*jax.tree.map(np.float64, (params["relation"], theta, features)))
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-4)


def cell_in_numpy(p, inputs, theta):
    """Encoder, relation and decoder with the library's convolutions, in float64."""
    layout = ("NHWC", "HWIO", "NHWC")

    def convolve(p, x, stride, padding):
        y = lax.conv_general_dilated(x, p["kernel"], (stride, stride), (padding, padding), dimension_numbers=layout)
        return np.asarray(y) + p["bias"]

    e, d = p["encoder"], p["decoder"]
    x, image = inputs.reshape(-1, H, W, 1), (1, 2, 3)
    for i in range(2):
        x = norm(e[f"LayerNorm_{i}"], convolve(e[f"ResamplingConvolution_{i}"], x, 2, (1, 1)), image)
        x = np.where(x > 0, x, np.expm1(x))
    x = normed_dense(e["NormedDense_0"], x.reshape(len(x), -1))
    features = np.where(x > 0, x, np.expm1(x)).reshape(B, K, -1)
    update = relation_by_loops(p["relation"], theta, features)
    x = sigmoid(norm(p["norm"], update)).reshape(B * K, D)
    for name in ("NormedDense_0", "NormedDense_1"):
        x = np.maximum(normed_dense(d[name], x), 0)
    x = x.reshape(-1, H // 4, W // 4, 4).repeat(2, 1).repeat(2, 2)
    x = norm(d["LayerNorm_0"], convolve(d["ResamplingConvolution_0"], x, 1, (1, 2)), image)
    x = convolve(d["ResamplingConvolution_1"], np.maximum(x, 0).repeat(2, 1).repeat(2, 2), 1, (1, 2))
    return sigmoid(update), sigmoid(x[..., 0]).reshape(B, K, H, W)


def shares(frame, means):
    likelihood = frame[:, None] * means + (1 - frame[:, None]) * (1 - means) + 1e-6
    return likelihood / likelihood.sum(1, keepdims=True)


@pytest.mark.parametrize("rollout", ["expected", "binary"])
def test_decomposition_and_roll_out_against_numpy(params, video, whole, rollout):
    """The recurrence in float64: each slot gets its share of the prediction error."""
    predicted, _ = tiny.jit(build(rollout=rollout).predict, static_argnums=2)(params, whole[1], 2)
    with jax.enable_x64(True):
        p, frames = jax.tree.map(np.float64, (params, video[..., 0]))
        given, predicted = jax.tree.map(np.float64, (whole[0], predicted))
        means, theta = np.zeros((B, K, H, W)), np.zeros((B, K, D))
        masks = given.masks[:, 0]
        for t in range(T + 2):
            out, at = (given, t) if t < T else (predicted, t - T)
            seen = frames[:, t] if t < T else np.float64(means.max(1) > 0.1)
            if t:
                masks = shares(seen, means)
            shown = (masks * means).sum(1) if t >= T and rollout == "expected" else seen
            np.testing.assert_allclose(out.means[:, at], np.stack([means] * C, -1), atol=2e-4)
            np.testing.assert_allclose(out.masks[:, at], masks, atol=2e-4)
            theta, means = cell_in_numpy(p, masks * (shown[:, None] - means), theta)
            np.testing.assert_allclose(out.posterior[:, at], theta, atol=2e-4)


def test_slots_start_apart_by_random_masks(keys, whole, decompose, params, video):
    first = np.asarray(whole[0].masks)[:, 0]
    np.testing.assert_allclose(first.sum(1), 1, atol=1e-6)
    assert first.std(1).mean() > 0.1
    assert not np.allclose(first[0], first[1])
    again, _ = decompose(params, video, keys)
    np.testing.assert_array_equal(again.masks, whole[0].masks)
    assert np.asarray(whole[0].posterior)[:, 0].std(1).mean() > 1e-4


def test_slots_are_interchangeable(model, params):
    order = np.array([2, 0, 1])
    inputs, theta = np.asarray(uniform(0, B, K, H, W)) - 0.5, np.asarray(uniform(1, B, K, D))
    cell = tiny.jit(lambda *slots: model.cell.apply({"params": params}, *slots))
    for straight, permuted in zip(cell(inputs, theta), cell(inputs[:, order], theta[:, order])):
        np.testing.assert_allclose(np.asarray(straight)[:, order], permuted, atol=1e-5)


@pytest.mark.parametrize("cut", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_clips_one_after_the_other_are_the_whole(decompose, params, video, keys, whole, cut):
    first, state = decompose(params, video[:, :cut], keys)
    second, state = decompose(params, video[:, cut:], keys, state)
    joined = jax.tree.map(lambda a, b: np.concatenate([a, b], 1), first, second)
    for part, expected in zip(*map(jax.tree.leaves, ((joined, state), whole))):
        np.testing.assert_allclose(part, expected, atol=1e-5)


def test_a_stream_is_the_whole(model, params, video, keys, whole):
    state, stream = model.initial_state(params, B), tiny.jit(model.stream)
    for t in range(2):
        out, state = stream(params, state, video[:, t], keys)
        for part, expected in zip(*map(jax.tree.leaves, (out, whole[0]))):
            np.testing.assert_allclose(np.asarray(part)[:, 0], np.asarray(expected)[:, t], atol=1e-5)
    assert int(state.frame) == 2


def test_a_video_is_the_same_in_any_batch(decompose, loss_and_gradient, params, video, keys, whole, trained):

    def results(video, keys):
        out, _ = decompose(params, video, keys)
        (_, losses), _ = loss_and_gradient(params, video, keys)
        return map(np.asarray, jax.tree.leaves((out, losses.terms)))

    expected = [np.asarray(part) for part in jax.tree.leaves((whole[0], trained[0].terms))]
    for part, other in zip(results(video[::-1], keys[::-1]), expected):
        np.testing.assert_allclose(part, other[::-1], rtol=1e-4, atol=1e-5)
    changed = video.copy()
    changed[1] = 0.0
    for part, other in zip(results(changed, keys), expected):
        np.testing.assert_allclose(part[0], other[0], rtol=1e-4, atol=1e-5)
        assert (part[1] != other[1]).any()


def test_a_frame_does_not_change_predictions_up_to_it(decompose, params, video, keys, whole):
    """Its masks do depend on it, through the E-step."""
    other = video.copy()
    other[:, 2] = 1 - other[:, 2]
    changed, same = (jax.tree.map(np.asarray, out) for out in (decompose(params, other, keys)[0], whole[0]))
    np.testing.assert_array_equal(changed.means[:, :3], same.means[:, :3])
    np.testing.assert_array_equal(changed.masks[:, :2], same.masks[:, :2])
    assert not np.allclose(changed.masks[:, 2], same.masks[:, 2])
    assert not np.allclose(changed.means[:, 3], same.means[:, 3])


def test_predictions_go_on_from_the_state(model, params, whole):
    predict = tiny.jit(model.predict, static_argnums=2)
    together, last = predict(params, whole[1], 2)
    np.testing.assert_allclose(np.asarray(together.means)[:, 0, ..., 0], whole[1].means, atol=1e-6)
    first, state = predict(params, whole[1], 1)
    rest, state = predict(params, state, 1)
    joined = jax.tree.map(lambda a, b: np.concatenate([a, b], 1), first, rest)
    for part, expected in zip(*map(jax.tree.leaves, (joined, together))):
        np.testing.assert_allclose(part, expected, atol=1e-5)
    np.testing.assert_allclose(np.asarray(together.masks).sum(2), 1, atol=1e-5)
    assert int(state.frame) == int(last.frame) == T + 2


def test_loss_is_that_of_the_clean_frames(params, video, keys):
    """Without noise, the loss follows from the Decomposition. The first frame has no prediction, and so no loss."""
    out = jax.tree.map(np.asarray, tiny.jit(build(noise=0.0, kl_weight=0.5).loss)(params, video, keys))
    means, masks = out.decomposition.means[..., 0], out.decomposition.masks
    for t in range(T):
        terms = loss_terms(video[:, t, ..., 0], means[:, t], masks[:, t])
        for name, term in terms.items():
            np.testing.assert_allclose(out.terms[name][:, t], term if t else 0, rtol=1e-4)
    expected = (out.terms["cross_entropy"] + 0.5 * out.terms["kl_to_background"]).sum()
    np.testing.assert_allclose(out.loss, expected, rtol=1e-5)


def test_noise_is_of_the_input_only(video, whole, trained):
    noisy, clean = (jax.tree.map(np.asarray, out) for out in (trained[0].decomposition, whole[0]))
    np.testing.assert_allclose(noisy.masks[:, 0], clean.masks[:, 0], atol=1e-6)
    assert not np.allclose(noisy.means[:, 1], clean.means[:, 1])
    expected = e_step(video[:, 1, ..., 0], noisy.means[:, 1, ..., 0])
    np.testing.assert_allclose(noisy.masks[:, 1], expected, atol=1e-5)


def test_evaluation_noise_is_that_of_training_in_clips_too(params, video, keys, trained):
    decompose = tiny.jit(build(evaluation_noise=0.2).decompose)
    first, state = decompose(params, video[:, :2], keys)
    second, _ = decompose(params, video[:, 2:], keys, state)
    joined = jax.tree.map(lambda a, b: np.concatenate([a, b], 1), first, second)
    for part, expected in zip(*map(jax.tree.leaves, (joined, trained[0][2]))):
        np.testing.assert_allclose(part, expected, atol=1e-5)


def test_flips_have_their_rate_and_differ_by_frame():
    model = build(height=64, width=64)
    keys, draw = jax.random.split(jax.random.key(0), 4), tiny.jit(lambda keys, t: model._flips(keys, t, 0.2))
    flips = [np.asarray(draw(keys, np.int32(t))) for t in range(2)]
    assert abs(np.mean(flips) - 0.2) < 0.01
    assert (flips[0] != flips[1]).any()
    assert (flips[0][0] != flips[0][1]).any()


def test_every_parameter_has_a_gradient(trained):
    for path, gradient in jax.tree.leaves_with_path(trained[1]):
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path


def test_masks_carry_no_gradient(model, params):
    means = uniform(0, B, K, H, W)
    frame = uniform(1, B, H, W)
    by_masks = jax.grad(lambda masks: sum(t.sum() for t in rnem.loss_terms(frame, means, masks).values()))
    np.testing.assert_array_equal(tiny.jit(by_masks)(e_step(frame, means)), 0)
    state = RNEMState(uniform(2, B, K, D), means, np.int32(1))
    by_masks = jax.grad(lambda masks: model._advance(params, state, frame, masks).means.sum())
    np.testing.assert_array_equal(tiny.jit(by_masks)(e_step(frame, means)), 0)


@pytest.mark.slow
def test_learns_a_moving_dot(model, loss_and_gradient):
    """Soon the model predicts the next frames better than the best constant image with one slot."""
    white = 9 / (H * W)
    constant = -B * (T - 1) * H * W * (white * np.log(white) + (1 - white) * np.log(1 - white))
    video = np.zeros((B, T, H, W, C), np.float32)
    for b, t in np.ndindex(B, T):
        video[b, t, b : b + 3, 2 * t : 2 * t + 3] = 1
    params, unravel = ravel_pytree(model.init(jax.random.key(0)))
    optimizer = optax.adam(1e-2)
    opt_state, losses = optimizer.init(params), []
    for step in range(60):
        keys = jax.random.split(jax.random.key(step), B)
        (loss, _), gradient = loss_and_gradient(unravel(params), jax.device_put(video), keys)
        updates, opt_state = optimizer.update(ravel_pytree(gradient)[0], opt_state)
        params, losses = optax.apply_updates(params, updates), [*losses, float(loss)]
    assert losses[29] < losses[0] / 3
    assert losses[-1] < 0.9 * constant


@pytest.mark.parametrize("height, width", [(4, 8), (12, 4)])
def test_any_multiple_of_the_encoders_stride(height, width):
    model = build(height=height, width=width, encoder_channels=(2, 2), num_slots=1)
    params = jax.eval_shape(model.init, jax.random.key(0))
    video = jax.ShapeDtypeStruct((1, 2, height, width, C), jnp.float32)
    out = jax.eval_shape(model.loss, params, video, jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1)))
    assert out.decomposition.means.shape == (1, 2, 1, height, width, C)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"height": 10}, "image_size 10x16 with encoder_channels"),
        ({"noise": 1.5}, "noise 1.5: expected a probability"),
        ({"rollout": "soft"}, "rollout 'soft': expected 'expected' or 'binary'"),
    ],
)
def test_settings_that_do_not_do_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)
