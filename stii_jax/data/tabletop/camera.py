"""The one camera of the world: where points of the world are in the picture, and which rays make up a pixel.

The world has x to the right, y away from the camera and z upwards, its floor at z = 0. Pictures are square and
have pixels that are: x to the right, y downwards, from the top left corner, as everywhere in this package.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Array = np.ndarray

_FIELD = math.radians(26)  # of view, from side to side
_PITCH = math.radians(30)  # of the middle of the picture below the horizon


class Camera(NamedTuple):
    """A pinhole camera that looks at the origin of the world."""

    position: Float[Array, "3"]
    axes: Float[Array, "3 3"]
    """Rows: the directions in the world of "to the right", "downwards" and "forwards" in the picture."""
    focal: float
    """Focal length, as a multiple of the picture's side."""


def make_camera(view_width: float) -> Camera:
    """A camera for which the picture is `view_width` wide at the distance of the origin."""
    distance = view_width / (2 * math.tan(_FIELD / 2))
    forward = np.array([0.0, math.cos(_PITCH), -math.sin(_PITCH)])
    down = np.array([0.0, -math.sin(_PITCH), -math.cos(_PITCH)])
    axes = np.stack([np.array([1.0, 0.0, 0.0]), down, forward])
    return Camera(-distance * forward, axes, 0.5 / math.tan(_FIELD / 2))


def project(camera: Camera, points: Float[Array, "*shape 3"], image_size: int) -> Float[Array, "*shape 2"]:
    """Where points of the world are in the picture, in pixels. Points behind the camera are far below the picture."""
    seen = (points - camera.position) @ camera.axes.T
    return image_size * (0.5 + camera.focal * seen[..., :2] / np.maximum(seen[..., 2:], 1e-3))


def directions(camera: Camera, pixels: Float[Array, "*shape 2"], image_size: int) -> Float[Array, "*shape 3"]:
    """Directions, of length 1, in which the camera sees points of the picture."""
    sideways = (pixels / image_size - 0.5) / camera.focal
    rays = np.concatenate([sideways, np.ones_like(sideways[..., :1])], axis=-1) @ camera.axes
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def on_plane(camera: Camera, rays: Float[Array, "*shape 3"], height: float = 0.0) -> Float[Array, "*shape 3"]:
    """Where rays that go down from the camera meet the plane z = height."""
    return camera.position + rays * ((height - camera.position[2]) / rays[..., 2:])
