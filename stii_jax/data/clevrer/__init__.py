"""CLEVRER: rendered objects that slide and collide on a table, with annotations and mask proposals."""

from stii_jax.data.clevrer.builder import Clevrer

__all__ = ["Clevrer"]
