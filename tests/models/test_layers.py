"""Layers against their definitions, with both gradients; edge cases of layer norm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convolutions import assert_close, normal, plain, pull_back
from tiny import jit

from stii_jax.models import layers
from stii_jax.models.layers import BroadcastConv3x3, Conv3x3, SharedConv3x3, coordinates

layer_norm = jit(layers.layer_norm, static_argnames="num_axes")


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 4), (3, 7), (2, 2)])
def test_broadcast_convolution_is_that_of_the_broadcast(height, width):
    vector, cotangent = normal(0, 4, 5), normal(1, 4, height, width, 3)
    params = {"kernel": normal(2, 3, 3, 7, 3), "bias": normal(3, 3)}

    def table(vector, params):
        return BroadcastConv3x3(3, height, width).apply({"params": params}, vector)

    def whole(vector, params):
        image = jnp.broadcast_to(vector[:, None, None], (4, height, width, 5))
        grid = jnp.broadcast_to(coordinates(height, width), (4, height, width, 2))
        return plain(jnp.concatenate([image, grid], -1), params["kernel"]) + params["bias"]

    assert_close(pull_back(table)(vector, params, cotangent), pull_back(whole)(vector, params, cotangent))


def test_shared_convolution_is_that_of_all_channels():
    slots, shared, cotangent = normal(0, 2, 3, 6, 5, 4), normal(1, 2, 6, 5, 2), normal(2, 2, 3, 6, 5, 3)
    params = {"kernel": normal(3, 3, 3, 6, 3), "bias": normal(4, 3)}

    def once(images, params):
        return SharedConv3x3(3).apply({"params": params}, *images)

    def whole(images, params):
        slots, shared = images
        channels = jnp.concatenate([slots, jnp.broadcast_to(shared[:, None], (2, 3, 6, 5, 2))], -1)
        return (plain(channels.reshape(6, 6, 5, 6), params["kernel"]) + params["bias"]).reshape(2, 3, 6, 5, 3)

    images = (slots, shared)
    assert_close(pull_back(once)(images, params, cotangent), pull_back(whole)(images, params, cotangent))


def test_elu_and_its_gradient_are_the_librarys():
    x, cotangent = 4 * normal(0, 1000), normal(1, 1000)
    x[:3] = 0.0, -100.0, 100.0

    @jit
    def with_gradient(x, cotangent):
        return [(value, *pull(cotangent)) for value, pull in (jax.vjp(elu, x) for elu in (layers.elu, jax.nn.elu))]

    (value, gradient), (expected, plain_gradient) = with_gradient(x, cotangent)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_allclose(gradient, plain_gradient, rtol=1e-6, atol=3e-7)


def test_new_layers_between_elus_hand_on_the_variance_they_get():
    layer = Conv3x3(32)

    @jit
    def between_elus(x):
        before = layers.elu(x)
        return before, layers.elu(layer.init_with_output(jax.random.key(0), before)[0])

    before, after = map(np.asarray, between_elus(normal(0, 8, 24, 24, 32)))
    inside = after[:, 1:-1, 1:-1]  # the border sees zeros
    np.testing.assert_allclose(np.square(inside).mean(), np.square(before).mean(), rtol=0.1)


def test_new_broadcast_convolution_sees_the_place_as_strongly_as_the_vector():
    layer = BroadcastConv3x3(64, 16, 16)
    vectors = np.concatenate([np.zeros((1, 64), np.float32), normal(0, 200, 64)])
    image = np.asarray(jit(layer.init_with_output)(jax.random.key(0), vectors)[0])
    of_place, of_vector = image[0, 1:-1, 1:-1], image[1:, 8, 8]
    ratio = of_place.std((0, 1)).mean() / of_vector.std(0).mean()
    assert 0.4 < ratio < 1.0  # coordinates have a variance of a third, nearly the same at all taps


def test_dtype_is_that_of_the_computation_and_parameters_stay_float32():
    layer = Conv3x3(2, jnp.dtype("bfloat16"))
    x = jnp.ones((1, 4, 4, 3))
    params = jax.eval_shape(layer.init, jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert jax.eval_shape(layer.apply, params, x).dtype == jnp.bfloat16


def test_coordinates_run_from_minus_one_to_one():
    grid = np.asarray(coordinates(3, 5))
    np.testing.assert_array_equal(grid[:, 0, 0], [-1, 0, 1])
    np.testing.assert_array_equal(grid[0, :, 1], [-1, -0.5, 0, 0.5, 1])


@pytest.mark.parametrize("num_axes", [1, 2, 3])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e30])
def test_layer_norm_has_zero_mean_and_unit_variance_at_any_scale(num_axes, scale):
    x = normal(0, 3, 4, 5, 6) * np.float32(scale)
    y = np.asarray(layer_norm(x, num_axes=num_axes), np.float64)
    axes = tuple(range(-num_axes, 0))
    exact = np.asarray(x, np.float64)
    exact = (exact - exact.mean(axes, keepdims=True)) / exact.std(axes, keepdims=True)
    np.testing.assert_allclose(y, exact, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 7.3, -2.7e-5, 1e30])
@pytest.mark.parametrize("shape", [(7, 5), (8, 8, 3)])
def test_layer_norm_of_a_constant_is_zero(value, shape):
    np.testing.assert_array_equal(layer_norm(np.full(shape, value, np.float32), num_axes=len(shape)), np.zeros(shape))


def test_layer_norm_treats_leading_axes_on_their_own():
    x = np.stack([np.full((4, 4), 3, np.float32), normal(0, 4, 4)])
    y = layer_norm(x, num_axes=2)
    np.testing.assert_array_equal(y[0], np.zeros((4, 4)))
    np.testing.assert_allclose(y[1], layer_norm(x[1], num_axes=2), rtol=1e-6)


def test_blocks_of_pixels_become_channels_and_back():
    image = jnp.asarray(normal(0, 2, 3, 4, 6, 5))
    blocks = layers.space_to_depth(image)
    assert blocks.shape == (2, 3, 2, 3, 20)
    np.testing.assert_array_equal(blocks[:, :, 1, 2, 10:15], image[:, :, 3, 4])  # third of its block: second row, left
    np.testing.assert_array_equal(layers.depth_to_space(blocks), image)


def test_averages_undo_upsampling():
    image = jnp.asarray(normal(0, 2, 4, 6, 5))
    large = layers.upsample(image)
    assert large.shape == (2, 8, 12, 5)
    np.testing.assert_array_equal(large[:, 2:4, 4:6], np.broadcast_to(image[:, 1:2, 2:3], (2, 2, 2, 5)))
    np.testing.assert_allclose(layers.average_pool(large, 2), image, rtol=1e-6)


def test_smoothing_keeps_planes_and_removes_checkerboards():
    rows, columns = np.mgrid[:6, :8].astype(np.float32)
    plane = jnp.asarray(3 * rows - 2 * columns + 5)[..., None]
    np.testing.assert_allclose(layers.smooth(plane)[1:-1, 1:-1], plane[1:-1, 1:-1], rtol=1e-6)
    for pattern in (rows + columns, rows, columns):
        np.testing.assert_array_equal(
            layers.smooth(jnp.asarray(pattern % 2)[None, ..., None])[0, 1:-1, 1:-1], np.full((4, 6, 1), 0.5)
        )


def test_smoothing_of_a_dot():
    dot = jnp.zeros((5, 5, 1)).at[0, 2].set(16.0)
    expected = np.zeros((5, 5, 1), np.float32)
    expected[0, 1:4, 0], expected[1, 1:4, 0] = (3, 6, 3), (1, 2, 1)  # the first row also counts for the one beyond
    np.testing.assert_array_equal(layers.smooth(dot), expected)


@pytest.mark.parametrize(("height", "width", "size"), [(16, 8, 8), (10, 3, 4), (2, 5, 8)])
def test_averages_of_equal_parts(height, width, size):
    image = normal(0, 2, height, width, 5)
    fine = image.repeat(size, axis=1).repeat(size, axis=2)
    expected = fine.reshape(2, size, height, size, width, 5).mean((2, 4))
    np.testing.assert_allclose(layers.average_to(jnp.asarray(image), size), expected, atol=1e-5)
