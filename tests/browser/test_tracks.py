"""The page of a decomposition in a browser: corrections, and the saved tables."""

import csv
import io
import json
import random

import numpy as np
import pytest
from browser_checks import choose, go_to
from found_folder import TABLE

pytestmark = pytest.mark.browser

HEAD = TABLE.splitlines()[0] + ",name"
NAMED = [
    HEAD,
    *(f"{line},{('background', 'object 1', 'object 2')[int(line.split(',')[2])]}" for line in TABLE.split()[1:]),
]
SWAPPED = """\
2,0.2,0,1,20.0,15.0,1164.0,0.0,0.0,40.0,30.0,0.9,1,0,background
2,0.2,1,0,,,0,,,,,,0,0,object 1
2,0.2,2,1,14.0,16.0,36.0,11.0,13.0,17.0,19.0,0.8,0,0,object 2
3,0.4,0,1,20.0,15.0,1100.0,0.0,0.0,40.0,30.0,0.9,1,0,background
3,0.4,1,1,28.0,10.0,64.0,24.0,6.0,32.0,14.0,0.6,0,0,object 1
3,0.4,2,1,20.0,24.0,36.0,17.0,21.0,23.0,27.0,0.8,0,0,object 2
4,0.5,0,1,20.0,15.0,1100.0,0.0,0.0,40.0,30.0,0.9,1,1,background
4,0.5,1,1,28.0,10.0,64.0,24.0,6.0,32.0,14.0,0.6,0,1,object 1
4,0.5,2,1,23.0,24.0,36.0,20.0,21.0,26.0,27.0,0.8,0,1,object 2
""".splitlines()
MERGED = """\
0,0.0,1,1,19.429,14.857,100.0,5.0,5.0,32.0,24.0,0.672,0,0,object 1
1,0.1,1,1,20.714,16.571,100.0,8.0,9.0,32.0,24.0,0.672,0,0,object 1
2,0.2,1,1,14.0,16.0,36.0,11.0,13.0,17.0,19.0,0.8,0,0,object 1
3,0.4,1,1,24.571,16.0,100.0,17.0,6.0,32.0,27.0,0.672,0,0,object 1
4,0.5,1,1,25.857,16.0,100.0,20.0,6.0,32.0,27.0,0.672,0,1,object 1
""".splitlines()


@pytest.fixture
def page(tracks_page):
    """The page of a decomposition, instead of that of a run."""
    return tracks_page


@pytest.fixture
def path(tracks_path):
    """The file of that page."""
    return tracks_path


def table_after(page, *edits):
    """The saved table after corrections, computed by the functions alone."""
    code = "edits => exportTable(app.table, replay(app.table, 0, edits)).trimEnd().split('\\n')"
    return page.evaluate(code, list(edits))


def saved(page, button):
    """The file that a button saves."""
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return download.value.suggested_filename, download.value.path().read_text()


def message(page):
    return page.locator("#message").inner_text()


# ---- Tables ----


def test_without_corrections_the_table_is_that_of_the_decomposition(page):
    assert table_after(page) == NAMED


def test_a_swap_exchanges_two_objects_from_a_frame_on(page):
    assert table_after(page, {"do": "swap", "object": 1, "with": 2, "from": 2}) == NAMED[:7] + SWAPPED
    twice = [{"do": "swap", "object": 1, "with": 2, "from": start} for start in (2, 4)]
    assert table_after(page, *twice) == NAMED[:7] + SWAPPED[:6] + NAMED[13:], "the second one ends the first"


def test_merged_objects_are_measured_together(page):
    """Worked out by hand: the weights are area times confidence, 28.8 and 38.4."""
    lines = table_after(page, {"do": "merge", "object": 2, "into": 1})
    assert lines[0] == HEAD and lines[1::2] == NAMED[1::3] and lines[2::2] == MERGED


def test_an_object_merged_into_the_background_is_gone(page):
    lines = table_after(page, {"do": "merge", "object": 1, "into": 0})
    rows = list(csv.DictReader(lines))
    assert [row["object"] for row in rows] == ["0", "2"] * 5
    assert rows[0]["area"] == "1136.0" and rows[0]["background"] == "1" and rows[0]["name"] == "background"


