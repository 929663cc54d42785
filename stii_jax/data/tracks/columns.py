"""Find the columns of a CSV file of tracks that hold the frame, the object and its points."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stii_jax.data.errors import DataError

OPTIONS = {
    "frame": "the column of the frame number",
    "object": "the column of the object's name",
    "x": "the column of the horizontal position",
    "y": "the column of the vertical position",
    "point": "the point that has to lie in the object's mask, such as thorax",
    "centre": "the points whose mean is the object's centre, such as head+thorax+abdomen",
    "first_frame": "the number of the recording's first frame, 0 or 1",
    "body_length": "in pixels; objects whose centres are closer than this touch",
    "match": "largest distance between a centroid and the true centre that counts as a match in IDF1 and MOTA, in "
    "percent of the frame's longer side",
    "reach": "largest distance between a point and the mask that holds it, in pixels",
}
"""The keys of `--track_options`, with their meanings."""

# In order of preference. Names are compared regardless of case, with _ for spaces, dots and hyphens.
_FRAMES = (
    *("frame", "frames", "frame_id", "frameid", "frame_idx", "frame_index", "frame_number", "framenumber", "frame_no"),
    *("image_number", "imagenumber", "image_id", "image", "timepoint", "time_index", "slice", "position_t", "t"),
)
_OBJECTS = (
    *("track_id", "trackid", "track", "particle", "object_id", "objectid", "object", "obj_id", "obj", "individual"),
    *("individuals", "individual_id", "identity", "instance", "instance_id", "animal_id", "animal", "target_id"),
    *("target", "trackobjects_label", "fly", "mouse", "rat", "fish", "larva", "worm", "ant", "bee", "bird", "cell"),
    *("ball", "car", "person", "pedestrian", "id"),
)
_CORNERS = ("left", "top", "width", "height")
_APPENDAGE = re.compile(r"(wing|leg|paw|foot|hand|arm|antenna|ear|tail|whisker)(?!\w*base)")
_TRACKMATE_LINES = 3
"""Further lines of a TrackMate header: names, short names and units."""


class Place(NamedTuple):
    """Two columns that hold a point: its position or, for a box, its corner (with `size`, two more columns)."""

    name: str
    x: int
    y: int
    size: tuple[int, int] | None = None
    """The columns of width and height of a box whose top left corner is at x and y."""
    object: str | None = None
    """The object that these columns belong to, in files with separate columns for every object."""


class Layout(NamedTuple):
    """The roles of a file's columns."""

    skip: int
    """Number of lines before the data."""
    frame: int
    object: int | None
    """The column of the object; None: there is one object, or `Place.object` names it."""
    places: tuple[Place, ...]
    point: str
    """Name of the point that has to lie in the mask; "": to be chosen by position."""
    centre: tuple[str, ...]
    """Names of the points whose mean is the object's centre."""
    first_frame: int | None = None
    """Number of the recording's first frame, if the format fixes it."""
    ignored: int | None = None
    """A column that is 0 in lines to skip."""
    offset: float = 0.0
    """Position of the frame's top left corner: 1 if pixels are counted from 1."""
    text: str = ""
    """One line for the user."""


def choose_layout(rows: Sequence[Sequence[str]], options: Mapping[str, str]) -> Layout:
    """Choose the columns of a file.

    Args:
        rows: its first lines, split into cells.
        options: the user's choices, with keys of `OPTIONS`.

    Raises:
        DataError: no column fits, or an option names an unknown column. The message does not name the file.
    """
    first = rows[0]
    if all(_is_number(cell) for cell in first if cell) and any(first):
        return _headerless(len(first), options)
    if first[0].strip().lower() == "scorer":
        return _deeplabcut(rows, options)
    names = [cell.strip() for cell in first]
    if repeated := [name for place, name in enumerate(names) if name and name in names[:place]]:
        raise DataError(f"two columns are named {repeated[0]!r}: rename one")
    frame = _column(names, "frame", _FRAMES, options)
    if frame is None and names[0].lower() in ("", "unnamed: 0"):
        frame = 0  # pandas' index
    if frame is None:
        raise DataError(f"no column for the frame: {_hint('frame=COLUMN', names)}")
    column = _column(names, "object", _OBJECTS, options)
    places = _places(names, options, {frame, *([] if column is None else [column])})
    if not places:
        raise DataError(f"no columns for the position, such as x and y: {_hint('x=COLUMN,y=COLUMN', names)}")
    if column is None:
        places = _of_objects(places)
    skip = 1
    while "position_x" in map(_plain, names) and skip <= _TRACKMATE_LINES and skip < len(rows):
        if frame < len(rows[skip]) and _is_number(rows[skip][frame]):
            break
        skip += 1
    known = f"frame in {names[frame]!r}, " + ("one object" if column is None else f"object in {names[column]!r}")
    return _finish(Layout(skip, frame, column, places, "", ()), options, known)


def _headerless(width: int, options: Mapping[str, str]) -> Layout:
    """MOTChallenge (frame, object, left, top, width, height, ...), or four columns: frame, object, x, y."""
    for key in ("frame", "object", "x", "y"):
        if key in options:
            raise DataError(f"has no header, so no column is named {options[key]!r}: add a line with the column names")
    if width == 4:
        text = "no header: columns are frame, object, x, y"
        return _finish(Layout(0, 0, 1, (Place("", 2, 3),), "", ()), options, text)
    if width < 6:
        raise DataError(
            f"{width} columns without names: add a first line such as frame,object,x,y (without one, "
            "MOTChallenge needs at least 6 columns)"
        )
    places = (Place("box", 2, 3, (4, 5)),)
    ignored = 6 if width > 6 else None  # the ground truth marks objects to ignore
    text = "no header: MOTChallenge's columns, frame, object and box"
    text += "; lines with a 0 after it are left out" * (width > 6)
    return _finish(Layout(0, 0, 1, places, "", (), first_frame=1, ignored=ignored, offset=1.0), options, text)


