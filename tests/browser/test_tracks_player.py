"""The player and charts of a decomposition's page in a browser, on phones, and without a mouse."""

import base64
import csv
import io
import itertools
import re

import numpy as np
import pytest
from browser_checks import (
    CONTRAST,
    assert_fits,
    assert_named,
    assert_touchable,
    choose,
    contrasts,
    go_to,
    reached_by_tab,
)
from found_folder import HEIGHT, TABLE, WIDTH, frames_of, write_found
from PIL import Image

from stii_jax.report.tracks import write_tracks_page

pytestmark = pytest.mark.browser


@pytest.fixture
def page(tracks_page):
    """The page of a decomposition, instead of that of a run."""
    return tracks_page


@pytest.fixture
def path(tracks_path):
    """The file of that page."""
    return tracks_path


def shown(page):
    """The picture of the player, `H W 3`."""
    address = page.locator("#scene").evaluate("canvas => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB")).astype(int)


def wait_until_drawn(page, frame):
    for _ in range(200):
        if page.evaluate("app.drawn") == frame:
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"frame {frame} is not drawn")


def test_every_frame_shows_its_picture_under_its_outlines(page):
    colors = page.evaluate("app.page.colors")
    for name in ("numbers", "paths"):
        page.get_by_role("checkbox", name=name).uncheck()
    for frame, expected in enumerate(frames_of()[:4]):
        go_to(page, frame)
        wait_until_drawn(page, frame)
        image = shown(page)
        scale = image.shape[1] / WIDTH
        rows = csv.DictReader(io.StringIO(TABLE))
        for row in (row for row in rows if row["frame"] == str(frame) and row["centroid_x"]):
            x, y, left = (float(row[name]) for name in ("centroid_x", "centroid_y", "left"))
            if row["background"] == "1":
                assert (image[-2, 2] == expected[-1, 0]).all(), "the background has no outline"
            else:
                assert (image[int(y * scale), int(x * scale)] == expected[int(y), int(x)]).all(), "inside of the object"
                near = image[int(y * scale), round(left * scale) - 1 :][:3]
                assert np.abs(near - colors[int(row["object"])]).max(axis=-1).min() < 40, "on its outline"


def test_outlines_follow_the_corrections(page):
    colors = np.array(page.evaluate("app.page.colors"))
    for name in ("numbers", "paths"):
        page.get_by_role("checkbox", name=name).uncheck()
    wait_until_drawn(page, 0)

    def edge():
        image = shown(page)
        return image[int(8 * image.shape[1] / WIDTH), round(5 * image.shape[1] / WIDTH) - 1 :][:3]

    assert np.abs(edge() - colors[1]).max(axis=-1).min() < 40
    choose(page, swap_object="1", swap_with="2")
    page.get_by_role("button", name="Swap from frame 0 on").click()
    page.wait_for_timeout(200)
    assert np.abs(edge() - colors[2]).max(axis=-1).min() < 40
    page.get_by_role("checkbox", name="outlines").uncheck()
    page.wait_for_timeout(200)
    assert all(np.abs(shown(page) - color).max(axis=-1).min() > 40 for color in colors[1:3])


def test_futures_are_drawn_from_the_last_observed_frame_on(show, tmp_path):
    write_tracks_page(write_found(tmp_path / "found", num_futures=2), tmp_path / "page.html")
    page = show(tmp_path / "page.html")
    colors = np.array(page.evaluate("app.page.colors"))
    for name in ("outlines", "numbers", "paths"):
        page.get_by_role("checkbox", name=name).uncheck()

    def has(color, x, y):
        image = shown(page)
        scale = image.shape[1] / WIDTH
        near = image[round(y * scale) - 4 : round(y * scale) + 5, round(x * scale) - 4 : round(x * scale) + 5]
        toward = (near - near[0, 0]) @ (color - near[0, 0])  # half of the colour is blended in
        return bool((toward > 0.25 * ((color - near[0, 0]) ** 2).sum()).any())

    places = [(1, 25, 24), (1, 14, 24), (2, 28, 7)]  # along the futures of both objects
    for frame, expected in ((2, False), (3, True), (4, True)):
        go_to(page, frame)
        wait_until_drawn(page, frame)
        assert [has(colors[slot], x, y) for slot, x, y in places] == [expected] * 3, frame
    page.get_by_role("checkbox", name="futures").uncheck()
    page.wait_for_timeout(200)
    assert not any(has(colors[slot], x, y) for slot, x, y in places)


def test_keys_and_fields_move_through_the_frames(page):
    page.locator("#scene").click()
    for key, frame in (
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("End", 4),
        ("Home", 0),
        ("Shift+ArrowRight", 4),
    ):
        page.keyboard.press(key)
        assert page.locator("#frame").input_value() == str(frame) == page.locator("#scrub").input_value()
    assert page.locator("#state").inner_text() == "predicted"
    assert page.locator("#when").inner_text() == "(0 to 4), 0.50 s"
    go_to(page, 99)
    assert page.locator("#frame").input_value() == "4"
    page.locator("#scrub").fill("3")
    cells = page.locator("#objects-rows tr").first.locator("td.number").all_inner_texts()
    assert cells == ["20.0", "24.0", "36", "50"]
    go_to(page, 2)
    assert page.locator("#objects-rows tr").nth(1).locator("td.number").first.inner_text() == "not visible"
    assert "object 1 at 14, 16; object 2 is not visible" in page.locator("#scene").get_attribute("aria-label")


def test_space_plays_to_the_end(page):
    page.locator("#scene").click()
    page.keyboard.press(" ")
    assert page.get_by_role("button", name="Pause").count() == 1
    for _ in range(200):
        if page.locator("#frame").input_value() == "4":
            break
        page.wait_for_timeout(20)
    assert page.get_by_role("button", name="Play").count() == 1