def test_a_split_begins_a_new_object(page):
    lines = table_after(page, {"do": "split", "object": 1, "from": 3}, {"do": "rename", "object": 3, "name": "b"})
    rows = {(row["frame"], row["object"]): row for row in csv.DictReader(lines)}
    assert len(rows) == 5 * 4
    for frame, x in enumerate(["8.0", "11.0", "14.0", "20.0", "23.0"]):
        old, new = rows[str(frame), "1"], rows[str(frame), "3"]
        assert (old["visible"], old["centroid_x"]) == (("1", x) if frame < 3 else ("0", ""))
        assert (new["visible"], new["centroid_x"], new["name"]) == (("0", "", "b") if frame < 3 else ("1", x, "b"))


def test_names_are_quoted_as_csv_needs_it(page):
    name = 'a, "b"'
    rows = list(csv.DictReader(table_after(page, {"do": "rename", "object": 2, "name": f" {name} "})))
    assert {row["name"] for row in rows if row["object"] == "2"} == {name}


def test_after_a_cut_slots_show_other_objects(page):
    code = "cuts => exportTable(app.table, startTracks({ ...app.table, cuts }, 0)).trimEnd().split('\\n')"
    assert page.evaluate(code, []) == table_after(page)
    rows = list(csv.DictReader(page.evaluate(code, [1, 3])))
    shown = {(row["object"], int(row["frame"])) for row in rows if row["visible"] == "1"}
    first, second, third = (("1", "2"), (0,)), (("3", "4"), (1, 2)), (("5", "6"), (3, 4))
    expected = {(of, t) for objects, frames in (first, second, third) for of in objects for t in frames}
    assert shown == {*expected, *(("0", t) for t in range(5))} - {("4", 2)}
    assert {row["name"] for row in rows if row["object"] == "5"} == {"object 5"}


def test_any_corrections_keep_every_pixel_and_replay_is_exact(page):
    """In every frame, areas add up to those of the slots, and no row is lost or duplicated."""
    rng = random.Random(0)
    slots = list(csv.DictReader(io.StringIO(TABLE)))
    areas = [sum(float(row["area"]) for row in slots if row["frame"] == str(t)) for t in range(5)]
    code = "([edits, one]) => replay(app.table, 0, [...edits, one]).tracks.map(({id}) => id)"
    for _ in range(15):
        edits, known = [], [0, 1, 2]
        for _ in range(6):
            edit = {"do": rng.choice(["merge", "split", "swap", "swap"]), "from": rng.randrange(1, 5)}
            edit |= {"object": rng.choice(known), "into": rng.choice(known), "with": rng.choice(known)}
            try:
                known = page.evaluate(code, [edits, edit])
                edits.append(edit)
            except Exception as error:
                assert "correction" in str(error)
        rows = list(csv.DictReader(table_after(page, *edits)))
        assert [(int(row["frame"]), int(row["object"])) for row in rows] == [
            (t, k) for t in range(5) for k in sorted(known)
        ]
        for t in range(5):
            assert sum(float(row["area"]) for row in rows if row["frame"] == str(t)) == areas[t]


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        ({"do": "merge", "object": 1, "into": 1}, "choose two different objects"),
        ({"do": "merge", "object": 0, "into": 1}, "the background cannot be merged into an object"),
        ({"do": "swap", "object": 1, "with": 7, "from": 1}, "there is no object 7"),
        ({"do": "swap", "object": 1, "with": 2, "from": 5}, "there is no frame 5: frames are 0 to 4"),
        ({"do": "swap", "object": 1, "with": 2, "from": "1"}, "there is no frame 1"),
        ({"do": "split", "object": 1, "from": 0}, "a split at frame 0 leaves nothing before it"),
        ({"do": "split", "object": 0, "from": 1}, "the background cannot be split"),
        ({"do": "rename", "object": 1, "name": " "}, "a name must have 1 to 80 characters"),
        ({"do": "fly"}, 'unknown correction "fly"'),
    ],
)
def test_corrections_that_make_no_sense(page, edit, text):
    code = "edits => { try { replay(app.table, 0, edits); } catch (error) { return error.message; } return ''; }"
    assert page.evaluate(code, [{"do": "rename", "object": 1, "name": "a"}, edit]).startswith(f"correction 2: {text}")


