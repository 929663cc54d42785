"""DDPAE, the Decompositional Disentangled Predictive Auto-Encoder, as a baseline."""

from stii_jax.models.baselines.ddpae.model import DDPAE

__all__ = ["DDPAE"]
