"""Markdown, as far as a report needs it."""

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; bars in its cells are escaped, and what would end a line or begin HTML: runs may be a stranger's."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def without_html(text: str) -> str:
    """Markdown in which nothing is HTML."""
    return text.replace("<", "&lt;")


def _cell(text: str) -> str:
    return without_html(" ".join(text.splitlines())).replace("|", "\\|")
