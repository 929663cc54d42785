"""Clips through the model against the plain float64 reference: values, states, and every gradient leaf."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import tiny

from stii_jax.types import Decomposition

IODINE = {"conditional_prior": False, "conditional_decoder": False, "posterior_start": "learned"}
VARIANTS = {
    "provide": {"preset": "provide", "num_refinements": 3},
    "base": {"schedule": "constant", "posterior_start": "previous"},
    "pyramid": {"architecture": "pyramid", "temperature": 2.0, "first_noise": "once"},
    "paper's grid": {
        "schedule": "paper",
        "num_refinements": 3,
        "first_noise": "mean",
        "leave_one_out_masks": "renormalized",
    },
    "learned start": {"posterior_start": "learned", "refinement_weights": "budget", "cell": "stable"},
}


class Reference:
    """The plain model with given settings, compiled; `detach_refiner_inputs` is chosen at each call."""

    def __init__(self, settings, with_gradient):
        def loss(params, video, noise, clip_noise, attached):
            def noise_of(t, r):
                return clip_noise if t == "clip" else noise[t][r]

            loss, *rest = reference.unroll(params, video, noise_of, settings, attached)
            return loss, rest

        self.settings = settings
        self._run = tiny.jit(jax.value_and_grad(loss, has_aux=True) if with_gradient else loss)

    def __call__(self, params, video, keys, attached=False):
        """Return the loss and (ELBOs, decodes, temporal state), with the gradient by parameters if requested."""
        decodes = range(self.settings["num_refinements"] + 1)
        noise = [[tiny.noise_of(keys, t, r) for r in decodes] for t in range(video.shape[1])]
        clip_noise = tiny.noise_of(keys, "clip", 0)
        with jax.enable_x64(True):
            out = self._run(*reference.in_float64((params, video, noise, clip_noise, float(attached))))
            return jax.tree.map(np.asarray, out)


def loss_and_rest(model):
    def run(params, video, keys):
        out, state = model.unroll(params, video, keys)
        return out.loss, (out, state)

    return tiny.jit(jax.value_and_grad(run, has_aux=True))


def assert_clip(out, state, loss, rest):
    """Compare the outputs of `unroll` with the reference.

    Posterior and state have the widest tolerance. Where all slots paint nearly the same, a slot's mask gradient varies
    by .1 about 200, so the layer normalisation of step 6 raises float32 rounding to .001.
    """
    elbos, decodes, temporal = rest
    np.testing.assert_allclose(out.loss, loss, rtol=1e-5)
    for row, expected in zip(out.cell_elbo, elbos):
        np.testing.assert_allclose(row[: len(expected) - 1], expected[:-1], rtol=1e-4)
        np.testing.assert_array_equal(row[len(expected) - 1 : -1], 0)
        np.testing.assert_allclose(row[-1], expected[-1], rtol=1e-4)
    for t, (means, masks, posterior, terms) in enumerate(decodes):
        np.testing.assert_allclose(out.decomposition.means[:, t], means, atol=1e-4)
        np.testing.assert_allclose(out.decomposition.masks[:, t], masks, atol=1e-4)
        np.testing.assert_allclose(out.decomposition.posterior[:, t], posterior, atol=1e-3)
        for name, values in terms.items():
            np.testing.assert_allclose(out.terms[name][:, t], values, rtol=1e-3)
    np.testing.assert_allclose(state.temporal.h, temporal[0], atol=1e-3)
    np.testing.assert_allclose(state.temporal.c, temporal[1], atol=1e-3)
    np.testing.assert_array_equal(state.posterior, out.decomposition.posterior[:, -1])
    assert state.frame == len(elbos)


@pytest.fixture(scope="module")
def plain():
    return Reference(tiny.settings_of(), with_gradient=True)


@pytest.fixture(scope="module")
def trained(model):
    return loss_and_rest(model)


def assert_gradients(gradients, expected, tolerance=1e-5):
    """Compare every leaf within `tolerance` times its largest entry. The unused learned start is compared exactly."""
    for (path, leaf), other in zip(jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(gradients)):
        error = np.abs(np.asarray(other) - leaf).max()
        assert error <= tolerance * np.abs(leaf).max(), f"{jax.tree_util.keystr(path)}: {error}"


@pytest.mark.slow
def test_clip_and_every_gradient_with_the_backward_pass_shared(plain, trained, params, video, keys):
    (loss, rest), expected = plain(params, video, keys)
    (_, (out, state)), gradients = trained(params, video, keys)
    assert_clip(out, state, loss, rest)
    assert_gradients(gradients, expected)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}


@pytest.mark.slow
def test_clip_and_every_gradient_through_the_refiners_inputs(plain, params, video, keys):
    """Without rematerialisation, which must not change the result."""
    (loss, rest), expected = plain(params, video, keys, attached=True)
    run = loss_and_rest(tiny.build(detach_refiner_inputs=False, remat=False))
    (_, (out, state)), gradients = run(params, video, keys)
    assert_clip(out, state, loss, rest)
    assert_gradients(gradients, expected)
    _, detached = plain(params, video, keys)
    with pytest.raises(AssertionError):  # the other objective differs, so the test is sensitive
        assert_gradients(gradients, detached)


@pytest.mark.slow
@pytest.mark.parametrize("detach", [True, False])
def test_rematerialisation_changes_no_gradient(params, video, keys, detach):
    (kept, _), expected = loss_and_rest(tiny.build(detach_refiner_inputs=detach, remat=False))(params, video, keys)
    (loss, _), gradients = loss_and_rest(tiny.build(detach_refiner_inputs=detach, remat=True))(params, video, keys)
    np.testing.assert_allclose(loss, kept, rtol=1e-6)
    assert_gradients(gradients, jax.tree.map(np.asarray, expected))


def test_nothing_is_kept_for_all_cells_ahead_of_the_frames(video, keys):
    """JAX hoists values that are equal in all frames out of the scan; a cell's activations must not be among them."""
    model = tiny.build()
    params = jax.eval_shape(model.init, jax.random.key(0))
    gradient = jax.make_jaxpr(jax.grad(lambda *inputs: model.loss(*inputs).loss))(params, video[:, :1], keys)
    scans = [equation for equation in gradient.eqns if equation.primitive.name == "scan"]
    ahead = [equation for equation in scans if equation.params["length"] == tiny.R + 1]  # the scan over cells
    assert len(ahead) < len(scans)  # the scan over frames
    assert sum(output.aval.size for equation in ahead for output in equation.outvars) < tiny.H * tiny.W


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"preset": "provide"}, VARIANTS["pyramid"]], ids=["provide", "pyramid"])
def test_gradients_of_variants(video, keys, changes):
    settings, model = tiny.settings_of(**changes), tiny.build(**changes)
    params = tiny.params_of(model)
    attached = not settings["detach_refiner_inputs"]
    _, expected = Reference(settings, with_gradient=True)(params, video, keys, attached=attached)
    _, gradients = loss_and_rest(model)(params, video, keys)
    assert_gradients(gradients, expected, tolerance=1e-4)


