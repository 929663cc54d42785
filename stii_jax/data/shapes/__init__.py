"""Moving shapes in front of a static camera, which differ from video to video as real recordings do."""

from stii_jax.data.shapes.builder import Shapes

__all__ = ["Shapes"]
