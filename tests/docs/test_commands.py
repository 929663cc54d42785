"""Every command and every Python program in the documentation is executed at toy size.

Commands that cannot be executed here are in `NOT_HERE`, each with a reason.
"""

import importlib.util
import sys

import pytest
from pages import PAGES, ROOT, Command, commands, name_of, programs
from workshop import Workshop, mentioned

from stii_jax.data import DATASETS, DataError
from stii_jax.evaluation.metrics import METRICS

pytestmark = [pytest.mark.docs, pytest.mark.usefixtures("quick_compiles")]

COMMANDS: dict[Command, str] = {}
"""Each command once, with the first page that contains it."""
for page in PAGES:
    for found in commands(page):
        COMMANDS.setdefault(found, name_of(page))
WITH_ARGUMENTS = [command for command in COMMANDS if command.arguments]
NOT_HERE = {
    "python -m stii_jax.main --coordinator_address HOST0:55527 --num_processes N --process_id I --config balls:color "
    "--workdir /shared/balls": "is one of several processes: tests/distributed starts them",
}
REFUSED = {
    "python -m stii_jax.data.build --dataset bouncing_balls --variant mini --options '{\"nonsense\": 1}'": "Known: "
}
"""Commands that end with an error, quoted for its message."""
SMALLER = {"10**6": "10**3", "500_000": "500", '"num_train": 64})': '"num_train": 2})'}
"""Replacements that shrink a program of the documentation."""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory, quick_compiles):
    with pytest.MonkeyPatch.context() as patch:
        workshop = Workshop(tmp_path_factory.mktemp("workshop"), COMMANDS, patch)
        (config,) = [text for page in PAGES for text in programs(page) if "def get_config" in text]
        (workshop.folder / "my" / "config.py").write_text(config)
        yield workshop


def readable(command: Command) -> str:
    return f"{COMMANDS[command]}: {command.text.removeprefix('python -m stii_jax.')}"[:150]


@pytest.mark.parametrize("command", WITH_ARGUMENTS, ids=readable)
def test_command(command, workshop):
    if command.text in NOT_HERE:
        pytest.skip(NOT_HERE[command.text])
    if command.text in REFUSED:
        with pytest.raises(AssertionError, match=REFUSED[command.text]):
            workshop.run(command)
        return
    workshop.run(command)


@pytest.mark.parametrize("command", [command for command in COMMANDS if not command.arguments], ids=readable)
def test_mentioned_command(command):
    mentioned(command)


def test_exceptions_are_still_there():
    texts = {command.text for command in COMMANDS}
    assert texts >= NOT_HERE.keys() and texts >= REFUSED.keys()
    assert all(any(old in text for page in PAGES for text in programs(page)) for old in SMALLER)


def test_enough_was_found():
    """A check of the search: a page has commands in blocks, in tables and in lines of text."""
    by_page = {name: [c.text for c in COMMANDS if COMMANDS[c] == name] for name in COMMANDS.values()}
    for name in ("README.md", "docs/tutorial.md", "docs/performance.md", "results/PLAN.md"):
        assert len(by_page[name]) >= 3, name
    assert len(COMMANDS) > 50


PROGRAMS = [
    pytest.param(text, id=f"{name_of(page)}, {number}")
    for page in PAGES
    for number, text in enumerate(programs(page), 1)
]


@pytest.mark.parametrize("text", PROGRAMS)
def test_program(text, tmp_path, workshop, monkeypatch):
    """Each program runs as its own file; its additions to tables are undone."""
    for old, new in SMALLER.items():
        text = text.replace(old, new)
    path = tmp_path / f"program_{abs(hash(text))}.py"
    path.write_text(text)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)
    tables = [(table, dict(table)) for table in (DATASETS, METRICS)]
    try:
        spec.loader.exec_module(module)
    finally:
        for table, before in tables:
            table.clear()
            table.update(before)


def test_an_error_is_seen(workshop):
    """A check of the executor: an error reported by a command raises one here."""
    with pytest.raises(AssertionError, match="no setting config"):
        workshop.run(
            Command("stii_jax.main", ("--config", "quickstart", "--workdir", "x", "--config.model.num_slot=2"))
        )
    with pytest.raises((AssertionError, DataError), match="unknown dataset"):
        workshop.run(Command("stii_jax.data.build", ("--dataset", "none", "--variant", "mini")))
