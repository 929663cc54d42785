"""Lights and materials: how bright floor and objects are, in linear RGB, where 1 is white.

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
"""CLEVR's colours, in the order of their numbers."""

MATERIALS = ("rubber", "metal")
"""Names of the materials, in the order of their numbers."""

_GAMMA = 2.2
ALBEDOS: Float[Array, "8 3"] = (np.array(list(COLORS.values()), np.float32) / 255) ** np.float32(_GAMMA)
_FLOOR = np.float32(0.26)

# A square lamp on the left, above and behind the camera's shoulder: the first point is its middle. Each ray of a
# pixel sees one point of it, so that shadows are soft without further rays.
LAMP: Float[Array, "3 5"] = np.array(
    [[-7.0, -9.5, -5.5, -8.5, -4.5], [-7.0, -8.0, -9.0, -5.0, -6.0], [14.0] * 5], np.float32
)
_POWER = np.float32(0.95 * (LAMP[:, 0] ** 2).sum())
_AMBIENT = np.float32(0.27)
# From where a weak lamp without shadows shines, and how brightly.
_FILL = np.array([0.75, -0.45, 0.5], np.float32)
_FILL_POWER = np.float32(0.2)


# A touch of warmth in the light on the floor.
_FLOOR_TINT = np.array([1.0, 0.99, 0.965], np.float32)
SHADOW: Float[Array, "3"] = _FLOOR_TINT * _FLOOR * (_AMBIENT + _FILL_POWER * _FILL[2])
"""Light from points of the floor that do not see the lamp."""


def floor(points: Float[Array, "3 S P"], lamp: Float[Array, "3 S P"]) -> Float[Array, "3 S P"]:
    """Light from points of the floor that see the lamp, each one point of it."""
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
    """Light from points of an object.

    Args:
        points: on its surface.
        normals: there, of length 1.
        rays: along which they are seen, of length 1.
        lamp: the point of the lamp that might shine on each of them.
        lit: whether it does, nothing else being in between.
        albedo: the object's colour, see `ALBEDOS`.
        material: its number.
    """
    strength, direction = _from_lamp(points, lamp)
    facing = dot(direction, normals)  # has the strength of the light in it
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
    """Linear RGB, what is too bright being white, as the eight-bit values of a picture."""
    return (255 * np.clip(light, 0, 1) ** np.float32(1 / _GAMMA) + np.float32(0.5)).astype(np.uint8)


def _from_lamp(points: Array, lamp: Array) -> tuple[Array, Array]:
    """How strongly the lamp shines on points, and the direction it is in times that."""
    offset = lamp - points
    squared = dot(offset, offset)
    strength = _POWER / squared
    return strength, offset * (strength / np.sqrt(squared))


def _surroundings(points: Array, rays: Array) -> Array:
    """What a mirror shows: floor, dark under the object itself, and a room that is dimmer above."""
    up = rays[2]
    reach = points[2] / np.maximum(-up, 0.05)  # how far off the floor is
    ground = _FLOOR * np.minimum(0.25 + 0.6 * reach, 1)
    room = _FLOOR * np.maximum(1 - 1.5 * up, 0.15)
    return np.where(up < 0, ground, room)


def _smooth_step(x: Array, low: float, high: float) -> Array:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
