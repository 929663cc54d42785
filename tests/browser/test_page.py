"""The rest of the page in a browser: sorting, curves, hostile texts, phones and accessibility."""

import pytest
from browser_checks import CONTRAST, assert_fits, assert_named, assert_touchable, contrasts, reached_by_tab
from html_page import HOSTILE, a_page

pytestmark = pytest.mark.browser


def column(page, number):
    return page.locator("#scores tbody tr").evaluate_all(
        "(rows, i) => rows.map(row => row.cells[i].dataset.value ?? row.cells[i].textContent)", number
    )


def test_scores_are_sorted_by_click_and_key(page):
    heads = page.locator("#scores thead th")
    names = heads.all_inner_texts()
    ari, mse = names.index("ARI"), names.index("MSE")
    page.get_by_role("button", name="ARI", exact=True).click()
    assert column(page, ari) == ["0.8", "0.9", "0.9"]
    assert heads.nth(ari).get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert column(page, ari) == ["0.9", "0.9", "0.8"]
    assert heads.nth(ari).get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="evaluation").focus()
    page.keyboard.press(" ")
    assert [text.split()[0] for text in column(page, 0)] == ["predicted,", "test", "test"]
    assert page.locator("th[aria-sort]").count() == 1
    for _ in range(2):  # an unknown score is last in both directions
        page.get_by_role("button", name="MSE").click()
        assert column(page, mse)[-1] == "\N{EN DASH}" and heads.nth(mse).get_attribute("aria-sort")


def test_curves_are_read_off_with_the_pointer(page):
    chart = page.locator(".chart").nth(1)
    svg = chart.locator("svg")
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.995, box["y"] + box["height"] / 2)
    said = chart.locator(".readout").inner_text()
    assert said == "Step 400: F-ARI of training batches 0.8; F-ARI of held-out videos 0.5"
    assert chart.locator(".hair").get_attribute("visibility") == "visible"
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] - 40)
    assert chart.locator(".hair").get_attribute("visibility") == "hidden"


def test_hostile_texts_are_shown_and_not_run(show, tmp_path):
    path = tmp_path / "hostile.html"
    path.write_text(a_page(HOSTILE)[0], encoding="utf-8")
    page = show(path)
    assert page.locator("h1").inner_text() == HOSTILE and page.title().startswith(HOSTILE)
    assert page.locator("img[src=x]").count() == 0


def test_the_policy_blocks_foreign_content(browser, written, tmp_path):
    """The policy would hold even if a text had become markup."""
    bad = (
        "<script>document.title = 'run'</script><img src=http://127.0.0.1:9/x>"
        "<b onclick=\"document.title = 'run'\">b</b>"
    )
    path = tmp_path / "changed.html"
    path.write_text(written[0].read_text(encoding="utf-8").replace("<main>", f"<main>{bad}"), encoding="utf-8")
    context = browser.new_context(reduced_motion="reduce")
    page, refused = context.new_page(), []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(path.as_uri())
    page.wait_for_selector("#player[data-ready]")
    page.locator("main > b").click()
    title, outcome = page.title(), " ".join(refused)
    context.close()
    assert title.startswith("a run")
    assert all(rule in outcome for rule in ("img-src", "script-src")) and len(refused) >= 3


@pytest.mark.parametrize("width", [320, 360, 390, 768, 1200])
def test_no_page_is_wider_than_its_window(show, written, width):
    page = show(written[0], viewport={"width": width, "height": 740}, has_touch=width < 500)
    for summary in page.locator("summary").all():
        summary.click()
    assert_fits(page, width)


def test_touch_targets_are_large_enough(show, written):
    page = show(written[0], viewport={"width": 360, "height": 740}, has_touch=True)
    assert_touchable(page)


def test_everything_has_a_name(page):
    assert_named(page)


def test_everything_can_be_reached_and_seen_to_be_reached(page):
    expected = {"Video 0", "Video 1", "play", "scrub", "speed", "slot 1", "Keyboard shortcuts", "ARI", "All settings"}
    assert expected <= reached_by_tab(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("frame", ["0", "6"])
def test_contrast_of_every_text(show, written, scheme, frame):
    page = show(written[0], color_scheme=scheme)
    page.locator("#scrub").fill(frame)
    page.locator('button[data-slot="1"]').click()
    for summary in page.locator("summary").all():
        summary.click()
    page.wait_for_timeout(300)  # colours fade in
    found = contrasts(page)
    assert len(found) > 80
    assert not [pair for pair in found if pair[0] < CONTRAST]


def test_without_scripts_there_are_stills(show, written):
    page = show(written[0], ready="noscript img", java_script_enabled=False)
    images = page.locator("noscript img")
    assert images.count() == 2 and all(box.bounding_box()["height"] > 100 for box in images.all())
    assert not page.locator("#player").is_visible()
    assert page.locator("#scores tbody tr").count() == 3 and page.locator("polyline").count() == 3
