"""DDPAE: the spatial transformer and the mixture against references, and the contract of all video models."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stii_jax.models.baselines.ddpae import DDPAE, composition, transformer
from stii_jax.models.baselines.ddpae.latents import draw_noise, no_noise
from stii_jax.models.baselines.ddpae.networks import ImageDecoder

pytestmark = pytest.mark.usefixtures("quick_compiles")

B, T, K, H, W, C, Z = 2, 4, 3, 8, 9, 3, 4
paste, crop = tiny.jit(transformer.paste, static_argnums=(2, 3)), tiny.jit(transformer.crop, static_argnums=2)
constrain = tiny.jit(transformer.constrain, static_argnums=(1, 2))
compose, as_layers = tiny.jit(composition.compose), tiny.jit(composition.as_layers)
SETTINGS = {
    "height": H,
    "width": W,
    "channels": C,
    "num_slots": K,
    "hidden_dim": 8,
    "feature_dim": 8,
    "content_dim": Z,
    "object_size": 4,
    "encoder_channels": 2,
    "scale_prior": 2.0,
}


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


@pytest.fixture(scope="module")
def model():
    return DDPAE(**SETTINGS)


@pytest.fixture(scope="module")
def params(model):
    """Far from zero, so that every term matters, except for poses, which stay within their bounds."""
    params = tiny.random_like(jax.eval_shape(model.init, jax.random.key(0)))
    params["initial_head"]["bias"] = jnp.array([2.0, 0, 0, -2, -1, -1])
    return params


@pytest.fixture(scope="module")
def decompose(model):
    return tiny.jit(lambda *inputs: model.decompose(*inputs))


@pytest.fixture(scope="module")
def loss(model):
    return tiny.jit(model.loss)


@pytest.fixture(scope="module")
def observe(model):
    run = tiny.jit(lambda *inputs: model.latents.observe(*inputs))
    return lambda params, video, noise: run(params, video, noise, model.initial_state(params, B))


@pytest.fixture(scope="module")
def whole(decompose, params, video):
    """The clip's Decomposition and the state after it."""
    return decompose(params, video, keys_of())


@pytest.fixture(scope="module")
def trained(loss, params, video):
    """The part of the clip that training sees."""
    return loss(params, video, keys_of())


@pytest.fixture(scope="module")
def noise():
    return draw_noise(keys_of(), T, K - 1, Z)


@pytest.fixture(scope="module")
def video():
    return pixels(B, T, H, W, C)


def keys_of(number=B):
    return jax.random.split(jax.random.key(3), number)


def close(first, second, rtol=1e-4, atol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), first, second)


# --- the spatial transformer


def test_the_identity_pose_gives_the_image():
    images = pixels(2, 6, 5, 3)
    pose = np.tile(np.float32([1, 0, 0]), (2, 1))
    close(paste(images, pose, 6, 5), images)
    square = images[:, :5]
    close(crop(square, pose, 5), square)


def test_a_shift_by_whole_pixels_moves_right_and_down_and_brings_in_black():
    image = pixels(6, 5, 1)
    # Two pixels to the right and one down: the centre -(x, y) / scale moves by 2 of 4 and 1 of 5 steps of the grid.
    moved = paste(image, np.float32([1, -2 * 2 / 4, -2 * 1 / 5]), 6, 5)
    expected = np.zeros((6, 5, 1))
    expected[1:, 2:] = image[:-1, :-2]
    close(moved, expected)


@pytest.mark.parametrize("pose", [(1.7, 0.3, -0.6), (3.0, -2.2, 2.4), (0.8, 0.1, 0.0)])
def test_pasting_and_cropping_are_bilinear_sampling_between_zeros(pose):
    from scipy.ndimage import map_coordinates

    scale, x, y = pose
    image = pixels(7, 7, seed=1)

    def at(rows, columns):
        """Sample at `rows` and `columns` in [-1, 1]."""
        grid = np.meshgrid((rows + 1) * 3, (columns + 1) * 3, indexing="ij")
        return map_coordinates(image, grid, order=1, mode="grid-constant", cval=0)

    rows, columns = np.linspace(-1, 1, 9), np.linspace(-1, 1, 12)
    pasted = paste(image[..., None], np.float32(pose), 9, 12)
    close(pasted[..., 0], at(scale * rows + y, scale * columns + x))
    cropped = crop(image[..., None], np.float32(pose), 9)
    close(cropped[..., 0], at((rows - y) / scale, (rows - x) / scale))


