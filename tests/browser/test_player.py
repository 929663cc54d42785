"""The player in a browser: it draws the same pixels as numpy, after any click, drag or key."""

import time

import numpy as np
import pytest
from html_page import random_decomposition

pytestmark = pytest.mark.browser

GREY = 215


def pixels(page, panel):
    """The pixels of a panel, `H W 3`."""
    code = """canvas => { const {width: w, height: h} = canvas;
        return [h, w, [...canvas.getContext('2d').getImageData(0, 0, w, h).data]]; }"""
    height, width, data = page.locator(f'canvas[data-panel="{panel}"]').evaluate(code)
    image = np.array(data, np.uint8).reshape(height, width, 4)
    assert (image[..., 3] == 255).all()
    return image[..., :3]


def expected(clip, frame, on=(0, 1, 2)):
    """Every panel computed by numpy from the page's 8-bit values."""
    masks, means = clip.masks[frame].astype(float)[..., None], clip.means[frame].astype(float)
    assignment = clip.masks if clip.responsibilities is None else clip.responsibilities
    off = [k for k in range(len(masks)) if k not in on]
    drawn, colors = means.copy(), clip.colors.astype(float)
    drawn[off], colors[off] = GREY, GREY
    light = clip.video[frame] @ np.array([0.299, 0.587, 0.114])
    panels = {
        "frame": clip.video[frame],
        "reconstruction": (masks * drawn).sum(0) / 255,
        "segmentation": 0.65 * colors[assignment[frame].argmax(0)] + 0.35 * light[..., None],
        **{f"slot-{k}": (masks[k] * means[k] + (255 - masks[k]) * GREY) / 255 for k in range(len(masks))},
    }
    if clip.truth is not None:
        panels["truth"] = clip.truth[frame]
    return {name: np.rint(np.clip(image, 0, 255)) for name, image in panels.items()}


def assert_shows(page, clip, frame, on=(0, 1, 2)):
    for name, image in expected(clip, frame, on).items():
        # Sums in another order may round differently at a half.
        assert np.abs(pixels(page, name) - image).max() <= 1, name
    assert page.locator("#number").inner_text() == f"frame {frame + 1} of {len(clip.video)}"
    assert page.locator("#scrub").input_value() == str(frame)


def wait_for_frame(page, condition):
    """The page's policy blocks scripts, including those of playwright's own wait."""
    end = time.monotonic() + 15
    while not condition(int(page.locator("#scrub").input_value())):
        assert time.monotonic() < end
        page.wait_for_timeout(20)


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


@pytest.fixture
def player(page):
    """The page with the focus in the player."""
    page.locator("#player h3").click()
    return page


def test_every_frame_of_every_video_is_drawn_as_numpy_says(page, written):
    clips = written[1]
    for number, clip in enumerate(clips):
        page.get_by_role("button", name=f"Video {number}").click()
        for frame in range(len(clip.video)):
            page.locator("#scrub").fill(str(frame))
            assert_shows(page, clip, frame)
    assert page.locator('canvas[data-panel="truth"]').count() == 0, "the last one has no labels"


def test_the_reconstruction_is_the_decompositions(page, written):
    """It holds within 8-bit precision, though the page stores masks and appearances and no reconstruction."""
    means, masks, *_ = random_decomposition(0, 7, 3, 8)
    true = 255 * (means[0] * masks[0][..., None]).sum(axis=1)
    for frame in (0, 6):
        page.locator("#scrub").fill(str(frame))
        assert np.abs(pixels(page, "reconstruction") - true[frame]).max() < 3


def test_slots_are_switched_by_click_and_by_key(player, written):
    clip = written[1][0]
    button = player.locator('button[data-slot="1"]')
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert_shows(player, clip, 0, on=(0, 2))
    press(player, "2")
    assert_shows(player, clip, 0, on=(0,))
    press(player, "1", "0")
    assert button.get_attribute("aria-pressed") == "true"
    assert_shows(player, clip, 0, on=(1,))
    press(player, "0", "2", "3")
    assert_shows(player, clip, 0)


