"""Bouncing balls, after R-NEM: discs of two sizes that collide elastically in a box."""

from stii_jax.data.bouncing_balls.builder import BouncingBalls

__all__ = ["BouncingBalls"]
