"""Shapes moving in front of a static camera, which vary from video to video like real recordings."""

from stii_jax.data.shapes.builder import Shapes

__all__ = ["Shapes"]
