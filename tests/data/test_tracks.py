"""CSV files of point tracks: the chosen columns, and the one-line errors for malformed files."""

import numpy as np
import pytest

from stii_jax.data import DataError
from stii_jax.data.tracks.points import parse_options, place_in_recording, read_tracks

NAN = float("nan")
FLIES = """frame,fly,head_x,head_y,thorax_x,thorax_y,abdomen_x,abdomen_y,wingL_x,wingL_y
0,a,1,2,4,2,7,2,30,20
0,b,11,2,14,2,,,,
1,a,1,3,,,7,3,30,30
1,b,11,3,14,3,17,3,50,3
"""
DEEPLABCUT = """scorer,net,net,net,net,net,net
individuals,m1,m1,m1,m2,m2,m2
bodyparts,nose,nose,nose,nose,nose,nose
coords,x,y,likelihood,x,y,likelihood
labeled-data/video/img0007.png,1,2,0.9,11,2,0.9
labeled-data/video/img0012.png,3,4,0.9,,,0.1
"""
DEEPLABCUT_BY_HAND = """scorer,,,me,me,me,me
individuals,,,m1,m1,m2,m2
bodyparts,,,nose,nose,nose,nose
coords,,,x,y,x,y
labeled-data,video,img0007.png,1,2,11,2
labeled-data,video,img0012.png,3,4,,
"""
TRACKMATE = """LABEL,ID,TRACK_ID,QUALITY,POSITION_X,POSITION_Y,POSITION_Z,POSITION_T,FRAME,RADIUS
Label,Spot ID,Track ID,Quality,X,Y,Z,T,Frame,R
Label,Spot ID,Track ID,Quality,X,Y,Z,T,Frame,R
,,,(quality),(pixel),(pixel),(pixel),(sec),,(pixel)
ID5,5,0,1.5,1,2,0,0,0,3
ID6,6,1,1.5,11,2,0,0,0,3
ID9,9,0,1.5,3,4,0,0.1,1,3
"""


def read(folder, text, **options):
    path = folder / "tracks.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_tracks(path, parse_options([f"{key}={value}" for key, value in options.items()]))


@pytest.mark.parametrize(
    ("text", "options", "shown"),
    [
        ("frame,object,x,y\n0,0,1,2\n0,1,11,2\n1,0,3,4\n", {}, "frame in 'frame', object in 'object', its position"),
        ("0,0,1,2\n0,1,11,2\n1,0,3,4\n", {}, "no header: columns are frame, object, x, y"),
        # MOTChallenge counts frames and pixels from 1.
        ("1,0,1,2,2,2,1,-1,-1,-1\n1,1,11,2,2,2,1,-1,-1,-1\n2,0,3,4,2,2,1,-1,-1,-1\n", {}, "MOTChallenge's columns"),
        ("y;x;mass;particle;frame\n2;1;9;0;0\n2;11;9;1;0\n4;3;9;0;1\n", {}, "object in 'particle'"),  # trackpy
        (TRACKMATE, {}, "frame in 'FRAME', object in 'TRACK_ID', its position"),
        (DEEPLABCUT, {}, "DeepLabCut's header, 2 objects, point nose"),
        (DEEPLABCUT_BY_HAND, {}, "DeepLabCut's header, 2 objects, point nose"),
        ("track\tframe_idx\tcore.x\tcore.y\n0\t0\t1\t2\n1\t0\t11\t2\n0\t1\t3\t4\n", {}, "point core"),  # SLEAP
        ("seconds,frame,x1,y1,x2,y2\n0,0,1,2,11,2\n.1,1,3,4,nan,NaN\n", {}, "one object"),  # idtracker.ai
        (",object,x,y\n0,0,1,2\n0,1,11,2\n1,0,3,4\n", {}, "frame in ''"),  # pandas' index
        ("when,who,a,b\n0,0,1,2\n0,1,11,2\n1,0,3,4\n", {"frame": "when", "object": "who", "x": "a", "y": "b"}, "'who'"),
        ("frame,id,bb_left,bb_top,bb_width,bb_height\n0,0,0,1,2,2\n0,1,10,1,2,2\n1,0,2,3,2,2\n", {}, "its position"),
        (
            "\ufeffFrame No,Track ID,X,Y\n1.0,1.0,3,4\n\n 0,0,1,2\n0,1,11,2\n",
            {"first_frame": 0},
            "object in 'Track ID'",
        ),
    ],
)
def test_formats(tmp_path, text, options, shown):
    """Two objects in the first labelled frame, one in the second."""
    tracks = read(tmp_path, text, **options)
    assert shown in tracks.text and len(tracks.objects) == 2
    order = np.argsort(tracks.points[0, :, 0])
    expected = np.array([[[1, 2], [11, 2]], [[3, 4], [NAN, NAN]]])
    if "Track ID" in text and "\ufeff" in text:
        expected[1] = expected[1, ::-1]
    np.testing.assert_array_equal(tracks.points[:, order], expected)
    np.testing.assert_array_equal(tracks.centres, tracks.points)
    from_images, from_one = text in (DEEPLABCUT, DEEPLABCUT_BY_HAND), text[:4] == "1,0,"
    assert tracks.frames.tolist() == ([7, 12] if from_images else [1, 2] if from_one else [0, 1])


