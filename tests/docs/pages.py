"""The documentation's pages, their code, and the commands and Python programs in that code."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "launch" / "README.md", *DOCS, *sorted((ROOT / "results").rglob("*.md"))]

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?:^\n|\A)((?:^ {4}.*\n|^\n)+)", re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_COMMAND = re.compile(r"(?:^|\s)(?:\S*/)?python3? -m (stii_jax[\w.]*)(.*)", re.DOTALL)


class Code(NamedTuple):
    """A code block, or an inline code span."""

    language: str
    """Language of a fence; "" if none is given."""
    text: str
    is_block: bool


class Command(NamedTuple):
    """The command `python -m MODULE ARGUMENTS`."""

    module: str
    arguments: tuple[str, ...]

    @property
    def text(self) -> str:
        return shlex.join(["python", "-m", self.module, *self.arguments])

    def value(self, flag: str) -> str | None:
        """Return the value of a flag, from `--flag value` or `--flag=value`."""
        for argument, following in zip(self.arguments, (*self.arguments[1:], None)):
            if argument == flag:
                return following
            if argument.startswith(f"{flag}="):
                return argument.partition("=")[2]
        return None


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def codes(page: Path) -> Iterator[Code]:
    """Return all code of a page: fences, then indented blocks, then spans."""
    text = page.read_text()
    for fence in _FENCE.finditer(text):
        yield Code(fence[1], textwrap.dedent(fence[2]), True)
    text = _FENCE.sub("", text)
    blocks = [match[1] for match in _INDENTED.finditer(text)]
    for block in blocks:
        yield Code("", textwrap.dedent(block).strip("\n") + "\n", True)
        text = text.replace(block, "\n")
    for span in _SPAN.finditer(text):
        yield Code("", " ".join(span[1].split()), False)


def commands(page: Path) -> list[Command]:
    """Return the package's commands in a page, in order; a line may join several by `&&`."""
    found = []
    for code in codes(page):
        if code.language not in ("", "bash", "sh"):
            continue
        lines = code.text.replace("\\\n", " ").splitlines()
        for part in (part for line in lines for part in line.split("&&")):
            if match := _COMMAND.search(part):
                found.append(Command(match[1], tuple(shlex.split(match[2], comments=True))))
    return found


def programs(page: Path) -> list[str]:
    """Return the Python programs of a page: Python fences, and indented blocks that begin with an import."""
    blocks = [code for code in codes(page) if code.is_block]
    return [
        code.text
        for code in blocks
        if code.language == "python" or (not code.language and code.text.startswith(("import ", "from ")))
    ]


def headings(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    found = re.findall(r"^#+ (.*)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in found}


def links(page: Path) -> list[str]:
    """Return the targets of a page's links, without URLs."""
    text = _SPAN.sub("", _FENCE.sub("", page.read_text()))
    return re.findall(r"\]\((?!\w+:)([^)\s]+)\)", text)