def test_cropping_finds_what_was_pasted():
    """An object's centre lies at its pose, and the crop at that pose contains it completely."""
    ramp = np.linspace(0, 1, 9, dtype=np.float32)
    image = np.minimum(ramp[:, None], ramp[::-1])[..., None]  # linear almost everywhere, so resampling preserves it
    pose = np.float32([2, 0.5, -0.25])
    cropped = np.asarray(crop(paste(image, pose, 65, 65), pose, 9))
    np.testing.assert_allclose(cropped[1:-1, 1:-1], image[1:-1, 1:-1], atol=0.03)


@given(arrays(np.float32, (5, 3), elements=st.floats(-50, 50, width=32)))
@settings(deadline=None, max_examples=20)
def test_poses_are_kept_within_bounds(raw):
    pose = np.asarray(constrain(raw, 3.0, 1.0))
    assert (pose[:, 0] >= 2).all() and (pose[:, 0] <= 4).all()
    assert (np.abs(pose[:, 1:] / pose[:, :1]) < 1).all()


# --- components as slots


def test_grey_components_are_added_up_and_clipped():
    pasted = pixels(2, 3, 4, 5, 1) * np.float32(np.arange(5) / 4)[:, None]
    frames = compose(np.repeat(pasted, 3, -1))
    assert (pasted.sum(1) > 1).any()
    close(frames, np.repeat(np.minimum(pasted.sum(1), 1), 3, -1))


@given(arrays(np.float32, (3, 2, 2, 3), elements=st.floats(0, 1, width=32)))
@settings(deadline=None, max_examples=30)
def test_layers_mix_to_the_frame(pasted):
    means, masks = map(np.asarray, as_layers(pasted))
    np.testing.assert_allclose(masks.sum(0), 1, atol=1e-6)
    assert masks.min() >= 0 and means.min() >= 0 and means.max() <= 1
    np.testing.assert_allclose((means * masks[..., None]).sum(0), compose(pasted), atol=5e-6)
    assert (means[0] == 0).all()


# --- the model


def reference_kl(q, p):
    """The KL of diagonal Gaussians in nats, from the definition."""
    (q_mean, q_log), (p_mean, p_log) = np.split(np.float64(q), 2, -1), np.split(np.float64(p), 2, -1)
    variance = np.exp(2 * q_log)
    return (p_log - q_log + (variance + (q_mean - p_mean) ** 2) / (2 * np.exp(2 * p_log)) - 0.5).sum(-1)


def test_the_loss_is_the_negative_elbo(model, params, video, observe, trained, noise):
    """Likelihood of the drawn frames, and the KLs from the posteriors that result from the same noise."""
    losses = jax.tree.map(np.asarray, trained)
    close(losses.loss, (losses.terms["kl"] - losses.terms["log_likelihood"]).sum())
    frames = np.float64(trained.decomposition.reconstruction)
    log_density = -(((video - frames) / 0.3) ** 2) / 2 - np.log(0.3 * np.sqrt(2 * np.pi))
    close(losses.terms["log_likelihood"], log_density.sum((2, 3, 4)))

    past, state = observe(params, video[:, :2], noise)
    later = noise._replace(increments=noise.increments[:, 2:])
    future, _ = tiny.jit(model.latents.predict, static_argnums=1)(params, 2, later, state)
    step = np.concatenate([np.zeros(3), np.full(3, np.log(0.1))])
    start = np.concatenate([[2, 0, 0], np.log([0.2, 1, 1])])
    kl = reference_kl(past.increments, step).sum(-1)
    kl[:, 0] += reference_kl(past.initial[:, 0], start).sum(-1)
    kl += reference_kl(past.contents, np.zeros(2 * Z)).sum(-1) / 2
    kl = np.concatenate([kl, reference_kl(future.increments, step).sum(-1)], axis=1)
    close(losses.terms["kl"], kl, rtol=1e-3)


