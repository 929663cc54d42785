"""Checks for every page of `report --html`: phones, keyboard use and screen readers."""

import itertools
from typing import Any

CONTRAST = 4.5
"""Minimum contrast of text under WCAG 2 AA."""


def assert_fits(page: Any, width: int) -> None:
    """Assert that nothing is wider than the window, except for regions that scroll."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        """() => [...document.querySelectorAll('main *')].filter(e => !e.closest('.wide, pre, .unseen')
            && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    )
    assert not outside


def assert_touchable(page: Any) -> None:
    """Assert that every control is large enough for a finger."""
    for control in page.locator("button, select, summary, input").all():
        box = control.bounding_box()
        assert box["height"] >= 24 and box["width"] >= 24, control.evaluate("e => e.outerHTML")


def assert_named(page: Any) -> None:
    """Assert that controls, pictures, regions and tables have names, ids are unique, and headings skip no level."""
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, canvas, svg, [role], section')]
            .filter(e => !(e.getAttribute('aria-label') || e.textContent.trim()
                || document.getElementById(e.getAttribute('aria-labelledby'))?.textContent || e.labels?.length
                || e.getAttribute('role') === 'status'))
            .map(e => e.outerHTML.slice(0, 80))"""
    )
    assert not nameless
    ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    levels = page.evaluate("() => [...document.querySelectorAll('h1, h2, h3')].map(e => Number(e.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert page.locator("html").get_attribute("lang") == "en" and page.title()
    assert page.locator("th:not([scope])").count() == 0


def reached_by_tab(page: Any) -> set[str]:
    """Return the names of all elements that Tab reaches, after checking that each has a visible outline."""
    reached: set[str] = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """() => { const e = document.activeElement, s = getComputedStyle(e);
                const name = e.id || e.ariaLabel || e.textContent.trim();
                return [e === document.body ? '' : name, s.outlineStyle + ' ' + s.outlineWidth]; }"""
        )
        if not name:
            break
        assert outline == "solid 3px", name
        reached.add(name)
    return reached


def contrasts(page: Any) -> list[tuple[float, str]]:
    """Return the contrast of every visible text with its background."""
    return page.evaluate(
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


def go_to(page: Any, frame: int) -> None:
    """Move the player of a decomposition's page to a frame."""
    page.locator("#frame").fill(str(frame))
    page.locator("#frame").press("Enter")


def choose(page: Any, **values: str) -> None:
    """Choose values in the selects with these ids, with `_` for `-`."""
    for name, value in values.items():
        page.locator(f"#{name.replace('_', '-')}").select_option(value)
