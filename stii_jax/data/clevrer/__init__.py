"""CLEVRER: rendered things that slide and collide on a table; recorded videos, annotations and mask proposals."""

from stii_jax.data.clevrer.builder import Clevrer

__all__ = ["Clevrer"]