def test_named_points(tmp_path):
    tracks = read(tmp_path, FLIES)
    assert tracks.objects == ("a", "b") and tracks.frames.tolist() == [0, 1]
    assert "centre from head, thorax, abdomen; thorax has to lie in the mask" in tracks.text  # wings are appendages
    np.testing.assert_array_equal(tracks.points, [[[4, 2], [14, 2]], [[NAN, NAN], [14, 3]]])
    np.testing.assert_array_equal(tracks.centres, [[[4, 2], [12.5, 2]], [[NAN, NAN], [14, 3]]])
    np.testing.assert_array_equal(tracks.lines, [[2, 3], [4, 5]])
    assert tracks.body_length == 6  # head to abdomen for three flies, and head to thorax for one
    chosen = read(tmp_path, FLIES, point="head", centre="head+abdomen")
    np.testing.assert_array_equal(chosen.points[:, 0], [[1, 2], [1, 3]])
    np.testing.assert_array_equal(chosen.centres, [[[4, 2], [11, 2]], [[4, 3], [14, 3]]])


def test_boxes_have_a_length(tmp_path):
    tracks = read(tmp_path, "1,1,1,1,10,20,1,-1,-1,-1\n2,1,1,1,10,40,1,-1,-1,-1\n")
    assert tracks.body_length == 30 and tracks.first_frame == 1
    np.testing.assert_array_equal(tracks.centres[:, 0], [[5, 10], [5, 20]])
    with_ignored = read(tmp_path, "1,1,1,1,10,20,1,1,1\n1,2,1,1,10,20,0,8,1\n")  # of class 8, which is ignored
    assert with_ignored.objects == ("1",) and "lines with a 0 after it are left out" in with_ignored.text
    with pytest.raises(DataError, match="has no usable line: the seventh cell is 0 in all"):
        read(tmp_path, "1,1,1,1,10,20,0,8,1\n")
    assert np.isnan(read(tmp_path, "frame,id,x,y\n0,0,1,2\n").body_length)


