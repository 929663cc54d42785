"""Results: the README's table from the files of `results/`, and a page with tables and figures for a folder of runs.

    python -m stii_jax.report                                    # print the README's table
    python -m stii_jax.report --readme README.md                 # put it into the README
    python -m stii_jax.report --readme README.md --check         # exit 1 if that would change the README
    python -m stii_jax.report --add runs/color4 --name color4    # take up a finished run
    python -m stii_jax.report --runs runs --output report        # report/results.md, CSV files, figures

Runs of one name are seeds of one experiment: tables have their mean, spread and worst.
"""

from stii_jax.report.command import main
from stii_jax.report.entries import RUN_KEYS, SCORE_KEYS, read_runs, result_entry
from stii_jax.report.files import ReportError
from stii_jax.report.readme import BEGIN, END, replace_between_markers, results_table

__all__ = [
    "BEGIN",
    "END",
    "RUN_KEYS",
    "SCORE_KEYS",
    "ReportError",
    "main",
    "read_runs",
    "replace_between_markers",
    "result_entry",
    "results_table",
]