def test_a_click_on_a_timeline_goes_to_its_frame(page):
    chart = page.locator(".lane-chart").first
    box = chart.bounding_box()
    chart.click(position={"x": box["width"] * 0.74, "y": 20})
    assert page.locator("#frame").input_value() == "3"
    left = page.locator(".lane .cursor").first.bounding_box()["x"] - box["x"]
    assert left == pytest.approx(0.75 * box["width"], abs=2)
    assert page.locator(".lane-value strong").inner_text() == "16.1 px"


def test_timelines_say_what_they_show(page):
    labels = [canvas.get_attribute("aria-label") for canvas in page.locator(".lane canvas").all()]
    assert labels == [
        "object 1: visible in 100.0 % of frames; median area 36 px, median speed 50 px/s",
        "object 2: visible in 80.0 % of frames; median area 64 px, median speed 0 px/s",
        "Distance between object 1 and object 2: median 16.1 px",
    ]
    assert page.locator("#plots figcaption").all_inner_texts() == ["all objects", "object 1", "object 2"]


def test_one_object_has_no_distance(show, tmp_path):
    lines = [line for line in TABLE.splitlines() if line.split(",")[2] != "2"]
    write_tracks_page(write_found(tmp_path / "found", "\n".join(lines) + "\n", num_slots=2), tmp_path / "page.html")
    page = show(tmp_path / "page.html")
    assert not page.locator("#distance").is_visible() and page.locator("#plots figure").count() == 1


@pytest.mark.parametrize(("absent", "named"), [("2", "object 2"), ("12", "object 1, object 2")])
def test_slots_without_an_object_have_no_timeline(show, tmp_path, absent, named):
    """They still have rows in the saved table, as in that of the decomposition."""
    table = re.sub(rf"(?m)^(\d,[\d.]+,[{absent}]),1.*,0,(\d)$", r"\1,0,,,0,,,,,,0,\2", TABLE)
    write_tracks_page(write_found(tmp_path / "found", table), tmp_path / "page.html")
    page = show(tmp_path / "page.html")
    assert page.locator("#absent").inner_text() == f"Never visible: {named}."
    assert page.locator("#lanes .lane").count() == page.locator("#objects-rows tr").count() == 2 - len(absent)
    page.get_by_role("button", name="Merge", exact=True).click()
    assert page.locator("#message").inner_text() == "Choose two different objects."
    exported = page.evaluate("exportTable(app.table, app.state)")
    assert re.sub(r"(?m),[^,\n]*$", "", exported) == table


def test_a_long_recording_is_not_sluggish(show, tmp_path):
    """1,100 frames of five objects: an edit and a step are each far below the time a user would notice."""
    rng = np.random.default_rng(0)
    lines = [TABLE.splitlines()[0]]
    for t, k in itertools.product(range(1100), range(6)):
        x, y = rng.uniform(6, 24, 2).round(3)
        sides = (0, 0, WIDTH, HEIGHT) if k == 0 else (int(x) - 3, int(y) - 3, int(x) + 3, int(y) + 3)
        lines.append(f"{t},{t / 15:.6f},{k},1,{x},{y},36.0,{','.join(map(str, sides))},0.8,{int(k == 0)},0")
    found = write_found(tmp_path / "found", "\n".join(lines) + "\n", num_frames=1100, num_predicted=0, num_slots=6)
    write_tracks_page(found, tmp_path / "page.html")
    page = show(tmp_path / "page.html")
    step, edit, export = page.evaluate(
        """() => {
            const timed = (action) => { const start = performance.now(); action(); return performance.now() - start; };
            const step = timed(() => { for (let t = 0; t < 50; t++) app.seek(t * 20); }) / 50;
            byId('swap-object').value = 1;
            byId('swap-with').value = 2;
            return [step, timed(() => byId('swap').click()), timed(() => exportTable(app.table, app.state))];
        }"""
    )
    assert page.locator("#edits li").inner_text() == "objects 1 and 2 swapped from frame 980 on"
    assert step < 50 and edit < 1000 and export < 3000


# ---- Phones and accessibility ----


@pytest.mark.parametrize("width", [320, 390, 768, 1200])
def test_no_page_is_wider_than_its_window(show, path, width):
    page = show(path, viewport={"width": width, "height": 740}, has_touch=width < 500)
    page.locator("summary").click()
    assert_fits(page, width)


def test_touch_targets_are_large_enough(show, path):
    assert_touchable(show(path, viewport={"width": 360, "height": 740}, has_touch=True))


def test_everything_has_a_name(page):
    assert_named(page)


def test_everything_can_be_reached_and_seen_to_be_reached(page):
    reached = reached_by_tab(page)
    assert {
        "play",
        "scrub",
        "frame",
        "speed",
        "show-outlines",
        "Keyboard shortcuts",
        "Name of object 1",
        "merge",
        "swap-with",
    } <= reached
    assert {"swap", "split", "save-table", "save-edits", "load-edits", "from-object", "to-object"} <= reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_every_text(show, path, scheme):
    page = show(path, color_scheme=scheme)
    page.locator("summary").click()
    go_to(page, 4)
    page.locator("#merge-into").select_option("2")
    page.get_by_role("button", name="Merge", exact=True).click()
    found = contrasts(page)
    assert len(found) > 80 and "Choose two different objects." in {text for _, text in found}
    assert not [pair for pair in found if pair[0] < CONTRAST]


def test_hostile_names_are_shown_and_not_run(page):
    name = "<img src=x onerror=alert(1)>"
    page.get_by_label("Name of object 1").fill(name)
    page.get_by_label("Name of object 1").press("Enter")
    assert page.locator("#lanes strong").first.inner_text() == name and page.locator("img[src=x]").count() == 0