def test_speed_and_distance(page):
    speed, distance = page.evaluate(
        """() => { const [a, b] = [app.series.get(1), app.series.get(2)];
            return [[...speeds(app.table, a)], [...distances(a, b)]]; }"""
    )
    np.testing.assert_allclose(speed, [np.nan, 50, 50, 50, 30])
    expected = [np.hypot(20, 12), np.hypot(17, 8), np.nan, np.hypot(8, 14), np.hypot(5, 14)]
    np.testing.assert_allclose(distance, expected)
    assert page.evaluate("presence(app.series.get(2))") == [[0, 1], [3, 4]]


# ---- The editor ----


def test_corrections_by_hand(page):
    go_to(page, 2)
    choose(page, swap_object="1", swap_with="2")
    page.get_by_role("button", name="Swap from frame 2 on").click()
    assert message(page) == "Done: objects 1 and 2 swapped from frame 2 on."
    page.get_by_label("Name of object 1").fill("queen")
    page.get_by_label("Name of object 1").press("Enter")
    assert page.locator("#edits li").all_inner_texts() == [
        "objects 1 and 2 swapped from frame 2 on",
        "object 1 renamed to “queen”",
    ]
    name, text = saved(page, "Save table (CSV)")
    assert name == "video-tracks.csv"
    assert text.splitlines() == [line.replace("object 1", "queen") for line in NAMED[:7] + SWAPPED]
    assert page.locator("#lanes strong").all_inner_texts() == ["queen", "object 2"]
    page.keyboard.press("Control+z")
    page.get_by_role("button", name="Undo last correction").click()
    assert message(page) == "Undone: objects 1 and 2 swapped from frame 2 on."
    assert saved(page, "Save table (CSV)")[1].splitlines() == NAMED
    assert page.get_by_role("button", name="Undo last correction").is_disabled()


def test_split_and_merge_by_hand(page):
    go_to(page, 3)
    choose(page, split_object="1")
    page.get_by_role("button", name="Split at frame 3").click()
    assert page.locator("#objects-rows tr").count() == 3
    choose(page, merge_object="3", merge_into="1")
    page.get_by_role("button", name="Merge", exact=True).click()
    assert saved(page, "Save table (CSV)")[1].splitlines() == NAMED, "the merge undoes the split"
    choose(page, merge_object="1", merge_into="1")
    page.get_by_role("button", name="Merge", exact=True).click()
    assert message(page) == "Choose two different objects."
    assert page.locator("#edits li").count() == 2


def test_an_empty_name_is_refused(page):
    page.get_by_label("Name of object 2").fill("  ")
    page.get_by_label("Name of object 2").press("Enter")
    assert message(page) == "A name must have 1 to 80 characters."
    assert page.get_by_label("Name of object 2").input_value() == "object 2"


def load(page, text):
    file = {"name": "edits.json", "mimeType": "application/json", "buffer": text.encode()}
    before = message(page)
    page.locator("#load-edits").set_input_files([file])
    for _ in range(100):
        if message(page) != before:
            break
        page.wait_for_timeout(20)


def test_corrections_are_saved_and_loaded(show, path):
    page = show(path)
    go_to(page, 2)
    choose(page, swap_object="1", swap_with="2")
    page.get_by_role("button", name="Swap from frame 2 on").click()
    name, text = saved(page, "Save corrections (JSON)")
    assert name == "video-corrections.json" and json.loads(text) == {
        **{"stii_jax_edits": 1, "recording": "video", "frames": 5, "slots": 3},
        "edits": [{"do": "swap", "object": 1, "with": 2, "from": 2}],
    }
    other = show(path)
    load(other, text)
    assert message(other) == "Loaded 1 corrections; they replace the previous ones."
    assert saved(other, "Save table (CSV)")[1].splitlines() == NAMED[:7] + SWAPPED


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "This file is not JSON"),
        ("[]", "This file holds no corrections"),
        (
            '{"stii_jax_edits": 1, "edits": [], "frames": 6, "slots": 3}',
            "These corrections are for 6 frames and 3 slots",
        ),
        (
            '{"stii_jax_edits": 1, "edits": [{"do": "swap", "object": 9}], "frames": 5, "slots": 3}',
            "Correction 1: there is no object 9",
        ),
    ],
)
def test_files_that_hold_no_corrections_of_this_page(page, text, expected):
    load(page, text)
    assert message(page).startswith(expected) and page.locator("#edits li").inner_text() == "none yet"