@pytest.mark.parametrize(
    "variant", [name if name == "pyramid" else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)
def test_variants_against_the_reference(variant, video, keys):
    changes = VARIANTS[variant]
    model = tiny.build(**changes)
    params = tiny.params_of(model)
    clip = video[:, :2]
    loss, rest = Reference(tiny.settings_of(**changes), with_gradient=False)(params, clip, keys)
    out, state = tiny.jit(model.unroll)(params, clip, keys)
    assert_clip(out, state, loss, rest)


def test_gradient_is_finite_on_empty_frames(trained, params, video, keys):
    for value in (0.0, 0.5, 1.0):
        (loss, _), gradients = trained(params, jnp.full_like(video, value), keys)
        assert np.isfinite(loss)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_decomposition_is_one(trained, params, video, keys):
    (_, (out, _)), _ = trained(params, video, keys)
    means, masks, posterior, _ = out.decomposition
    assert means.shape == (tiny.B, tiny.T, tiny.K, tiny.H, tiny.W, tiny.C)
    assert posterior.shape == (tiny.B, tiny.T, tiny.K, 2 * tiny.Z)
    np.testing.assert_allclose(masks.sum(2), 1, atol=1e-6)
    assert (masks >= 0).all() and (means >= 0).all() and (means <= 1).all()
    reconstruction = np.einsum("btkhwc,btkhw->bthwc", means, masks)
    np.testing.assert_allclose(out.decomposition.reconstruction, reconstruction, atol=1e-6)
    np.testing.assert_array_equal(out.decomposition.segmentation, np.argmax(masks, 2))


def test_loss_is_the_weighted_sum_of_the_cells(trained, params, video, keys):
    (loss, (out, _)), _ = trained(params, video, keys)
    weights = np.array([[1 / 3, 2 / 3, 1], [1 / 2, 0, 1], [1 / 2, 0, 1]])
    np.testing.assert_allclose(loss, -(weights * out.cell_elbo).sum(), rtol=1e-5)


def test_a_single_frame_is_iodine(video, keys):
    """The model with a unit Gaussian prior and no past in the decoder equals the reference on a single frame.

    The temporal state has no effect there, so its weights in the cell can have any value.
    """
    changes = {**IODINE, "leave_one_out": False, "posterior_input": "likelihood"}
    settings, model = tiny.settings_of(**changes), tiny.build(**changes)
    params, frame = tiny.params_of(model), video[:, :1]
    unroll = tiny.jit(model.unroll)
    out, state = unroll(params, frame, keys)
    loss, rest = Reference(settings, with_gradient=False)(params, frame, keys)
    assert_clip(out, state, loss, rest)

    rows = slice(-2 * tiny.D, -tiny.D)  # between those of the input and of the refinement state
    lstm = params["refiner"]["LSTM2D_0"]["Dense_0"]
    changed = {**lstm, "kernel": lstm["kernel"].at[rows].set(99.0)}
    changed = {**params, "refiner": {**params["refiner"], "LSTM2D_0": {"Dense_0": changed}}}
    np.testing.assert_array_equal(unroll(changed, frame, keys)[0].cell_elbo, out.cell_elbo)


def test_clips_noise_is_drawn_once(keys):
    """The first decodes of two equal frames are equal if nothing else distinguishes the frames."""
    frame = np.random.default_rng(5).random((tiny.B, 1, tiny.H, tiny.W, tiny.C)).astype(np.float32)
    clip = jax.device_put(np.repeat(frame, 2, 1))
    model = tiny.build(first_noise="clip", num_refinements=1, **IODINE)
    first, last = tiny.jit(model.unroll)(tiny.params_of(model), clip, keys)[0].cell_elbo.T
    assert first[0] == first[1]
    assert abs(last[0] - last[1]) > 1


@pytest.mark.slow
def test_without_first_noise_later_frames_start_from_the_mean(model, keys):
    """The first frame keeps its noise, which distinguishes the slots there. Other decodes keep theirs."""
    silent, frames = tiny.build(first_noise="mean"), jnp.arange(3)
    noise, usual = (m._noise(keys, frames, 2) for m in (silent, model))
    np.testing.assert_array_equal(noise[1:, 0], 0)
    np.testing.assert_array_equal(noise[0], usual[0])
    np.testing.assert_array_equal(noise[:, 1], usual[:, 1])
    np.testing.assert_array_equal(silent._noise(keys, frames[2:], 2), noise[2:])


def test_sampled_predictions_keep_their_noise(params, video, keys):
    """`first_noise` only concerns observed frames."""
    silent = tiny.build(first_noise="mean")
    state = silent.initial_state(params, tiny.B)._replace(frame=jnp.int32(4))
    predict = tiny.jit(lambda keys: silent.predict(params, state, 1, keys)[0].means)
    assert np.any(predict(keys) != predict(keys[::-1]))


def test_provide_decodes_a_frame_r_minus_t_times_but_at_least_twice(video, keys):
    model = tiny.build("provide", num_refinements=4)
    out = jax.eval_shape(model.unroll, tiny.params_of(model), video, keys)[0]
    assert out.cell_elbo.shape == (tiny.T, 4)
    assert [refinements + 1 for refinements in model.schedule(5)] == [4, 3, 2, 2, 2]


@pytest.mark.slow
def test_low_precision_is_close(trained, params, video, keys):
    (_, (expected, _)), _ = trained(params, video, keys)
    out, _ = tiny.jit(tiny.build(compute_dtype="bfloat16").unroll)(params, video[:, :1], keys)
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype("float32")}
    reconstruction = Decomposition(*out.decomposition).reconstruction[:, 0]
    np.testing.assert_allclose(reconstruction, expected.decomposition.reconstruction[:, 0], atol=0.1)
    np.testing.assert_allclose(out.cell_elbo[0], expected.cell_elbo[0], rtol=0.1)


