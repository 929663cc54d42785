"""CLEVRER's annotations: the objects of a scene, and the frames in which each is in view."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from stii_jax.data.clevrer.fields import field, load
from stii_jax.data.errors import DataError


class Attributes(NamedTuple):
    """The attributes that identify an object: no two objects of a scene share all three."""

    color: str
    material: str
    shape: str


class Scene(NamedTuple):
    """The used part of an annotation."""

    objects: tuple[Attributes, ...]
    """The objects, ordered by id."""
    visible: Bool[np.ndarray, "T N"]
    """True if an object is inside the camera's view."""

    @property
    def window(self) -> tuple[int, int]:
        """The first frame with all objects in view, and the first later frame without; both 0 if there is none."""
        together = np.asarray(self.visible.all(axis=1))
        if not together.any():
            return 0, 0
        first = int(together.argmax())
        apart = np.flatnonzero(~together[first:])
        return first, first + int(apart[0]) if len(apart) else len(together)


def read_scene(data: bytes, name: str, num_frames: int) -> Scene:
    """Read an annotation.

    Args:
        data: content of the JSON file.
        name: name of the file, for messages.
        num_frames: number of frames that it must describe.

    Raises:
        DataError: the file is malformed. The message names the place and the key.
    """
    top = load(data, name)
    properties = field(top, "object_property", list, name)
    objects: dict[int, Attributes] = {}
    for number, properties_of_one in enumerate(properties):
        place = f"{name}: object_property[{number}]"
        object_id = field(properties_of_one, "object_id", int, place)
        if object_id in objects:
            raise DataError(f"{place} has the object_id {object_id} of another object")
        objects[object_id] = read_attributes(properties_of_one, place)
    frames = field(top, "motion_trajectory", list, name)
    if len(frames) != num_frames:
        raise DataError(f"{name} has {len(frames)} frames in 'motion_trajectory', not {num_frames}")
    ids = sorted(objects)
    visible = [
        _visible(frame, number, ids, f"{name}: motion_trajectory[{number}]") for number, frame in enumerate(frames)
    ]
    return Scene(tuple(objects[i] for i in ids), np.array(visible, bool).reshape(num_frames, len(ids)))


def read_attributes(holder: Any, place: str) -> Attributes:
    """Read the attributes of an object in an annotation or a detection."""
    return Attributes(*(field(holder, key, str, place) for key in Attributes._fields))


def _visible(frame: Any, number: int, ids: list[int], place: str) -> list[bool]:
    """Return, for each id in turn, True if the object is in view in this frame."""
    found = field(frame, "frame_id", int, place)
    if found != number:
        raise DataError(f"{place} has the frame_id {found}")
    visible: dict[int, bool] = {}
    for index, state in enumerate(field(frame, "objects", list, place)):
        where = f"{place}.objects[{index}]"
        object_id = field(state, "object_id", int, where)
        if object_id in visible:
            raise DataError(f"{where} has the object_id {object_id} of another object")
        visible[object_id] = field(state, "inside_camera_view", bool, where)
    if sorted(visible) != ids:
        raise DataError(f"{place} lists the objects {sorted(visible)}, but 'object_property' has {ids}")
    return [visible[i] for i in ids]
