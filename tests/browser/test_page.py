"""The rest of the page in a browser: sorting, curves, hostile texts, phones, and who cannot see or use a mouse."""

import itertools

import pytest
from html_page import HOSTILE, a_page

pytestmark = pytest.mark.browser

CONTRAST = 4.5
"""WCAG 2 AA, of text."""


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
    page.get_by_role("button", name="what").focus()
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


def test_the_policy_stops_what_is_not_the_pages_own(browser, written, tmp_path):
    """Even if a text had become markup."""
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
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        """() => [...document.querySelectorAll('main *')].filter(e => !e.closest('.wide, pre, .unseen')
            && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    )
    assert not outside


def test_what_is_touched_is_large_enough(show, written):
    page = show(written[0], viewport={"width": 360, "height": 740}, has_touch=True)
    for control in page.locator("button, select, summary, input").all():
        box = control.bounding_box()
        assert box["height"] >= 24 and box["width"] >= 24, control.evaluate("e => e.outerHTML")


def test_everything_has_a_name(page):
    """Controls, pictures, regions and tables; ids are unique, and headings skip no level."""
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, canvas, svg, [role], section')]
            .filter(e => !(e.getAttribute('aria-label') || e.textContent.trim()
                || document.getElementById(e.getAttribute('aria-labelledby'))?.textContent || e.labels?.length))
            .map(e => e.outerHTML.slice(0, 80))"""
    )
    assert not nameless
    ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    levels = page.evaluate("() => [...document.querySelectorAll('h1, h2, h3')].map(e => Number(e.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert page.locator("html").get_attribute("lang") == "en" and page.title()
    assert page.locator("th:not([scope])").count() == 0


def test_everything_can_be_reached_and_seen_to_be_reached(page):
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """() => { const e = document.activeElement, s = getComputedStyle(e);
                const name = e.id || e.ariaLabel || e.textContent.trim();
                return [e === document.body ? '' : name, s.outlineStyle + ' ' + s.outlineWidth]; }"""
        )
        if not name:
            break
        assert outline == "solid 3px", name
        reached.append(name)
    assert {"Video 0", "Video 1", "play", "scrub", "speed", "slot 1", "Keys", "ARI", "Every setting"} <= set(reached)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("frame", ["0", "6"])
def test_contrast_of_every_text(show, written, scheme, frame):
    page = show(written[0], color_scheme=scheme)
    page.locator("#scrub").fill(frame)
    page.locator('button[data-slot="1"]').click()
    for summary in page.locator("summary").all():
        summary.click()
    page.wait_for_timeout(300)  # colours fade
    found = page.evaluate(
        """() => {
            const parse = (text) => text.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
                .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
            const behind = (e) => {
                for (; e; e = e.parentElement) {
                    const color = parse(getComputedStyle(e).backgroundColor);
                    if (color.length === 3 || color[3] === 1) return color;
                }
            };
            const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
            while (walker.nextNode()) {
                const node = walker.currentNode, e = node.parentElement, style = getComputedStyle(e);
                if (!node.data.trim() || e.closest('script, noscript, .unseen') || !e.getClientRects().length) continue;
                const fore = light(parse(e.closest('svg') ? style.fill : style.color)), back = light(behind(e));
                const ratio = (Math.max(fore, back) + 0.05) / (Math.min(fore, back) + 0.05);
                found.push([ratio, node.data.trim().slice(0, 30)]);
            }
            return found;
        }"""
    )
    assert len(found) > 80
    assert not [pair for pair in found if pair[0] < CONTRAST]


def test_without_scripts_there_are_stills(show, written):
    page = show(written[0], ready="noscript img", java_script_enabled=False)
    images = page.locator("noscript img")
    assert images.count() == 2 and all(box.bounding_box()["height"] > 100 for box in images.all())
    assert not page.locator("#player").is_visible()
    assert page.locator("#scores tbody tr").count() == 3 and page.locator("polyline").count() == 3