def test_the_slots_mix_to_the_drawn_frame(model, params, video, observe, whole):
    decomposition, _ = whole
    latents, _ = observe(params, video, no_noise(B, T, K - 1, Z))
    pasted = tiny.jit(lambda *inputs: model.latents.draw(*inputs, T, H, W))(params, latents)
    np.testing.assert_allclose(decomposition.reconstruction, compose(pasted), atol=5e-6)
    close(model.poses(decomposition), model.latents.constrain(latents.poses))


def test_poses_add_up(params, video, observe, noise):
    """pose_0 = initial + beta_0, pose_t = pose_{t-1} + beta_t, against a loop."""
    noise = jax.tree.map(np.asarray, noise)
    latents, state = jax.tree.map(np.asarray, observe(params, video, noise))
    pose = latents.initial[:, 0, :, :3] + np.exp(latents.initial[:, 0, :, 3:]) * noise.initial
    for t in range(T):
        mean, log_scale = np.split(latents.increments[:, t], 2, -1)
        close(latents.pose_means[:, t], pose + mean)
        pose = pose + mean + np.exp(log_scale) * noise.increments[:, t]
        close(latents.poses[:, t], pose)
    close(state.pose, pose)


def test_chunks_equal_the_whole_and_the_future_changes_nothing(model, decompose, params, video, whole):
    whole, after = jax.tree.map(np.asarray, whole)
    first, state = decompose(params, video[:, :1], keys_of())
    second, end = decompose(params, video[:, 1:], keys_of(), state)
    close(jax.tree.map(lambda a, b: np.concatenate([a, b], 1), first, second), whole)
    close(end, after)
    assert int(after.frame) == T
    frame, _ = tiny.jit(model.stream)(params, state, video[:, 1], keys_of())
    close(frame, jax.tree.map(lambda a: a[:, 1:2], whole))


def test_masks_sum_to_one_and_shapes_are_those_of_the_seam(whole):
    decomposition = jax.tree.map(np.asarray, whole[0])
    assert decomposition.means.shape == (B, T, K, H, W, C)
    assert decomposition.posterior.shape == (B, T, K, 2 * (3 + Z))
    np.testing.assert_allclose(decomposition.masks.sum(2), 1, atol=1e-6)
    assert (decomposition.posterior[:, :, 0] == 0).all()


def test_a_video_does_not_depend_on_its_batch(loss, params, video, trained):
    both = trained
    alone = [loss(params, video[i : i + 1], keys_of()[i : i + 1]) for i in range(B)]
    close(both.terms, jax.tree.map(lambda *a: np.concatenate(a), *(one.terms for one in alone)), rtol=1e-3)
    close(both.loss, sum(one.loss for one in alone))
    swapped = loss(params, video, keys_of()[::-1])
    assert not np.allclose(both.terms["log_likelihood"], swapped.terms["log_likelihood"], rtol=1e-4)


