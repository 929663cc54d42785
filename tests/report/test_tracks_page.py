"""The page of a decomposition: its content, its size, and one-line errors."""

import base64
import io
import json
import re

import numpy as np
import pytest
from found_folder import FUTURES, HEIGHT, TABLE, WIDTH, frames_of, labels_of, write_found
from html_page import Reader
from PIL import Image, ImageDraw

from stii_jax.report import main
from stii_jax.report.files import ReportError
from stii_jax.report.tracks import document, outlines, pictures
from stii_jax.report.tracks.folder import open_decomposition

HOSTILE = "<img src=x onerror=alert(1)>&\"'$title"


@pytest.fixture
def found(tmp_path):
    return write_found(tmp_path / "found")


def data_of(page):
    return json.loads(Reader(page).texts["script"][0])


def decode(uri):
    image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/webp;base64,"))))
    return np.asarray(image.convert("RGB"))


def unpack(text):
    """Return slot and corners of the polygons of every frame."""
    numbers, frames = np.frombuffer(base64.b64decode(text), "<u2").tolist(), []
    while numbers:
        polygons, count, numbers = [], numbers[0], numbers[1:]
        for _ in range(count):
            slot, length = numbers[:2]
            polygons.append((slot, np.reshape(numbers[2 : 2 + 2 * length], (-1, 2))))
            numbers = numbers[2 + 2 * length :]
        frames.append(polygons)
    return frames


def fill(polygons, size):
    """Return the mask within polygons at eight times the resolution, with holes where they overlap."""
    inside = np.zeros((size[1] * 8, size[0] * 8), bool)
    for polygon in polygons:
        image = Image.new("1", (size[0] * 8, size[1] * 8))
        ImageDraw.Draw(image).polygon([tuple(point) for point in 8 * polygon - 0.5], fill=1)
        inside ^= np.asarray(image)
    return inside


def test_from_the_command_line(found, tmp_path, capsys):
    output = tmp_path / "page.html"
    assert main(["--html", str(found), "--output", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}: {output.stat().st_size / 1e6:.1f} MB\n"
    data = data_of(output.read_text())
    assert data["table"] == TABLE and (data["observed"], data["slots"], data["background"]) == (4, 3, 0)
    assert data["fps"] == 7.5, "3 intervals in 0.4 seconds, whatever the file states"
    shown = [decode(uri) for uri in data["pictures"]["uris"]]
    np.testing.assert_array_equal(shown, frames_of()[:4])
    before = output.read_bytes()
    assert main(["--html", str(found), "--output", str(output)]) == 0 and output.read_bytes() == before


def test_futures(tmp_path):
    page = document.render(open_decomposition(write_found(tmp_path / "found", num_futures=2)))
    background, one, two = data_of(page)["futures"]
    assert background == [[[20.0, 15.0], [20.0, 15.0]]] * 2
    assert one == [[[20.0, 24.0], [30.0, 24.0]], [[20.0, 24.0], [12.0, 24.0]]]
    assert two == [[[28.0, 10.0], [28.0, 4.0]], [[28.0, 10.0], None]]
    assert 'id="show-futures"' in page and "in 2 sampled futures" in page
    plain = document.render(open_decomposition(write_found(tmp_path / "plain" / "found")))
    assert (
        "futures" not in data_of(plain) and 'id="show-futures"' not in plain and "sampled futures. A dot" not in plain
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "futures.csv cannot be read .*: decompose the recording again"),
        (lambda path: path.write_text("a,b\n1,2\n"), r"futures.csv does not have one row per future"),
        (
            lambda path: path.write_text(FUTURES.rpartition("1,4,")[0]),
            r"one row per future, frame and slot \(2 futures\)",
        ),
        (lambda path: path.write_text(FUTURES.replace("12.0,24.0", "12.0,here")), "futures.csv cannot be read"),
    ],
)
def test_futures_that_do_not_fit(tmp_path, change, message):
    folder = write_found(tmp_path / "found", num_futures=2)
    change(folder / "futures.csv")
    with pytest.raises(ReportError, match=message) as caught:
        document.render(open_decomposition(folder))
    assert "\n" not in str(caught.value)