@pytest.mark.slow
def test_loss_on_predicted_frames_is_the_elbo_of_the_forecast(params, video, keys):
    """Two of three frames are observed; the third is predicted from them alone and compared with the true one."""
    whole, model = tiny.build(), tiny.build(observed_fraction=0.7)
    out = tiny.jit(model.loss)(params, video, keys)

    @tiny.jit
    def by_hand(params, video):
        seen, state = whole.unroll(params, video[:, :2], keys)
        predicted, _ = whole.predict(params, state, 1)
        means, masks = predicted.means[:, 0], predicted.masks[:, 0]
        pixels = reference.mixture(video[:, 2], means, masks, tiny.settings_of())[1]
        return seen, predicted, (pixels.sum((1, 2)), -(masks * jnp.log(masks)).sum((1, 2, 3)))

    seen, predicted, (log_likelihood, entropy) = by_hand(params, video)
    weights = tiny.WEIGHTS
    expected = seen.loss - (weights["log_likelihood"] * log_likelihood - weights["mask_entropy"] * entropy).sum()
    np.testing.assert_allclose(out.loss, expected, rtol=1e-5)
    np.testing.assert_allclose(out.terms["log_likelihood"][:, 2], log_likelihood, rtol=1e-4)
    np.testing.assert_array_equal(out.terms["kl"][:, 2], 0)
    np.testing.assert_allclose(out.decomposition.means[:, 2], predicted.means[:, 0], atol=1e-5)
    changed = tiny.jit(model.loss)(params, video.at[:, 2].set(0.5), keys)
    jax.tree.map(np.testing.assert_array_equal, changed.decomposition, out.decomposition)
    assert changed.loss != out.loss


@pytest.mark.slow
@pytest.mark.parametrize("detach", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_loss_on_predicted_frames_trains_every_parameter(params, video, keys, detach):
    """One frame is observed, two are predicted; a clip of one frame has nothing to predict."""
    model = tiny.build(observed_fraction=0.4, detach_refiner_inputs=detach, posterior_start="learned")
    loss = tiny.jit(jax.value_and_grad(lambda params, video: model.loss(params, video, keys).loss))
    (_, gradients), (of_one, seen) = loss(params, video), loss(params, video[:, :1])
    np.testing.assert_allclose(
        of_one, loss_and_rest(tiny.build(posterior_start="learned"))(params, video[:, :1], keys)[0][0], rtol=1e-6
    )
    for (path, leaf), other in zip(jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(seen)):
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
        assert np.abs(leaf - other).max() > 1e-3 * np.abs(other).max(), jax.tree_util.keystr(path)