@pytest.mark.parametrize(
    ("frames", "options", "expected", "said"),
    [
        ((0, 9), {}, [0, 9], "counted from 0"),
        ((1, 10), {}, [0, 9], "counted from 1 (guessed"),
        ((1, 9), {}, [1, 9], "counted from 0 (guessed"),
        ((1, 9), {"first_frame": 1}, [0, 8], "counted from 1"),
        ((3, 5), {}, [3, 5], "counted from 0 (guessed"),
    ],
)
def test_frames_are_counted_from_0_or_1(tmp_path, frames, options, expected, said):
    text = "frame,id,x,y\n" + "".join(f"{frame},0,1,2\n" for frame in frames)
    placed = place_in_recording(read(tmp_path, text, **options), 10, 20, 20)
    assert placed.frames.tolist() == expected and said in placed.text
    assert ("guessed" in placed.text) == ("guessed" in said)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "is empty"),
        (b"\xff\xfe\x00", {}, "is not a text file in UTF-8"),
        ("frame,object,x,y\n", {}, "has no line of data"),
        (
            "time,object,x,y\n0,0,1,2\n",
            {},
            r", line 1 \(header\): no column for the frame: .*frame=COLUMN; columns are",
        ),
        ("frame,object,a,b\n0,0,1,2\n", {}, "no columns for the position, such as x and y: "),
        ("frame,object,x,x\n0,0,1,2\n", {}, ": two columns are named 'x'"),
        ("1,2,3,4,5\n", {}, ": 5 columns without names: add a first line such as frame,object,x,y"),
        ("1,2,3,4\n", {"object": "fly"}, "has no header, so no column is named 'fly'"),
        ("frame,object,x,y\n0,0,1,2\n", {"object": "fly"}, "object=fly: no such column; columns are frame, object, x"),
        ("frame,object,x,y\n0,0,1,2\n", {"x": "x"}, "needs both x and y"),
        (FLIES, {"point": "body"}, "point=body: no such point; points are head, thorax"),
        (FLIES, {"centre": "head+tail"}, "centre=tail: no such point"),
        ("frame,object,x,y\n0,0,1,2\n1,0,1\n", {}, ", line 3: 3 cells, expected 4"),
        ("frame,object,x,y\n0,0,1,2\n1,0,one,2\n", {}, ", line 3: 'one' is not a position"),
        ("frame,object,x,y\n0,0,inf,2\n", {}, ", line 2: 'inf' is not a position"),
        ("frame,object,x,y\n0,0,1,\n", {}, ", line 2: y is missing: give both x and y, or neither"),
        ("frame,object,x,y\n0.5,0,1,2\n", {}, ", line 2: the frame is '0.5', expected a whole number"),
        ("frame,object,x,y\n-1,0,1,2\n", {}, ", line 2: the frame is '-1'"),
        ("frame,object,x,y\nfirst,0,1,2\n", {}, ", line 2: the frame is 'first'"),
        ("frame,object,x,y\n0,,1,2\n", {}, ", line 2: the object is missing: name it, or delete the line"),
        (
            "frame,object,x,y\n0,7,1,2\n1,7,1,2\n\n0,7.0,3,4\n",
            {},
            ", line 5: frame 0 of object '7' is already on line 2",
        ),
        ("frame,x,y\n0,1,2\n0,3,4\n", {}, ", line 3: frame 0 of object '' is already on line 2: .*object=COLUMN"),
        ("frame,object,x,y\n0,0,,\n", {}, "has no position"),
        ("scorer,net,net\n0,1,2\n", {}, "begins with 'scorer', but no line with 'bodyparts'"),
    ],
)
def test_a_wrong_file(tmp_path, text, options, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, text, **options)
    assert "tracks.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_older_encodings(tmp_path):
    tracks = read(tmp_path, "frame,object,x,y,area (\u00b5m\u00b2)\n0,m\u00fccke,1,2,3\n".encode("latin-1"))
    assert tracks.objects == ("m\u00fccke",) and tracks.points.tolist() == [[[1, 2]]]


def test_columns_that_cannot_be_objects(tmp_path, monkeypatch):
    monkeypatch.setattr("stii_jax.data.tracks.points._MAX_CELLS", 8)
    with pytest.raises(DataError, match="has 3 objects in 3 frames: name the column of the object"):
        read(tmp_path, "frame,id,x,y\n0,0,1,2\n1,1,1,2\n2,2,1,2\n")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none.csv cannot be read \(No such file"):
        read_tracks(tmp_path / "none.csv", {})


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("0,0,1,2\n10,0,1,2\n", {}, "line 2: frame 10, but the recording has frames 0 to 9: .*first_frame=1"),
        ("1,0,1,2\n11,0,1,2\n", {"first_frame": 1}, "line 2: frame 11, but the recording has frames 1 to 10: "),
        ("0,0,1,2\n5,0,1,2\n", {"first_frame": 1}, "line 1: frame 0, but the recording has frames 1 to 10: "),
        ("0,0,1,2\n5,0,23,2\n", {}, "line 2: x is 23, but frames have 20x30 pixels: give positions in pixels of the"),
        ("0,0,1,2\n5,0,2,-4\n", {}, "line 2: y is -4"),
    ],
)
def test_tracks_of_another_recording(tmp_path, text, options, message):
    with pytest.raises(DataError, match=message):
        place_in_recording(read(tmp_path, text, **options), 10, 20, 30)


def test_options():
    assert parse_options(["object=fly", " centre = head+tail", ""]) == {"object": "fly", "centre": "head+tail"}
    for wrong, message in (
        ("object", "has 'object': give key=value"),
        ("object=", "give key=value"),
        ("objects=fly", "has an unknown key 'objects': keys are frame, object"),
        ("first_frame=2", "first_frame=2, expected 0 or 1"),
        ("match=0", "match=0, expected a number above 0"),
        ("reach=near", "reach=near, expected a number above 0"),
        ("body_length=inf", "body_length=inf"),
    ):
        with pytest.raises(DataError, match=message):
            parse_options([wrong])
