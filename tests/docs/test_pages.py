"""Everything that pages name exists: links, files, flags, settings with defaults, messages. The site has every page."""

import ast
import functools
import importlib.util
import re

import pytest
from absl import flags
from pages import DOCS, PAGES, ROOT, Command, codes, commands, headings, links, name_of

import stii_jax
from stii_jax import main  # noqa: F401  # defines its flags
from stii_jax.config import config_names, default_config, flatten
from stii_jax.data import DATASETS

OURS = [page for page in PAGES if page.parent.name != "results" and "results" not in page.parts]
NEW = {"stii_jax/data/squares.py", "stii_jax/models/palette.py", "data.options.side"}
"""Files that the reader is asked to write."""
SECTIONS = {key.rpartition(".")[0] for key in flatten(default_config())} | {"data.options", "eval.options"}
OPTIONS = {
    field
    for builder in DATASETS.values()
    for config in builder.BUILDER_CONFIGS
    for field in config.__dataclass_fields__
}
OF_LAUNCH = {"local.sh": {"--processes"}}
"""Flags of a launch script that `stii_jax.main` does not have."""
PLACEHOLDERS = re.compile(r"[A-Z]{2,}|^json$|^py$|^x\.y$|^key$")


def leaves():
    return flatten(default_config())


def test_every_page_is_in_the_site():
    nav = re.findall(
        r"([\w/.-]+\.md)$", (ROOT / ".mkdocs.yml").read_text().partition("\nnav:")[2].partition("\nhooks:")[0], re.M
    )
    assert {page.name for page in DOCS} <= set(nav)
    assert not [path for path in nav if not any((ROOT / top / path).is_file() for top in ("docs", "."))]
    assert len(nav) == len(set(nav))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in headings(target), f"{name_of(page)}: {link}"


@pytest.mark.parametrize("page", OURS, ids=name_of)
def test_named_files_exist(page):
    tops = r"(?:stii_jax|configs|tests|docs|results|launch|models|data)/"
    for code in codes(page):
        if code.is_block:
            continue
        for path in re.findall(rf"^{tops}[\w./-]*\w$|^{tops}$", code.text):
            exists = any((ROOT / top / path).exists() for top in ("", "stii_jax", "docs"))
            assert exists or path in NEW or PLACEHOLDERS.search(path), f"{name_of(page)}: {path}"


@functools.cache
def flags_of(module: str) -> set[str]:
    """Return the flags that a command's source defines."""
    if module == "stii_jax.main":
        defined = flags.FLAGS.flags_by_module_dict()["stii_jax.command_line"]
        negated = (f"--no{flag.name}" for flag in defined if flag.boolean)
        return {"--help", "--version", *(f"--{flag.name}" for flag in defined), *negated}
    top = ROOT / module.replace(".", "/")
    sources = sorted(top.glob("*.py")) if top.is_dir() else [top.with_suffix(".py")]
    return {
        "--help",
        *(flag for path in sources for flag in re.findall(r'add_argument\(\s*"(--\w+)"', path.read_text())),
    }


MODULES = ("main", "sweep", "report", "benchmark", "comparison", "data.build", "data.pipeline.simulate")


def own_flags(text):
    return {flag for flag in re.findall(r"(?<!\S)(--\w[\w.-]*)", text) if not flag.startswith("--config.")}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_flags_exist(page):
    for command in commands(page):
        unknown = own_flags(" ".join(command.arguments)) - flags_of(command.module)
        assert not unknown, f"{name_of(page)}: {command.text}"
    of_script = OF_LAUNCH | {"quarter_hour.py": flags_of("launch.quarter_hour")}
    every = set().union(*(flags_of(f"stii_jax.{module}") for module in MODULES), *of_script.values())
    for code in codes(page):
        if code.text.startswith("--"):
            assert not own_flags(code.text) - every, f"{name_of(page)}: {code.text}"
        elif "launch/" in code.text and not code.is_block:
            script, *arguments = code.text.rpartition("launch/")[2].split(" ", 1)
            allowed = of_script.get(script, set()) | (set() if script.endswith(".py") else flags_of("stii_jax.main"))
            assert not own_flags(" ".join(arguments)) - allowed, f"{name_of(page)}: {code.text}"


def known(key: str) -> bool:
    """True for a setting or a section."""
    section, _, name = key.rpartition(".")
    known_option = section in ("data.options", "eval.options") and name in OPTIONS
    return key in leaves() or key in SECTIONS or known_option or bool(PLACEHOLDERS.search(name))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_exist(page):
    """Settings on command lines and in the text."""
    exceptions = NEW | {"model.num_slot", "data.option.folder"}  # which are quoted as errors
    given = set(re.findall(r"--config\.([\w.]*\w)", page.read_text()))
    sections = "|".join(name for name in SECTIONS if name and "." not in name)
    for code in codes(page):
        if not code.is_block:
            given |= {
                match[1] for match in re.finditer(rf"^(?:config\.)?((?:{sections})\.[\w.]*\w)(?:=.*)?$", code.text)
            }
    given = {key for key in given if not key.endswith((".py", ".md", ".json"))}
    assert not [key for key in given - exceptions if not known(key)], name_of(page)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_configs_exist(page):
    for code in (code for code in codes(page) if re.match(r"--config |\S*python|\S*launch/", code.text)):
        for name in re.findall(r"--config ([\w/.]+)", code.text):
            assert name.split(":")[0] in config_names() or name.endswith((".py", ".json")), f"{name_of(page)}: {name}"


