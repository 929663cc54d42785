"""The ELBO of a cell against the plain float64 reference, and its gradients against finite differences of that."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import tiny

from stii_jax.models.elbo import CellInputs

VARIANTS = {"paper": {}, "provide": {"preset": "provide", "conditional_prior": False, "conditional_decoder": False}}


def normal(seed, *shape, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


@pytest.fixture(scope="module")
def inputs():
    frame = np.random.default_rng(0).random((tiny.B, tiny.H, tiny.W, tiny.C)).astype(np.float32)
    posterior = normal(1, tiny.B, tiny.K, 2 * tiny.Z, scale=0.5)
    h, noise = normal(2, tiny.B, tiny.K, tiny.D), normal(3, tiny.B, tiny.K, tiny.Z)
    return jax.device_put(CellInputs(posterior, h, frame, noise))


class Cell:
    """A cell of one variant: the model's outputs, and the reference's ELBO around it."""

    def __init__(self, variant, inputs):
        model, self.settings = tiny.build(**VARIANTS[variant]), tiny.settings_of(**VARIANTS[variant])
        params = tiny.params_of(model)

        def elbo(params, posterior, h):
            return model.elbo(params, inputs._replace(posterior=posterior, h=h))

        def run(*point):
            """Return outputs, the ELBO's gradient as in training, and the gradient of all other outputs."""
            out, pull_back = jax.vjp(elbo, *point)
            nothing, ones = (jax.tree.map(like, out) for like in (jnp.zeros_like, jnp.ones_like))
            return out, pull_back(nothing._replace(elbo=ones.elbo)), pull_back(ones._replace(elbo=nothing.elbo))

        self.out, gradients, self.gradients_of_others = tiny.jit(run)(params, inputs.posterior, inputs.h)
        self.gradients = dict(zip(("params", "posterior", "h"), gradients))
        shifts = {name: np.zeros(getattr(self.out.decoded, name).shape) for name in ("means", "masks")}
        self.point = jax.tree.map(np.float64, {"params": params, **inputs._asdict(), **shifts})
        self._reference = tiny.jit(self._evaluate)

    def _evaluate(self, point):
        at = (point[name] for name in ("params", "posterior", "h", "frame", "noise"))
        return reference.elbo(*at, self.settings, point["means"], point["masks"])

    def reference(self, **changes):
        """Return ELBO, decode and terms in float64, at this cell or elsewhere."""
        with jax.enable_x64(True):
            return self._reference(self.point | changes)

    def slope(self, name, direction, step=1e-5):
        """Return the central difference of the reference's ELBO when `name` moves along `direction`."""

        def value(step):
            moved = jax.tree.map(lambda a, b: a + step * b, self.point[name], direction)
            return float(self.reference(**{name: moved})[0])

        return (value(step) - value(-step)) / (2 * step)


@pytest.fixture(scope="module", params=VARIANTS)
def cell(request, inputs):
    return Cell(request.param, inputs)


def random_direction(seed, like):
    """Return a direction of unit length in every leaf."""
    leaves, tree = jax.tree.flatten(like)
    directions = [np.random.default_rng([seed, n]).normal(size=np.shape(leaf)) for n, leaf in enumerate(leaves)]
    return tree.unflatten([direction / np.linalg.norm(direction) for direction in directions])


def inner(a, b):
    return sum(float((np.float64(x) * y).sum()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def test_value_decode_and_terms(cell):
    value, (means, logits, terms) = cell.reference()
    np.testing.assert_allclose(cell.out.elbo, value, rtol=1e-5)
    np.testing.assert_allclose(cell.out.decoded.means, means, atol=1e-5)
    np.testing.assert_allclose(cell.out.decoded.mask_logits, logits, atol=1e-5)
    assert set(cell.out.terms) == set(terms) == set(tiny.WEIGHTS)
    for name, values in terms.items():
        assert values.shape == (tiny.B,)
        np.testing.assert_allclose(cell.out.terms[name], values, rtol=1e-5)


def test_value_is_the_sum_over_videos_of_the_weighted_terms(cell):
    terms, weights = cell.out.terms, tiny.WEIGHTS
    total = weights["log_likelihood"] * terms["log_likelihood"].sum() - weights["kl"] * terms["kl"].sum()
    total -= weights["mask_entropy"] * terms["mask_entropy"].sum()
    np.testing.assert_allclose(cell.out.elbo, total, rtol=1e-5)


def test_gradient_by_every_posterior_parameter(cell):
    slopes = np.zeros(cell.point["posterior"].shape)
    for index in np.ndindex(slopes.shape):
        direction = np.zeros(slopes.shape)
        direction[index] = 1
        slopes[index] = cell.slope("posterior", direction)
    np.testing.assert_allclose(cell.out.gradients.posterior, slopes, rtol=1e-4, atol=1e-5 * np.abs(slopes).max())


@pytest.mark.parametrize("name", ["means", "masks"])
def test_gradient_by_means_and_masks(cell, name):
    """Means and masks are treated as independent inputs, as in the refiner's images but not in training."""
    gradient = getattr(cell.out.gradients, name)
    for seed in range(3):
        direction = random_direction(seed, gradient)
        np.testing.assert_allclose(inner(gradient, direction), cell.slope(name, direction), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("name", ["params", "posterior", "h"])
def test_gradient_that_training_takes(cell, name):
    gradient = cell.gradients[name]
    used = {part: gradient[part] for part in gradient if part in ("decoder", "prior")} if name == "params" else gradient
    for seed in range(3):
        direction = jax.tree.map(np.zeros_like, cell.point[name])
        moved = random_direction(seed, used)
        direction = direction | moved if name == "params" else moved
        np.testing.assert_allclose(inner(used, moved), cell.slope(name, direction), rtol=1e-4, atol=1e-2)


def test_the_refiner_is_shown_the_gradient_that_training_takes(cell):
    np.testing.assert_allclose(cell.out.gradients.posterior, cell.gradients["posterior"], rtol=1e-5)


def test_refiner_and_start_have_no_part_in_a_cells_elbo(cell):
    parts = [cell.gradients["params"][name] for name in ("refiner", "initial_posterior")]
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(parts))


def test_gradients_of_other_outputs(cell):
    """Detached (paper): only the ELBO carries a gradient. Otherwise (provide), means and mask logits do as well."""
    carries = any(np.any(leaf) for leaf in jax.tree.leaves(cell.gradients_of_others))
    assert carries is not cell.settings["detach_refiner_inputs"]


def test_gradients_and_terms_are_always_cut(inputs):
    """There are no second-order terms."""
    model = tiny.build(detach_refiner_inputs=False)

    def stopped(params, posterior):
        out = model.elbo(params, inputs._replace(posterior=posterior))
        return sum(leaf.sum() for leaf in jax.tree.leaves((out.gradients, out.terms)))

    gradients = tiny.jit(jax.grad(stopped, (0, 1)))(tiny.params_of(model), inputs.posterior)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_an_unconditional_cell_does_not_see_the_past(inputs):
    model = tiny.build(conditional_prior=False, conditional_decoder=False)
    params = tiny.params_of(model)
    assert "prior" not in params
    elbo = tiny.jit(lambda inputs: model.elbo(params, inputs).elbo)
    assert elbo(inputs) == elbo(inputs._replace(h=inputs.h + 1))
