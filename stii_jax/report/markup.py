"""The parts shared by all pages: the frame `page.html`, and a policy that blocks all outside content."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any


def fill_page(
    main: Path,
    parts: Mapping[str, str],
    *,
    title: str,
    tab: str,
    lead: str,
    styles: Sequence[Path],
    scripts: Sequence[Path],
    data: Any,
) -> str:
    """Return a page's HTML.

    Args:
        main: the template of the page's content.
        parts: HTML for the names in that template.
        title: the heading, as plain text like the next two.
        tab: the title that the browser shows.
        lead: the paragraph below the heading.
        styles: files of CSS.
        scripts: files of JavaScript.
        data: content for the scripts, as JSON.
    """
    style, script = ("\n".join(map(_read, paths)) for paths in (styles, scripts))
    frame = {
        "title": escape(title),
        "tab": escape(tab),
        "lead": escape(lead),
        "policy": _policy(style, script),
        "style": style,
        "script": script,
        "data": script_json(data),
        "main": Template(_read(main)).substitute(parts),
    }
    return Template(_read(Path(__file__).with_name("page.html"))).substitute(frame)


def script_json(content: Any) -> str:
    """Return JSON that cannot end the enclosing script element."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _policy(style: str, script: str) -> str:
    """A content security policy that allows this inline style, this inline script, and pictures within the page."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def facts_list(facts: dict[str, Any]) -> str:
    """Return names and values as the content of a `dl`, without values that are None."""
    known = ((escape(name), escape(str(value))) for name, value in facts.items() if value is not None)
    return "\n".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in known)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """The digest by which a content security policy identifies an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
