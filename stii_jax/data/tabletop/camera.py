"""The camera of the tabletop world: project points to the image, and pixels to rays.

The world has x to the right, y away from the camera and z upwards, with the floor at z = 0. Images and pixels are
square, with x to the right and y downwards from the top left corner, as everywhere in this package.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Array = np.ndarray

_FIELD = math.radians(26)  # horizontal field of view
_PITCH = math.radians(30)  # angle of the optical axis below the horizon


class Camera(NamedTuple):
    """A pinhole camera that looks at the origin of the world."""

    position: Float[Array, "3"]
    axes: Float[Array, "3 3"]
    """Rows: the world directions of "right", "down" and "forwards" in the image."""
    focal: float
    """Focal length, as a multiple of the image's side."""


def make_camera(view_width: float) -> Camera:
    """Make a camera whose image is `view_width` wide at the distance of the origin."""
    distance = view_width / (2 * math.tan(_FIELD / 2))
    forward = np.array([0.0, math.cos(_PITCH), -math.sin(_PITCH)])
    down = np.array([0.0, -math.sin(_PITCH), -math.cos(_PITCH)])
    axes = np.stack([np.array([1.0, 0.0, 0.0]), down, forward])
    return Camera(-distance * forward, axes, 0.5 / math.tan(_FIELD / 2))


def project(camera: Camera, points: Float[Array, "*shape 3"], image_size: int) -> Float[Array, "*shape 2"]:
    """Project world points to the image, in pixels. Points behind the camera end up far below the image."""
    seen = (points - camera.position) @ camera.axes.T
    return image_size * (0.5 + camera.focal * seen[..., :2] / np.maximum(seen[..., 2:], 1e-3))


def directions(camera: Camera, pixels: Float[Array, "*shape 2"], image_size: int) -> Float[Array, "*shape 3"]:
    """The unit directions in which the camera sees points of the image."""
    sideways = (pixels / image_size - 0.5) / camera.focal
    rays = np.concatenate([sideways, np.ones_like(sideways[..., :1])], axis=-1) @ camera.axes
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def on_plane(camera: Camera, rays: Float[Array, "*shape 3"], height: float = 0.0) -> Float[Array, "*shape 3"]:
    """The points where rays that go down from the camera meet the plane z = height."""
    return camera.position + rays * ((height - camera.position[2]) / rays[..., 2:])
