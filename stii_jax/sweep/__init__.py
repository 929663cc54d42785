"""Sweeps: variants of a config, each with several seeds, trained and evaluated sequentially or in parallel.

    python -m stii_jax.sweep --sweep ablations --output runs/ablations --seeds 5
    python -m stii_jax.sweep --sweep my/sweep.py --output runs/mine --only full no_prior --workers 2
    python -m stii_jax.sweep --sweep ablations --output runs/quick --seeds 1 --config.eval.num_videos=20
    python -m stii_jax.sweep --sweep ablations --output runs/ablations --list

A sweep is a Python file with `get_sweep() -> Sweep`, given by its name in `configs/sweeps/` or by path. As with
configs, loading it **runs it**. All variants run with seed 0 first, then with seed 1, so that a partial sweep is
already a comparison. Each run writes

    OUTPUT/VARIANT-seedS.json      its entry, as in results/: python -m stii_jax.report --runs OUTPUT --output REPORT
    OUTPUT/VARIANT/seedS/          its workdir, with `log.txt`

The same command resumes a stopped sweep and retries failed runs.
"""

from stii_jax.sweep.command import main
from stii_jax.sweep.plan import Job, Sweep, SweepError, Variant

__all__ = ["Job", "Sweep", "SweepError", "Variant", "main"]
