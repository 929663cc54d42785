"""Write the Markdown that a report needs."""

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. Runs may come from strangers, so bars, line ends and HTML in its cells are made harmless."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def without_html(text: str) -> str:
    """Return Markdown in which nothing is read as HTML."""
    return text.replace("<", "&lt;")


def _cell(text: str) -> str:
    return without_html(" ".join(text.splitlines())).replace("|", "\\|")
