"""Pieces of a page's HTML: data for its script, and the digests by which its policy knows what is its own."""

import base64
import hashlib
import json
from html import escape
from typing import Any


def script_json(content: Any) -> str:
    """JSON that ends no script, whatever is in it."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def policy(style: str, script: str) -> str:
    """A content security policy that allows this inline style, this inline script, and pictures within the page."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def facts_list(facts: dict[str, Any]) -> str:
    """Names and values as the content of a `dl`; values that are None are left out."""
    known = ((escape(name), escape(str(value))) for name, value in facts.items() if value is not None)
    return "\n".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in known)


def _digest(text: str) -> str:
    """What a content security policy calls an inline script or style by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
