"""Annotations: the window with all objects in view, and files that are not annotations."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_clevrer import annotation, make_movie, proposals

from stii_jax.data import DataError
from stii_jax.data.clevrer.annotations import Scene, read_scene
from stii_jax.data.clevrer.proposals import read_detections

MOVIE = make_movie(10_000, 3, 10, 70)
GOOD = annotation(MOVIE)
SMALL = copy.deepcopy(GOOD)
del SMALL["motion_trajectory"][2:]
SEEN = proposals(MOVIE)
del SEEN["frames"][:10], SEEN["frames"][2:]


def read(good, num_frames=128) -> Scene:
    return read_scene(json.dumps(good).encode(), "a.json", num_frames)


@pytest.mark.parametrize(
    ("visible", "window"),
    [
        (["110", "110", "111", "111", "011", "111"], (2, 4)),
        (["111", "111", "111"], (0, 3)),
        (["011", "101", "111"], (2, 3)),
        (["011", "101", "110"], (0, 0)),
    ],
)
def test_windows(visible, window):
    flags = np.array([[flag == "1" for flag in frame] for frame in visible])
    assert Scene((), flags).window == window


def test_a_valid_annotation():
    scene = read(GOOD)
    assert scene.window == (10, 70)
    assert [tuple(one) for one in scene.objects] == [tuple(MOVIE.attributes(index).values()) for index in range(3)]


def test_objects_are_in_the_order_of_their_ids():
    mixed = copy.deepcopy(GOOD)
    mixed["object_property"].reverse()
    for frame in mixed["motion_trajectory"][::2]:
        frame["objects"].reverse()
    one, two = read(GOOD), read(mixed)
    assert one.objects == two.objects
    np.testing.assert_array_equal(one.visible, two.visible)


def drop(key):
    return lambda holder: holder.pop(key)


def put(key, value):
    return lambda holder: holder.__setitem__(key, value)


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        ([], drop("motion_trajectory"), "a.json has no 'motion_trajectory'"),
        ([], put("object_property", {}), "a.json has an object for 'object_property', not a list"),
        ([], put("motion_trajectory", GOOD["motion_trajectory"][:104]), "a.json has 104 frames .*, not 128"),
        (["object_property"], put(1, None), r"a.json: object_property\[1\] is None, not an object"),
        (["object_property", 1], put("object_id", 0), r"object_property\[1\] has the object_id 0 of another"),
        (["object_property", 1], put("color", 3), r"object_property\[1\] has 3 for 'color', not text"),
        (["motion_trajectory", 7], put("frame_id", 8), r"motion_trajectory\[7\] has the frame_id 8"),
        (["motion_trajectory", 7], put("objects", "none"), r"motion_trajectory\[7\] has 'none' for 'objects'"),
        (["motion_trajectory", 7, "objects"], drop(1), r"\[7\] lists the objects \[0, 2\], .* has \[0, 1, 2\]"),
        (
            ["motion_trajectory", 7, "objects", 2],
            drop("inside_camera_view"),
            r"objects\[2\] has no 'inside_camera_view'",
        ),
        (["motion_trajectory", 7, "objects", 2], put("object_id", 2.0), r"has 2.0 for 'object_id', not an integer"),
        (
            ["motion_trajectory", 7, "objects", 2],
            put("inside_camera_view", 1),
            "has 1 for 'inside_camera_view', not true",
        ),
        (["motion_trajectory", 7, "objects", 2, "location"], put(0, float("nan")), "a.json is damaged: it holds NaN"),
    ],
)
def test_errors_name_the_problem(path, change, message):
    bad = copy.deepcopy(GOOD)
    holder = bad
    for step in path:
        holder = holder[step]
    change(holder)
    with pytest.raises(DataError, match=message):
        read(bad)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[" * 100_000, b"\xff\xfe\x00", b"<!doctype html>", json.dumps(GOOD).encode()[:5000]]
)
def test_no_json(data):
    with pytest.raises(DataError, match=r"a.json (is not a complete JSON file|is damaged)"):
        read_scene(data, "a.json", 128)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def damaged(draw, good):
    """Return a file with one value removed, duplicated or replaced, possibly truncated."""
    bad = copy.deepcopy(good)
    holder, below = None, bad
    while isinstance(below, dict | list) and below and (holder is None or draw(st.integers(0, 3))):
        key = draw(st.sampled_from(list(below) if isinstance(below, dict) else range(len(below))))
        holder, below = below, below[key]
    deed = draw(st.sampled_from(["drop", "replace", "double"]))
    if deed == "drop":
        del holder[key]
    elif deed == "double" and isinstance(holder, list):
        holder.append(copy.deepcopy(below))
    else:
        holder[key] = draw(VALUES)
    data = json.dumps(bad).encode()
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data


@given(damaged(SMALL))
@settings(max_examples=150, deadline=None)
def test_a_damaged_annotation_is_read_or_refused(data):
    try:
        scene = read_scene(data, "a.json", 2)
    except DataError as error:
        assert str(error).startswith("a.json")
    else:
        assert scene.visible.shape == (2, len(scene.objects))


@given(damaged(SEEN))
@settings(max_examples=150, deadline=None)
def test_a_damaged_proposal_is_read_or_refused(data):
    try:
        frames = read_detections(data, "p.json", range(10, 12), (320, 480))
    except DataError as error:
        assert str(error).startswith("p.json")
    else:
        assert len(frames) == 2


def test_older_proposals_have_more_keys():
    older = copy.deepcopy(SEEN)
    older["video_name"] = older.pop("video_filename")
    older["ground_truth"] = {"objects": [], "collisions": []}
    for frame in older["frames"]:
        frame["frame_filename"] = f"sim_10000/frame_{frame['frame_index']:05d}.png"
    frames = read_detections(json.dumps(older).encode(), "sim.json", range(11, 12), (320, 480))
    assert sorted(seen.attributes.color for seen in frames[0]) == ["blue", "green", "red"]
    np.testing.assert_array_equal(
        np.stack([seen.mask for seen in frames[0]]),
        MOVIE.masks(11)[[2, 1, 0]],  # ordered by the colours' names
    )


@pytest.mark.parametrize(
    ("window", "size", "message"),
    [
        (range(10, 13), (320, 480), "p.json has no frame 12, but needs frames 10 to 12"),
        (range(10, 12), (160, 240), r"objects\[0\].mask has a 'size' other than \[160, 240\]"),
    ],
)
def test_proposals_of_another_video(window, size, message):
    with pytest.raises(DataError, match=message):
        read_detections(json.dumps(SEEN).encode(), "p.json", window, size)
