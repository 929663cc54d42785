"""Unsupervised video decomposition by spatio-temporal iterative inference, in JAX."""

__version__ = "0.1.0"