def test_every_setting_is_in_the_table():
    rows = re.findall(r"^\| `([\w.]+)` \| (.+?) \| .+ \|$", (ROOT / "docs" / "configs.md").read_text(), re.MULTILINE)
    table = {key: value for key, value in rows if "." in key or key in leaves()}
    assert len(table) == len([key for key, _ in rows if key in table]), "a setting has two rows"
    options = {key for key in table if table[key] == "-"}
    assert options == {"data.options", "eval.options"}
    documented = {key: ast.literal_eval(value.strip("`")) for key, value in table.items() if key not in options}
    assert documented == leaves()
    assert all(type(documented[key]) is type(value) for key, value in leaves().items())


@functools.cache
def messages() -> re.Pattern:
    """Return every text in the source that is long enough to be distinctive; its filled-in parts match anything."""
    found = []
    for path in (ROOT / "stii_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
            if all(text is None or isinstance(text, str) for text in texts) and sum(map(len, filter(None, texts))) > 12:
                found.append("".join(".*" if text is None else re.escape(text) for text in texts))
    return re.compile("|".join(sorted(set(found))), re.DOTALL)


def quoted() -> list[str]:
    """Return the messages quoted in docs/troubleshooting.md, without those of other libraries."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    blocks = [
        line
        for code in codes(ROOT / "docs" / "troubleshooting.md")
        if code.language == "text"
        for line in code.text.splitlines()
    ]
    return [line for line in rows + blocks if not line.startswith("An NVIDIA GPU may be present")]


def test_quoted_messages_are_those_of_the_program():
    """If an error is passed on with a remedy, one text follows another, so each part is checked."""
    known_messages = messages()
    assert len(quoted()) > 40
    parts = [part for line in quoted() for part in re.sub(r"^(error|warning|note): ", "", line).split("; no other")]
    assert not [
        part for part in parts if not known_messages.match(part) and not known_messages.match(f"no other{part}")
    ]


def test_a_wrong_message_is_noticed():
    assert not messages().match("runs/mine holds a run with other things: give those")


def test_a_command_is_understood():
    command = Command("stii_jax.main", ("--mode", "predict", "--workdir=runs/x", "--predict"))
    assert (command.value("--mode"), command.value("--workdir"), command.value("--predict")) == (
        "predict",
        "runs/x",
        None,
    )
    assert command.value("--model") is None


def resolve(name: str):
    """Return the module, class or function of a dotted name below `stii_jax`."""
    path, found = "stii_jax", stii_jax
    for part in name.split("."):
        path = f"{path}.{part}"
        is_module = hasattr(found, "__path__") and importlib.util.find_spec(path)
        found = importlib.import_module(path) if is_module else getattr(found, part)
    return found


def test_names_in_diagrams_exist():
    page = ROOT / "docs" / "architecture.md"
    diagrams = [code.text for code in codes(page) if code.language == "mermaid"]
    assert len(diagrams) == 2
    for name in re.findall(r'\["([\w.]+)', "\n".join(diagrams)):
        resolve(name)


METHOD = ROOT / "docs" / "method.md"


def linked_functions(text: str) -> list[tuple[str, str]]:
    """Return module and name of every function that a text links to, as [`name`](../stii_jax/module.py)."""
    links = re.findall(r"\[`([\w.]+)`\]\(\.\./stii_jax/([\w/]+)\.py\)", text)
    return [(module.replace("/", "."), name) for name, module in links]


def test_functions_of_the_method_exist():
    found = linked_functions(METHOD.read_text())
    assert len(found) > 40
    assert all(callable(resolve(f"{module}.{name}")) for module, name in found)


def test_functions_name_their_equation_step_and_section():
    text = METHOD.read_text()
    rows = re.findall(r"^\| ((?:equation|step|prediction).*?) \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    for places, paper, functions in rows:
        for module, name in linked_functions(functions):
            doc = " ".join((resolve(f"{module}.{name}").__doc__ or "").lower().split())
            for place in re.findall(r"(?:equation|step)s? [\d to]*\d", places):
                assert place in doc, f"the docstring of {module}.{name} does not name {place}"
            cited = f"{doc} {(resolve(module).__doc__ or '').lower()}"
            section = paper.lower().removeprefix("section ")
            assert paper == "-" or section in cited, f"{module}.{name} does not cite {paper}"
    numbers = [int(number) for number in re.findall(r"\\qquad \((\d+)\)$", text, re.MULTILINE)]
    assert numbers == list(range(1, text.count("```math") + 1))
    assert listed("equation", rows) == set(numbers)
    assert listed("step", rows) == set(range(1, 10))


def listed(kind: str, rows: list[tuple[str, str, str]]) -> set[int]:
    """Return the numbers of the equations or steps in the first column of a table."""
    found = re.findall(rf"{kind}s? (\d+)(?: to (\d+))?", " and ".join(places for places, *_ in rows))
    return {number for first, last in found for number in range(int(first), int(last or first) + 1)}
