"""The three shapes: their sizes, and the points where rays enter and leave them.

Vectors have their components on the first axis. In an object's "local" system, it is an unrotated unit shape at the
origin: the sphere of radius 1, the cube from -1 to 1, or the cylinder of radius 1 from -1 to 1.
"""

import numpy as np
from jaxtyping import Float

Array = np.ndarray

CUBE, CYLINDER, SPHERE = range(3)
SHAPES = ("cube", "cylinder", "sphere")
"""The names of the shapes, in the order of their indices."""

HALF_SIZES: Float[Array, "3"] = np.array([0.40, 0.45, 0.50])
"""Half the height of each shape, which is the unit of its local system. A ball's diameter is the world unit."""

RADII: Float[Array, "3"] = HALF_SIZES * [2**0.5, 1.0, 1.0]
"""Radii of the discs that stand for the objects in collisions. They enclose the objects at any rotation."""


def to_local(shape: int, vectors: Float[Array, "3 ..."], yaws: Float[Array, "..."]) -> Float[Array, "3 ..."]:
    """Transform world vectors to an object's local system. Points have to be relative to its centre.

    Args:
        shape: index in `SHAPES`.
        vectors: vectors in the world.
        yaws: anticlockwise rotation of the object, in radians; broadcasts against a component.
    """
    local = vectors / HALF_SIZES[shape].astype(vectors.dtype)
    if shape == CUBE:  # the other shapes look the same at any rotation
        local[:2] = _turn(local[0], local[1], -yaws)
    return local


def interval(
    shape: int, origins: Float[Array, "3 ..."], rays: Float[Array, "3 ..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The values of t at which the lines `origins + t * rays`, in the local system, enter and leave a shape.

    Returns:
        the two values of t. If a line misses, the first is not less than the second.
    """
    if shape == SPHERE:
        return _round(dot(rays, rays), dot(origins, rays), dot(origins, origins))
    if shape == CYLINDER:
        flat, from_flat = rays[:2], origins[:2]
        parts = [_round(dot(flat, flat), dot(from_flat, flat), dot(from_flat, from_flat))]
        parts += [_slab(origins[2], rays[2])]
    else:
        parts = [_slab(origin, ray) for origin, ray in zip(origins, rays)]
    enter, leave = parts[0]
    for first, last in parts[1:]:
        enter, leave = np.maximum(enter, first), np.minimum(leave, last)
    return enter, leave


def normals(shape: int, points: Float[Array, "3 N"], yaws: Float[Array, " N"]) -> Float[Array, "3 N"]:
    """The unit normals in the world at local points on the surface."""
    if shape == SPHERE:
        return points / np.sqrt(dot(points, points))
    x, y, z = points
    if shape == CYLINDER:
        radius = np.hypot(x, y)
        top = np.abs(z) > radius
        return np.stack([np.where(top, 0, x / radius), np.where(top, 0, y / radius), np.where(top, np.sign(z), 0)])
    sizes = np.abs(points)
    normal = np.sign(points) * (sizes == sizes.max(axis=0))
    normal /= np.sqrt(dot(normal, normal))  # an edge belongs to two faces
    normal[:2] = _turn(normal[0], normal[1], yaws)
    return normal


def _turn(x: Array, y: Array, angles: Array) -> tuple[Array, Array]:
    cos, sin = np.cos(angles), np.sin(angles)
    return cos * x - sin * y, sin * x + cos * y


def dot(a: Float[Array, "C ..."], b: Float[Array, "C ..."]) -> Float[Array, "..."]:
    """The scalar products, several times as fast as a sum over the first axis."""
    total = a[0] * b[0]
    for one, other in zip(a[1:], b[1:]):
        total = total + one * other
    return total


def _round(a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """The solutions of a t^2 + 2 b t + c = 1; two equal values if there is none."""
    a = np.maximum(a, 1e-12)  # it is 0 for a vertical ray
    root = np.sqrt(np.maximum(b * b - a * (c - 1), 0))
    inverse = 1 / a
    return (-b - root) * inverse, (root - b) * inverse


def _slab(origin: Array, ray: Array) -> tuple[Array, Array]:
    """The interval between the planes at -1 and 1. Rays parallel to them give infinities, which compare correctly."""
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = (-1 - origin) / ray, (1 - origin) / ray
    return np.minimum(one, other), np.maximum(one, other)