def _deeplabcut(rows: Sequence[Sequence[str]], options: Mapping[str, str]) -> Layout:
    """Choose the columns below DeepLabCut's header: scorer, individuals (if any), bodyparts and coords."""
    head = {row[0].strip().lower(): [cell.strip() for cell in row] for row in rows[:4] if row}
    if not {"bodyparts", "coords"} <= head.keys():
        raise DataError("begins with 'scorer', but no line with 'bodyparts' and 'coords' follows")
    parts, coords = head["bodyparts"], [cell.lower() for cell in head["coords"]]
    individuals = head.get("individuals")
    places = []
    for x, part in enumerate(parts[: len(coords)]):
        if coords[x] == "x" and x + 1 < len(coords) and coords[x + 1] == "y":
            places.append(Place(part, x, x + 1, object=individuals[x] if individuals else None))
    if not places:
        raise DataError("no columns for the position: the line 'coords' has no x followed by y")
    known = f"DeepLabCut's header, {len({place.object for place in places})} objects"
    frame = next(x for x in range(1, len(coords)) if coords[x]) - 1  # labels by hand: folder, video and image
    return _finish(Layout(len(head), frame, None, tuple(places), "", ()), options, known)


def _finish(layout: Layout, options: Mapping[str, str], known: str) -> Layout:
    """Add the point, the centre and the line for the user."""
    names = tuple(dict.fromkeys(place.name for place in layout.places))
    point, wanted = options.get("point", ""), tuple(filter(None, options.get("centre", "").split("+")))
    for name in (*([point] if point else []), *wanted):
        if name not in names:
            key = "point" if name == point else "centre"
            raise DataError(f"--track_options={key}={name}: no such point; points are {', '.join(filter(None, names))}")
    body = tuple(name for name in names if not _APPENDAGE.match(name.lower()))
    centre = wanted or body or names
    if len(names) == 1:
        point, shown = names[0], "its position" if names[0] in ("", "box") else f"point {names[0]}"
    else:
        shown = f"points {', '.join(names)}, centre from {', '.join(centre)}"
    return layout._replace(point=point, centre=centre, text=f"{known}, {shown}")


def _places(names: Sequence[str], options: Mapping[str, str], taken: set[int]) -> tuple[Place, ...]:
    """The pairs of columns that hold positions."""
    if "x" in options or "y" in options:
        if not {"x", "y"} <= options.keys():
            raise DataError("--track_options needs both x and y, or neither")
        return (Place("", _named(names, "x", options["x"]), _named(names, "y", options["y"])),)
    plain, pairs = [_plain(name) for name in names], []
    for x, name in enumerate(plain):
        for pattern, other in ((r"(.*?)_?x", "{}y"), (r"x_?(.*)", "y{}")):
            if x not in taken and (match := re.fullmatch(pattern, name)):
                stem = name[:-1] if pattern.endswith("x") else name[1:]
                if (partner := other.format(stem)) in plain and plain.index(partner) not in taken:
                    pairs.append(Place(_stem(names[x], match[1]), x, plain.index(partner)))
                    break
    if pairs:
        return tuple({pair.name: pair for pair in reversed(pairs)}.values())[::-1]  # the first of each name
    for prefix in ("", "bb_", "bbox_", "box_"):
        if all(prefix + corner in plain for corner in _CORNERS):
            left, top, width, height = (plain.index(prefix + corner) for corner in _CORNERS)
            return (Place("box", left, top, (width, height)),)
    return ()


def _stem(written: str, plain: str) -> str:
    """The point's name as spelled in the file; "" for plain positions."""
    if plain in ("", "position", "pos", "centroid", "center", "centre", "coord", "point"):
        return ""
    start = written.lower().find(plain.split("_")[0])
    return written[start : start + len(plain)] if start >= 0 else plain


def _of_objects(places: tuple[Place, ...]) -> tuple[Place, ...]:
    """Treat points that differ only in a number as objects: x1, y1, x2, y2, or mouse1_x, mouse2_x."""
    numbered = [re.fullmatch(r"(.*?)_?(\d+)", place.name) for place in places]
    if len(places) > 1 and all(numbered) and len({match[1] for match in numbered if match}) == 1:
        return tuple(place._replace(name="", object=place.name) for place in places)
    return places


def _column(names: Sequence[str], key: str, known: Sequence[str], options: Mapping[str, str]) -> int | None:
    if key in options:
        return _named(names, key, options[key])
    plain = [_plain(name) for name in names]
    return next((plain.index(name) for name in known if name in plain), None)


def _named(names: Sequence[str], key: str, name: str) -> int:
    if name not in names:
        raise DataError(f"--track_options={key}={name}: no such column; columns are {', '.join(names)}")
    return names.index(name)


def _hint(option: str, names: Sequence[str]) -> str:
    return f"name it with --track_options={option}; columns are {', '.join(names)}"


def _plain(name: str) -> str:
    return re.sub(r"[\s.\-:]+", "_", name.strip().lower())


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