def test_the_page_needs_nothing_but_itself(found):
    page = document.render(open_decomposition(found))
    reader = Reader(page)
    (policy,) = [tag["content"] for tag in reader.all("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:" and "unsafe" not in policy
    for _, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "http:" not in page and "https:" not in page


def test_no_text_of_a_decomposition_becomes_markup_and_paths_stay_here(tmp_path):
    texts = {"model": HOSTILE, "dataset": HOSTILE, "notes": [f"{tmp_path / HOSTILE} has no axis T"], "damage": HOSTILE}
    plain = document.render(open_decomposition(write_found(tmp_path / "a" / "found", notes=["x"])))
    hostile = document.render(open_decomposition(write_found(tmp_path / "found", name=HOSTILE, **texts)))
    assert [tag for tag, _ in Reader(plain).tags] == [tag for tag, _ in Reader(hostile).tags]
    assert str(tmp_path) not in hostile
    trained = open_decomposition(write_found(tmp_path / "b" / "found", model=None, workdir=f"{tmp_path}/runs/mine"))
    assert "<dd>mine</dd>" in (page := document.render(trained)) and str(tmp_path) not in page


@pytest.mark.parametrize(("cuts", "expected"), [([3, 1], [1, 3]), (None, []), (["1", 0, 4, 2.5, 2], [2]), ("x", [])])
def test_cuts_and_notes_are_in_the_page(tmp_path, cuts, expected):
    page = document.render(open_decomposition(write_found(tmp_path / "found", cuts=cuts, notes=["a note", "another"])))
    assert data_of(page)["cuts"] == expected and "<dd>a note; another</dd>" in page


def test_outlines_are_those_of_the_masks(found):
    data = data_of(document.render(open_decomposition(found)))
    frames = unpack(data["outlines"])
    assert len(frames) == 5 and data["unit"] == WIDTH / 32_000
    for polygons, labels in zip(frames, labels_of()):
        for slot in (1, 2):
            drawn = fill([points * data["unit"] for of, points in polygons if of == slot], (WIDTH, HEIGHT))
            assert np.mean(drawn ^ (labels == slot).repeat(8, 0).repeat(8, 1)) < 0.002, "corners are cut"


def test_the_outline_of_a_square():
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:5] = True
    (line,) = outlines.trace(mask)
    expected = [[2, 1.5], [2, 2.5], [2.5, 3], [3.5, 3], [4.5, 3], [5, 2.5], [5, 1.5], [4.5, 1], [3.5, 1], [2.5, 1]]
    assert sorted(line.tolist()) == sorted(expected)


def test_outlines_keep_holes_and_larger_pieces_and_stay_short():
    y, x = np.mgrid[:200, :300]
    ring = (np.hypot(x - 100, y - 100) < 80) & (np.hypot(x - 100, y - 100) > 40)
    piece, speck = np.hypot(x - 240, y - 60) < 25, (x == 250) & (y == 150)
    lines = outlines.trace(ring | piece | speck)
    assert len(lines) == 3 and all(len(line) <= outlines.MAX_POINTS for line in lines)
    drawn, mask = fill(lines, (300, 200)), (ring | piece).repeat(8, 0).repeat(8, 1)
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.98
    scattered = np.zeros((60, 60), bool)
    scattered[::4, ::4] = True
    assert len(outlines.trace(scattered)) == outlines.MAX_PIECES


def test_labels_of_large_frames_are_scaled():
    labels = np.zeros((10, 10), np.uint8)
    labels[2:4, 6:9] = 7
    ((slot, line),) = outlines.frame_outlines(labels, {7: (18, 6, 27, 12)}, 3)
    assert slot == 7 and line.min(axis=0).tolist() == [18, 6] and line.max(axis=0).tolist() == [27, 12]


def test_every_so_many_frames_of_a_long_recording_have_a_picture(found, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PICTURES", 2)
    page = document.render(open_decomposition(found))
    data = data_of(page)
    assert data["pictures"]["every"] == 2 and "one image for every 2 frames" in page
    np.testing.assert_array_equal([decode(uri) for uri in data["pictures"]["uris"]], frames_of()[:4:2])
    assert len(unpack(data["outlines"])) == 2 + 1, "and the predicted one has outlines"


def test_frames_that_were_left_out_of_the_decomposition_are_left_out_here(tmp_path):
    rows = [line for line in TABLE.splitlines() if line[0] in "f01"]
    found = write_found(tmp_path / "found", num_frames=2, num_predicted=0)
    (found / "trajectories.csv").write_text("\n".join(rows) + "\n")
    recording = tmp_path / "video"
    for number, frame in enumerate(frames_of()[:4]):
        Image.fromarray(frame).save(recording / f"{number}.png")
    summary = json.loads((found / "decomposition.json").read_text()) | {"frame_stride": 2}
    (found / "decomposition.json").write_text(json.dumps(summary))
    np.testing.assert_array_equal([*open_decomposition(found).frames(1)], frames_of()[[0, 2]])


@pytest.mark.parametrize(
    ("size", "count", "noisy", "expected"),
    [
        ((64, 48), 1000, True, (64, 48)),
        ((1920, 1080), 10, False, (960, 540)),
        ((1080, 1920), 10, False, (540, 960)),
        ((1920, 2), 10, False, (960, 1)),
        ((800, 600), 10_000_000, True, (240, 180)),
    ],
)
def test_size_of_pictures(size, count, noisy, expected):
    frame = np.zeros((size[1], size[0], 3), np.uint8)
    if noisy:
        frame[:] = np.random.default_rng(0).integers(0, 256, frame.shape)
    assert pictures.picture_size([frame], count) == expected


def test_pictures_shrink_until_the_file_is_small_enough(monkeypatch):
    frame = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    whole = len(pictures._encode(frame, (400, 300)))
    monkeypatch.setattr(pictures, "MAX_BYTES", 100 * whole * 4 / 3 * 0.6)
    size = pictures.picture_size([frame], 100)
    assert 240 < size[0] < 400 and len(pictures._encode(frame, size)) <= 0.6 * whole


def change(found, **changes):
    summary = json.loads((found / "decomposition.json").read_text())
    (found / "decomposition.json").write_text(json.dumps(summary | changes))


def test_a_recording_that_has_moved(found, tmp_path, capsys):
    (tmp_path / "video").rename(tmp_path / "moved")
    arguments = ["--html", str(found), "--output", str(tmp_path / "page.html")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    start = f"error: {tmp_path / 'video'}, the recording of {found}, does not exist"
    assert error == f"{start}: give its path with --recording\n"
    assert main([*arguments, "--recording", str(tmp_path / "moved")]) == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: change(f, input_size=[41, 30]),
            "is not the recording of .*: its frames have 40x30 pixels, not 41x30",
        ),
        (lambda f: (f.parent / "video" / "3.png").unlink(), "is not the recording of .*: it has 3 frames, not 4"),
        (lambda f: change(f, num_slots="3"), "`num_slots` is '3', expected a number"),
        (lambda f: change(f, view_box=[1]), r"`view_box` is \[1\], expected 4 numbers"),
        (lambda f: change(f, num_frames=9), r"not have one row per frame and slot \(10 frames, 3 rows each\)"),
        (lambda f: (f / "decomposition.json").write_text("{}"), "`num_frames` is missing"),
        (lambda f: (f / "decomposition.json").write_text("{"), "decomposition.json: not JSON"),
        (lambda f: (f / "trajectories.csv").write_text("frame,object\n"), "does not have the columns frame, time"),
        (lambda f: (f / "trajectories.csv").unlink(), "trajectories.csv: no such file"),
        (
            lambda f: (f / "masks" / "000001.png").unlink(),
            "000001.png cannot be read .*: decompose the recording again",
        ),
        (lambda f: (f / "masks" / "000001.png").write_text("x"), "000001.png cannot be read"),
    ],
)
def test_one_line_for_decompositions_that_cannot_be_shown(found, damage, message, tmp_path, capsys):
    damage(found)
    assert main(["--html", str(found), "--output", str(tmp_path / "page.html")]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and re.search(message, errors[0]) and not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("output", ["page.txt", "no/page.html"])
def test_a_page_that_cannot_be_written(found, tmp_path, output, capsys):
    assert main(["--html", str(found), "--output", str(tmp_path / output)]) == 2
    assert "cannot be the page: give --output an .html file in a folder that exists" in capsys.readouterr().err


def test_flags_that_would_do_nothing(found, capsys):
    for arguments, message in (
        (["--html", str(found), "--videos", "2"], "--videos does nothing on the page of a decomposition"),
        (["--html", "quickstart", "--recording", "x"], "--recording does nothing on the page of a run"),
    ):
        with pytest.raises(SystemExit):
            main([*arguments, "--output", "page.html"])
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--recording", "x"])
    assert "--recording needs --html" in capsys.readouterr().err
