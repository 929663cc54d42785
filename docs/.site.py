"""What the site needs beyond mkdocs: files outside of docs/ that pages link to, and equations without a script.

In the repository pages link to one another by relative paths, which GitHub follows too: `../results/quick/README.md`.
The site has docs/ at its top, and beside it what is linked to under the same path as in the repository; the links in
its pages are rewritten to that.
"""

import posixpath
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(\]\()(?!\w+:|#)([^)\s#]+)")
_CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)


def on_config(config):
    """Gives the fence `math`, which GitHub knows as well, its format."""
    fence = {"name": "math", "class": "math", "format": _equation}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config


def on_files(files, config):
    """Adds what pages link to outside of docs/, and what these files, if they are pages, link to in their turn."""
    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    waiting += [path for path in _paths(config.nav) if not (ROOT / "docs" / path).exists()]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if not path.startswith("docs/"):
            files.append(_file(path, config))
        if path.endswith(".md"):
            links = {_target(path, link) for link in _links((ROOT / path).read_text())}
            waiting += sorted(links - seen)
            seen |= links
    return files


def on_page_markdown(markdown, page, config, files):
    """Rewrites links from the place of the page in the repository to that in the site."""
    place = Path(page.file.abs_src_path).relative_to(ROOT).as_posix()

    def rewritten(match):
        target = _in_site(_target(place, match[2]))
        return match[1] + posixpath.relpath(target, posixpath.dirname(page.file.src_uri))

    parts = _CODE.split(markdown)
    return "".join(part if _CODE.fullmatch(part) else _LINK.sub(rewritten, part) for part in parts)


def _links(markdown):
    return [match[2] for match in _LINK.finditer(_CODE.sub("", markdown))]


def _target(place, link):
    """Path in the repository of what a page links to; of a folder its page, or else its first file."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(place), link))
    if (ROOT / path).is_dir():
        files = sorted(file.name for file in (ROOT / path).iterdir() if file.is_file())
        return f"{path}/{'README.md' if 'README.md' in files else files[0]}"
    return path


def _in_site(path):
    return path.removeprefix("docs/") if path != "README.md" else "README/README.md"  # docs/index.md is the top


def _file(path, config):
    if not (ROOT / path).is_file():
        raise FileNotFoundError(f"a page links to {path}, which does not exist")
    return File.generated(config, _in_site(path), abs_src_path=str(ROOT / path))


def _paths(nav):
    """Every page that the navigation names."""
    if isinstance(nav, str):
        return [nav]
    return [path for item in (nav.values() if isinstance(nav, dict) else nav) for path in _paths(item)]


def _equation(source, *_, **__):
    lines = filter(None, map(str.strip, source.split("\n\n")))
    return "".join(convert(line, display="block") for line in lines)
