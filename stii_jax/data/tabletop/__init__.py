"""A small three-dimensional world in the spirit of CLEVRER: objects that slide, collide and occlude each other."""

from stii_jax.data.tabletop.builder import Tabletop

__all__ = ["Tabletop"]
