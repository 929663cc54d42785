"""The command line of the report; see the package."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from stii_jax.errors import UserError, check_platform
from stii_jax.report.collect import collect
from stii_jax.report.entries import read_runs, result_entry
from stii_jax.report.published import read_published
from stii_jax.report.readme import replace_between_markers, results_table
from stii_jax.storage.files import write_atomic, write_results

NUM_VIDEOS = 3
"""Default number of videos on an HTML page."""


def main(arguments: Sequence[str] | None = None, before_jax: Callable[[ConfigDict], None] = lambda _: None) -> int:
    """Run the command line and return the exit code. `before_jax` is called before JAX looks for devices."""
    parser = argparse.ArgumentParser(prog="python -m stii_jax.report", description="Tables and figures of results.")
    parser.add_argument("--results", help="folder of the results files and of published.json (results)")
    parser.add_argument("--readme", help="file whose text between the markers is replaced by the table")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if --readme is stale")
    parser.add_argument("--add", metavar="WORKDIR", help="first add this finished run to the results")
    parser.add_argument("--name", help="with --add: name of the experiment, which its seeds share")
    parser.add_argument("--model", default="", help="with --add: published model to compare with")
    parser.add_argument("--command", default="", help="with --add: command that reproduces the run")
    parser.add_argument("--runs", metavar="DIR", help="report on the workdirs and entries in this folder")
    parser.add_argument("--html", metavar="RUN", help="a page for this workdir, trained model or decomposition")
    parser.add_argument("--videos", type=int, metavar="N", help=f"with --html: videos to show ({NUM_VIDEOS})")
    parser.add_argument("--recording", metavar="VIDEO", help="with --html of a decomposition: its video, if it moved")
    parser.add_argument("--output", metavar="OUT", help="with --runs: folder of the report; with --html: the page")
    options = parser.parse_args(arguments)
    try:
        check_platform()
        if options.html is not None:
            _check_html(parser, options)
            return _html(options, before_jax)
        _check(parser, options)
        options.results = options.results or "results"
        return _report(options) if options.runs else _run(options)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Reject flags that cannot be combined."""
    for name in ("videos", "recording"):
        if getattr(options, name) is not None:
            parser.error(f"--{name} needs --html")
    if options.add and not re.fullmatch(r"[\w.-]+", options.name or ""):
        parser.error("--add needs a --name of letters, digits, '.', '_' and '-'")
    if options.check and not options.readme:
        parser.error("--check needs --readme")
    if bool(options.runs) != bool(options.output):
        parser.error("--runs DIR and --output OUT go together")
    if options.runs and (options.readme or options.add):
        parser.error("--runs only reports on that folder: leave out --readme and --add")


def _check_html(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Reject flags that would do nothing for an HTML page."""
    names = ("results", "readme", "check", "add", "name", "model", "command", "runs")
    if given := [f"--{name}" for name in names if getattr(options, name)]:
        parser.error(f"--html only writes the page of one run: leave out {', '.join(given)}")
    if not options.output:
        parser.error("--html needs --output, the .html file to write")
    unused, kind = ("videos", "a decomposition") if _is_decomposition(options.html) else ("recording", "a run")
    if getattr(options, unused) is not None:
        parser.error(f"--{unused} does nothing on the page of {kind}: leave it out")


def _is_decomposition(folder: str) -> bool:
    return (Path(folder) / "decomposition.json").is_file() and not (Path(folder) / "config.json").exists()


def _html(options: argparse.Namespace, before_jax: Callable[[ConfigDict], None]) -> int:
    # Imported here so that no other command waits for it. The page of a decomposition needs no model.
    if _is_decomposition(options.html):
        from stii_jax.report.tracks import write_tracks_page

        recording = None if options.recording is None else Path(options.recording)
        size = write_tracks_page(Path(options.html), Path(options.output), recording)
    else:
        from stii_jax.report.html import write_page

        count = NUM_VIDEOS if options.videos is None else options.videos
        size = write_page(options.html, Path(options.output), count, before_jax)
    print(f"{options.output}: {size / 1e6:.1f} MB")
    return 0


def _report(options: argparse.Namespace) -> int:
    from stii_jax.report.page import write_report  # matplotlib, which tables do without

    # An installed package does not include the paper's numbers.
    known = (Path(options.results) / "published.json").exists()
    published = read_published(options.results) if known else None
    print(write_report(collect(options.runs), published, options.output))
    return 0


def _run(options: argparse.Namespace) -> int:
    results = Path(options.results)
    if options.add:
        entry = result_entry(options.add, options.name, model=options.model, command=options.command)
        results.mkdir(parents=True, exist_ok=True)
        write_results(results / f"{entry['name']}-seed{entry['seed']}.json", entry)
    readme = Path(options.readme) if options.readme else None
    folder = readme.parent if readme else Path()
    runs = read_runs(results)
    table = results_table(runs, read_published(results), folder)
    if readme is None:
        print(table)
        return 0
    old = readme.read_text()
    new = replace_between_markers(old, table, readme)
    if options.check and new != old:
        print(f"{readme} is stale: run python -m stii_jax.report --readme {readme}", file=sys.stderr)
        return 1
    if new != old:
        write_atomic(readme, new.encode())
    return 0
