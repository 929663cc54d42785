"""Reports: the README's results table, a page comparing many runs, and a page for one run or one decomposition.

    python -m stii_jax.report                                    # print the table of all runs
    python -m stii_jax.report --readme results/README.md         # write it into that page
    python -m stii_jax.report --readme results/README.md --check # exit 1 if that would change the page
    python -m stii_jax.report --add runs/color4 --name color4    # add a finished run to results/
    python -m stii_jax.report --runs runs --output report        # report/results.md, CSV files, figures
    python -m stii_jax.report --html runs/color4 --output color4.html     # curves, scores, a player: one file, offline
    python -m stii_jax.report --html quickstart --output quickstart.html  # the same for a trained model
    python -m stii_jax.report --html found --output found.html            # a decomposition: check and correct tracks

Runs with the same name are seeds of one experiment. Tables show their mean, spread and worst value.
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
