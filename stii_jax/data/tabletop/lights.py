"""Lights and materials: the light from the floor and from objects, in linear RGB, where 1 is white.

Vectors have their components on the first axis.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8

from stii_jax.data.tabletop.shapes import dot

Array = np.ndarray

COLORS: dict[str, tuple[int, int, int]] = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
"""CLEVR's colours, in the order of their indices."""

MATERIALS = ("rubber", "metal")
"""The names of the materials, in the order of their indices."""

_GAMMA = 2.2
ALBEDOS: Float[Array, "8 3"] = (np.array(list(COLORS.values()), np.float32) / 255) ** np.float32(_GAMMA)
_FLOOR = np.float32(0.26)

# A square lamp above and behind the camera, to the left. The first point is its middle. Each ray of a pixel uses one
# point of the lamp, so that shadows are soft without further rays.
LAMP: Float[Array, "3 5"] = np.array(
    [[-7.0, -9.5, -5.5, -8.5, -4.5], [-7.0, -8.0, -9.0, -5.0, -6.0], [14.0] * 5], np.float32
)
_POWER = np.float32(0.95 * (LAMP[:, 0] ** 2).sum())
_AMBIENT = np.float32(0.27)
# The direction and the power of a weak lamp without shadows.
_FILL = np.array([0.75, -0.45, 0.5], np.float32)
_FILL_POWER = np.float32(0.2)


# A slightly warm tint of the light on the floor.
_FLOOR_TINT = np.array([1.0, 0.99, 0.965], np.float32)
SHADOW: Float[Array, "3"] = _FLOOR_TINT * _FLOOR * (_AMBIENT + _FILL_POWER * _FILL[2])
"""The light from points of the floor in shadow."""


def floor(points: Float[Array, "3 S P"], lamp: Float[Array, "3 S P"]) -> Float[Array, "3 S P"]:
    """The light from lit points of the floor, each of which sees one point of the lamp."""
    return SHADOW[:, None, None] + _FLOOR_TINT[:, None, None] * _FLOOR * _from_lamp(points, lamp)[1][2]


def objects(
    points: Float[Array, "3 N"],
    normals: Float[Array, "3 N"],
    rays: Float[Array, "3 N"],
    lamp: Float[Array, "3 N"],
    lit: Bool[Array, " N"],
    albedo: Float[Array, "3"],
    material: int,
) -> Float[Array, "3 N"]:
    """The light from points of an object.

    Args:
        points: points on its surface.
        normals: unit normals at the points.
        rays: unit directions of the rays that see the points.
        lamp: the point of the lamp that may light each point.
        lit: True where no other object is in between.
        albedo: the object's colour; see `ALBEDOS`.
        material: index in `MATERIALS`.
    """
    strength, direction = _from_lamp(points, lamp)
    facing = dot(direction, normals)  # includes the strength of the light
    key = lit * np.maximum(facing, 0)
    fill = _FILL_POWER * np.maximum(dot(_FILL, normals), 0)
    sky = _AMBIENT * (0.65 + 0.35 * normals[2])
    mirrored = rays - 2 * dot(rays, normals) * normals
    toward_lamp = dot(mirrored, direction) / strength
    color = albedo[:, None]
    if MATERIALS[material] == "rubber":
        return color * (sky + fill + key) + 0.03 * lit * np.maximum(toward_lamp, 0) ** 12
    glint = 2 * lit * _smooth_step(toward_lamp, 0.94, 0.98)
    glint = glint + _smooth_step(dot(_FILL, mirrored), 0.94, 0.98)
    tint = 0.9 * color + 0.1
    return 0.3 * color * (sky + fill + key) + tint * (2 * _surroundings(points, mirrored) + glint)


def to_pixels(light: Float[Array, "N 3"]) -> UInt8[Array, "N 3"]:
    """Convert linear RGB to 8-bit pixel values. Values above 1 are clipped to white."""
    return (255 * np.clip(light, 0, 1) ** np.float32(1 / _GAMMA) + np.float32(0.5)).astype(np.uint8)


def _from_lamp(points: Array, lamp: Array) -> tuple[Array, Array]:
    """The strength of the lamp at points, and its direction multiplied by the strength."""
    offset = lamp - points
    squared = dot(offset, offset)
    strength = _POWER / squared
    return strength, offset * (strength / np.sqrt(squared))


def _surroundings(points: Array, rays: Array) -> Array:
    """The light in a reflection: the floor, dark below the object, and a room that is dimmer above."""
    up = rays[2]
    reach = points[2] / np.maximum(-up, 0.05)  # distance to the floor
    ground = _FLOOR * np.minimum(0.25 + 0.6 * reach, 1)
    room = _FLOOR * np.maximum(1 - 1.5 * up, 0.15)
    return np.where(up < 0, ground, room)


def _smooth_step(x: Array, low: float, high: float) -> Array:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