def test_training_and_prediction_look_at_observed_frames_only(loss, params, video, trained):
    changed = video.copy()
    changed[:, T // 2 :] = 0.5
    first, other = trained, loss(params, changed, keys_of())
    close(first.decomposition, other.decomposition)
    close(first.terms["kl"], other.terms["kl"])
    assert not np.allclose(first.terms["log_likelihood"], other.terms["log_likelihood"])


def test_prediction_is_one_recurrence_that_keeps_the_contents(model, params, whole):
    _, state = whole
    predict = tiny.jit(lambda params, state, n: model.predict(params, state, n), static_argnums=2)
    together, end = predict(params, state, 2)
    first, between = predict(params, state, 1)
    second, after = predict(params, between, 1)
    close(jax.tree.map(lambda a, b: np.concatenate([a, b], 1), first, second), together)
    close(end, after)
    contents = np.asarray(together.posterior)[:, :, :, 3 : 3 + Z]
    close(contents, np.broadcast_to(contents[:, :1], contents.shape))
    assert np.abs(np.diff(model.poses(together), axis=1)).max() > 1e-3
    assert int(end.frame) == T + 2


def test_components_look_at_those_before_them(model, whole):
    """All components share weights, so they differ only because each sees its predecessor's output."""
    poses = np.asarray(model.poses(whole[0]))
    assert np.abs(poses[:, :, 0] - poses[:, :, 1]).max() > 1e-3


@pytest.mark.slow
def test_every_parameter_has_a_gradient(model, video):
    params = model.init(jax.random.key(0))
    gradients = tiny.jit(jax.grad(lambda *inputs: model.loss(*inputs).loss))(params, video, keys_of())
    flat, _ = jax.tree_util.tree_flatten_with_path(gradients)
    assert [jax.tree_util.keystr(path) for path, g in flat if not np.abs(g).max() > 0] == []
    assert all(np.isfinite(g).all() for _, g in flat)


@pytest.mark.slow
def test_it_learns_a_moving_dot():
    model = DDPAE(**{**SETTINGS, "num_slots": 2, "width": H, "scale_prior": 3.0})
    video = np.zeros((2, 4, H, H, C), np.float32)
    for t in range(4):
        video[0, t, 2:4, 1 + t : 3 + t] = 1
        video[1, t, 2 + t : 4 + t, 5:7] = 1
    optimizer = optax.adam(1e-2)
    params = model.init(jax.random.key(0))
    start = params, optimizer.init(params)

    @tiny.jit
    def train(carry):
        def step(carry, number):
            params, moments = carry

            def loss(params):
                return model.loss(params, jnp.asarray(video), jax.random.split(jax.random.key(number), 2)).loss

            value, gradients = jax.value_and_grad(loss)(params)
            updates, moments = optimizer.update(gradients, moments)
            return (optax.apply_updates(params, updates), moments), value

        return jax.lax.scan(step, carry, jnp.arange(30))[1]

    values = train(start)
    assert np.mean(values[-5:]) < 0.5 * np.mean(values[:2]), values


# --- its limits


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_slots": 1}, "num_slots=1: .* give 2"),
        ({"scale_prior": 1.5}, r"scale_prior=1.5: expected over scale_range \+ 0.5 = 1.5"),
        ({"observed_fraction": 1.0}, "observed_fraction=1.0: .* between 0 and 1"),
        ({"initial_scales": (1.0, 1.0)}, "initial_scales=.*: expected 3 numbers"),
        ({"sigma": 0.0}, "sigma=0.0: expected a number over 0"),
        ({"object_size": 9}, "object_size=9: .* power of two"),
        ({"object_size": 3}, "object_size=3: .* power of two"),
    ],
)
def test_settings_that_do_not_do_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        DDPAE(**{**SETTINGS, **changes})


def test_there_must_be_a_frame_to_predict(model, params, video):
    with pytest.raises(ValueError, match=r"num_frames=1: .* 2 or more"):
        jax.eval_shape(model.loss, params, video[:, :1], keys_of())
    assert [model.num_observed(frames) for frames in (2, 3, 5, 8)] == [1, 2, 2, 4]
    assert DDPAE(**{**SETTINGS, "observed_fraction": 0.75}).num_observed(8) == 6
    assert DDPAE(**{**SETTINGS, "observed_fraction": 0.01}).num_observed(8) == 1
    assert DDPAE(**{**SETTINGS, "observed_fraction": 0.99}).num_observed(8) == 7


@pytest.mark.parametrize("size", [4, 5, 8, 12, 14, 16])
def test_decoders_make_every_size_that_is_allowed(size):
    decoder = ImageDecoder(size, 3, 2)
    image, _ = jax.eval_shape(decoder.init_with_output, jax.random.key(0), jnp.zeros((1, Z)))
    assert image.shape == (1, size, size, 3)
