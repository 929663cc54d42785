"""The smallest complete model: 8x8 pixels, three slots, two refinements, three frames."""

import functools

import jax
import numpy as np

from stii_jax.config import default_config
from stii_jax.models.stii import STII

B, T, R, K, H, W, C, Z, D = 2, 3, 2, 3, 8, 8, 3, 3, 8
SIZES = {
    "num_slots": K,
    "num_refinements": R,
    "latent_dim": Z,
    "hidden_dim": D,
    "decoder_channels": 4,
    "refiner_channels": 4,
    "feature_dim": 8,
    "prior_dim": 8,
}
WEIGHTS = {"log_likelihood": 100.0, "kl": 10.0, "mask_entropy": 0.1}

# XLA:CPU takes two to six times longer to compile these programs with its optimisations than without.
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,  # not in jaxlib 0.12
}


def settings_of(preset="paper", **changes):
    """Return the arguments of `STII` for a preset at the tiny size, with changes."""
    config = default_config(preset)
    own = {"height": H, "width": W, "channels": C, "weights": WEIGHTS}
    own |= {name: config.loss[name] for name in ("refinement_weights", "observed_fraction")}
    return {**own, **config.model.to_dict(), **SIZES, **changes}


def build(preset="paper", **changes):
    return STII(**settings_of(preset, **changes))


def jit(function, **options):
    """Apply `jax.jit` with the options of `QUICK` that the installed jaxlib supports."""
    return jax.jit(function, compiler_options=known_options(), **options)


@functools.cache
def known_options():
    """Return the options of `QUICK` that the installed jaxlib supports. They vary by release, and only save time."""
    return {name: value for name, value in QUICK.items() if is_known(name, value)}


def is_known(name, value):
    """True if this jaxlib compiles a program with such an option."""
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return False
    return True


def params_of(model):
    """Return parameters that are larger than at initialisation and non-zero, so that every term matters."""
    return random_like(jax.eval_shape(model.init, jax.random.key(0)))


def random_like(shapes):
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(0)
    scales = [0.7 / max(1, np.prod(leaf.shape[:-1])) ** 0.5 + 0.1 for leaf in leaves]
    params = [np.float32(s * rng.normal(size=leaf.shape)) for s, leaf in zip(scales, leaves)]
    return jax.device_put(tree.unflatten(params))


def noise_of(keys, t, r, num_slots=K):
    """Return the noise of decode r of frame t: one key per video, folded with frame and decode."""
    return np.asarray(_draw(keys, 2**31 - 1 if t == "clip" else t, r, num_slots))


@functools.partial(jax.jit, static_argnums=3)
def _draw(keys, t, r, num_slots):
    def draw(key):
        key = jax.random.fold_in(jax.random.fold_in(key, t), r)
        return jax.random.normal(key, (num_slots, Z), np.float32)

    return jax.vmap(draw)(keys)
