"""The three shapes: how large they are, and where rays enter and leave them.

Vectors have their components on the first axis. "Local" is an object's own system, in which it is at the origin, not
turned, and a unit shape: the sphere of radius 1, the cube from -1 to 1, the cylinder of radius 1 from -1 to 1.
"""

import numpy as np
from jaxtyping import Float

Array = np.ndarray

CUBE, CYLINDER, SPHERE = range(3)
SHAPES = ("cube", "cylinder", "sphere")
"""Names of the shapes, in the order of their numbers."""

HALF_SIZES: Float[Array, "3"] = np.array([0.40, 0.45, 0.50])
"""Half the height of each shape, and the unit of its local system. A ball's diameter is the unit of the world."""

RADII: Float[Array, "3"] = HALF_SIZES * [2**0.5, 1.0, 1.0]
"""Radii of the discs on the floor that collide: no part of an object is outside its disc, whatever its turn."""


def to_local(shape: int, vectors: Float[Array, "3 ..."], yaws: Float[Array, "..."]) -> Float[Array, "3 ..."]:
    """Vectors of the world in an object's own system; points have to be relative to its centre.

    Args:
        shape: its number.
        vectors: in the world.
        yaws: how far the object is turned anticlockwise, in radians; broadcasts against a component.
    """
    local = vectors / HALF_SIZES[shape].astype(vectors.dtype)
    if shape == CUBE:  # a turn does not show of the others
        local[:2] = _turn(local[0], local[1], -yaws)
    return local


def interval(
    shape: int, origins: Float[Array, "3 ..."], rays: Float[Array, "3 ..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Where the lines `origins + t * rays`, in the local system, enter and leave a shape.

    Returns:
        the two values of t. A line that misses has a first one not less than the second.
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
    """Normals, in the world and of length 1, of local points on the surface."""
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
    """Scalar products; several times as fast as a sum over the first axis."""
    total = a[0] * b[0]
    for one, other in zip(a[1:], b[1:]):
        total = total + one * other
    return total


def _round(a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """Solutions of a t^2 + 2 b t + c = 1; twice the same where there are none."""
    a = np.maximum(a, 1e-12)  # of an upright ray it is 0
    root = np.sqrt(np.maximum(b * b - a * (c - 1), 0))
    inverse = 1 / a
    return (-b - root) * inverse, (root - b) * inverse


def _slab(origin: Array, ray: Array) -> tuple[Array, Array]:
    """Between the planes at -1 and 1. Rays along them make infinities, which compare as they should."""
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = (-1 - origin) / ray, (1 - origin) / ray
    return np.minimum(one, other), np.maximum(one, other)
