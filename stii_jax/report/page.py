"""The report on a folder of runs: `results.md`, one CSV file per table, figures and pictures."""

import re
from collections.abc import Sequence
from pathlib import Path

from stii_jax.report.collect import Collection, picture_of
from stii_jax.report.figures import FIGURES
from stii_jax.report.markdown import without_html
from stii_jax.report.published import Published
from stii_jax.report.seeds import Experiment, experiments
from stii_jax.report.settings import settings_table, size_note
from stii_jax.report.tables import (
    Table,
    base_name,
    difference_table,
    evaluation_table,
    length_table,
    main_table,
    prediction_table,
    probe_table,
)
from stii_jax.storage.files import PathLike, write_atomic


def write_report(collection: Collection, published: Published | None, output: PathLike) -> Path:
    """Write all files into the folder `output` and return the page. The same runs give the same bytes.

    Without `published`, the paper's numbers are left out.
    """
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    found = experiments(collection.runs)
    made = [
        settings_table(found),
        main_table(found, published),
        difference_table(found),
        length_table(found, published),
        prediction_table(found),
        evaluation_table(found, published),
        probe_table(found),
    ]
    tables = [table for table in made if table is not None]
    for table in tables:
        write_atomic(folder / f"{table.name}.csv", table.csv.encode())
    parts = [_introduction(found, collection.unfinished, published), *map(_section, tables)]
    parts += [*_figures(found, folder), *_pictures(found, folder)]
    page = folder / "results.md"
    write_atomic(page, (without_html("\n\n".join(part for part in parts if part)) + "\n").encode())
    return page


def _introduction(found: Sequence[Experiment], unfinished: Sequence[str], published: Published | None) -> str:
    parts = [
        "# Results",
        size_note(found, published),
        "Numbers are means over seeds ± standard errors (standard deviation / √seeds; none for one seed). The CSV "
        "files give all digits, the median, the worst seed and the value of each seed.",
    ]
    if published:
        parts.append(
            f"The column `published` gives the paper's numbers for the same data, with the model's name "
            f"({published['source']}). If there are none for this data, it says `not published here`."
        )
    if unfinished:
        parts.append(f"Without final scores (`results.json`), so not included: {', '.join(unfinished)}.")
    return "\n\n".join(part for part in parts if part)


def _section(table: Table) -> str:
    note = f"{table.note} [{table.name}.csv]({table.name}.csv)".strip()
    return f"## {table.title}\n\n{note}\n\n{table.markdown}"


def _figures(found: Sequence[Experiment], folder: Path) -> list[str]:
    """Draw every kind of figure once per dataset and sweep. Options of the dataset may differ within a figure."""
    groups: dict[tuple[str, str], list[Experiment]] = {}
    for experiment in found:
        groups.setdefault((base_name(experiment.dataset), experiment.sweep), []).append(experiment)
    bases = [base for base, _ in groups]
    parts = []
    for name, title, note, draw in FIGURES:
        for (base, sweep), group in groups.items():
            shown = base if bases.count(base) == 1 else f"{base}, {sweep or 'single runs'}"
            image = draw(group)
            if image is not None:
                file = f"{name}_{slug(shown)}.png"
                write_atomic(folder / file, image)
                parts.append(f"## {title}: {shown}\n\n{note}\n\n![{title} of {shown}]({file})")
    return parts


def _pictures(found: Sequence[Experiment], folder: Path) -> list[str]:
    """Copy one strip per experiment, from its first seed."""
    parts = []
    for experiment in found:
        if source := picture_of(experiment.runs[0]):
            file = f"strip_{slug(experiment.label)}.png"
            write_atomic(folder / file, source.read_bytes())
            parts.append(f"{experiment.label}, seed {experiment.runs[0]['seed']}:\n\n![{experiment.label}]({file})")
    return ["## Pictures\n\nThe first test video.", *parts] if parts else []


def slug(name: str) -> str:
    """Return `name` in a form that fits into a file name."""
    return re.sub(r"[^\w.-]+", "-", name)
