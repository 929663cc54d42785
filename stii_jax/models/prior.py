"""The conditional prior over latents, given the temporal state alone. Paper section 3.2.3."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class ConditionalPrior(nn.Module):
    """The network `xi(h[t-1])` (step 3): mean and log-scale of the next frame's latents, with one hidden layer.

    `scale` "log_scale" uses the second head unchanged. "softplus_log_variance" (the `provide` preset) uses its softplus
    as a log-variance, so that the prior is never narrower than a unit Gaussian.
    """

    latent_dim: int
    hidden_dim: int
    scale: str = "log_scale"

    @nn.compact
    def __call__(self, h: Float[Array, "*B D"]) -> Float[Array, "*B Z2"]:
        hidden = nn.elu(nn.Dense(self.hidden_dim)(h))
        mean, log_scale = jnp.split(nn.Dense(2 * self.latent_dim)(hidden), 2, axis=-1)
        if self.scale == "softplus_log_variance":
            log_scale = 0.5 * jax.nn.softplus(log_scale)
        return jnp.concatenate([mean, log_scale], axis=-1)


def gaussian_sample(q: Float[Array, "*B Z2"], noise: Float[Array, "*B Z"]) -> Float[Array, "*B Z"]:
    """Sample the Gaussian `q`, given as mean and log-scale, by reparameterisation (equation 2 and step 1)."""
    mean, log_scale = jnp.split(q, 2, axis=-1)
    return mean + jnp.exp(log_scale) * noise


def gaussian_kl(q: Float[Array, "*B Z2"], p: Float[Array, "*B Z2"]) -> Float[Array, "*B"]:
    """Return KL(q || p) of diagonal Gaussians given as mean and log-scale (equation 3), summed over Z, in nats."""
    (q_mean, q_log_scale), (p_mean, p_log_scale) = jnp.split(q, 2, axis=-1), jnp.split(p, 2, axis=-1)
    variance_ratio = jnp.exp(2 * (q_log_scale - p_log_scale))
    distance = jnp.square((q_mean - p_mean) * jnp.exp(-p_log_scale))
    return 0.5 * (variance_ratio + distance - 1).sum(-1) + (p_log_scale - q_log_scale).sum(-1)
