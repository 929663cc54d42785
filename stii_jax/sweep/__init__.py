"""Sweeps: variants of a config, each with several seeds, trained and evaluated one after the other or side by side.

    python -m stii_jax.sweep --sweep ablations --output runs/ablations --seeds 5
    python -m stii_jax.sweep --sweep my/sweep.py --output runs/mine --only full no_prior --workers 2
    python -m stii_jax.sweep --sweep ablations --output runs/quick --seeds 1 --config.eval.num_videos=20
    python -m stii_jax.sweep --sweep ablations --output runs/ablations --list

A sweep is a Python file with `get_sweep() -> Sweep`, by name in `configs/sweeps/` or by path. Loading it **runs it**,
as with configs. All variants of seed 0 come first, then those of seed 1: a part of a sweep is already a comparison.
Each run leaves

    OUTPUT/VARIANT-seedS.json      its entry, as in results/: python -m stii_jax.report --runs OUTPUT --output REPORT
    OUTPUT/VARIANT/seedS/          its workdir, with `log.txt`

The same command goes on with a sweep that was stopped, and tries again what failed.
"""

from stii_jax.sweep.command import main
from stii_jax.sweep.plan import Job, Sweep, SweepError, Variant

__all__ = ["Job", "Sweep", "SweepError", "Variant", "main"]