def test_all_slots_off_leave_grey(player, written):
    press(player, "0", "1", "2")
    image = pixels(player, "reconstruction").astype(int)
    assert np.abs(image - GREY).max() <= 1


def test_keys_move_through_the_frames(player, written):
    clip = written[1][0]
    press(player, "ArrowLeft")
    assert_shows(player, clip, 0)
    press(player, "ArrowRight", "ArrowRight")
    assert_shows(player, clip, 2)
    press(player, "End", "ArrowRight")
    assert_shows(player, clip, 6)
    press(player, "Home")
    assert_shows(player, clip, 0)


def test_keys_of_the_slider_are_not_taken_twice(page, written):
    page.locator("#scrub").focus()
    press(page, "ArrowRight", "ArrowRight")
    assert_shows(page, written[1][0], 2)


def test_keys_do_nothing_outside_of_the_player(page, written):
    page.locator("h1").click()
    press(page, "ArrowRight", "1", "End")
    assert_shows(page, written[1][0], 0)


def test_keys_with_a_modifier_are_the_browsers(player, written):
    press(player, "Control+1", "Control+ArrowRight")
    assert_shows(player, written[1][0], 0)


def test_space_plays_and_pauses(player, written):
    player.locator("#speed").select_option("24")
    player.locator("#player h3").click()
    press(player, " ")
    assert player.get_by_role("button", name="Pause").count() == 1
    wait_for_frame(player, lambda frame: frame >= 5)
    wait_for_frame(player, lambda frame: frame <= 2)  # playback starts again
    press(player, " ")
    assert player.get_by_role("button", name="Play").count() == 1
    frame = int(player.locator("#scrub").input_value())
    player.wait_for_timeout(200)
    assert_shows(player, written[1][0], frame)


def test_space_on_a_button_presses_it_once(page, written):
    page.locator('button[data-slot="1"]').focus()
    press(page, " ")
    assert_shows(page, written[1][0], 0, on=(0, 2))
    page.locator("#play").focus()
    press(page, " ")
    assert page.get_by_role("button", name="Pause").count() == 1


def test_scrubbing_stops_what_plays(page, written):
    page.locator("#play").click()
    page.locator("#scrub").fill("3")
    page.wait_for_timeout(400)
    assert_shows(page, written[1][0], 3)


def test_no_faster_than_the_speed_says(page):
    page.locator("#speed").select_option("2")
    started = time.monotonic()
    page.locator("#play").click()
    wait_for_frame(page, lambda frame: frame >= 2)
    assert time.monotonic() - started >= 1


def test_predicted_frames_are_marked_by_colour_and_word(page, written):
    clip = written[1][0]
    made = page.locator('canvas[data-panel="reconstruction"]')
    for frame, word in ((clip.num_observed - 1, "observed"), (clip.num_observed, "predicted")):
        page.locator("#scrub").fill(str(frame))
        assert page.locator("#state").inner_text() == word
        assert page.locator("#scrub").get_attribute("aria-valuetext").endswith(word)
        edge = made.evaluate("canvas => getComputedStyle(canvas).outlineColor")
        assert (edge == "rgb(235, 120, 0)") == (word == "predicted")
        assert page.locator("figcaption .word").first.is_visible() == (word == "predicted")
    seen = page.locator('canvas[data-panel="frame"]')
    assert seen.evaluate("canvas => getComputedStyle(canvas).outlineColor") != "rgb(235, 120, 0)"


def test_a_video_that_was_seen_whole_has_nothing_predicted(page):
    page.get_by_role("button", name="Video 1").click()
    page.locator("#scrub").fill("6")
    assert page.locator("#state").inner_text() == "observed"
    assert page.locator(".future").bounding_box()["width"] == 0


def test_it_plays_by_itself_unless_motion_is_unwanted(show, written):
    still = show(written[0])
    still.wait_for_timeout(500)
    assert still.locator("#scrub").input_value() == "0"
    moving = show(written[0], reduced_motion="no-preference")
    wait_for_frame(moving, lambda frame: frame > 0)
