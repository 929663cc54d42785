"""The time and memory of a training step.

    python -m stii_jax.benchmark --config balls:color --config.batch_size=4
    python -m stii_jax.benchmark --config balls:color --config.data.num_frames=40 --steps 0
    python -m stii_jax.benchmark --sweep --config balls:color balls:color,iodine --size small --output cost.json

The first command times the actual training step on random frames and, separately, the data pipeline. `--steps 0` only
compiles the step and reports its memory. One cell is one refinement (t, r) of one video. The decode that ends every
frame is included in the time but is not counted as a cell. `--kernels 5` traces two more steps and lists the five most
expensive kernels.

A sweep varies one setting at a time around a base and measures each point in its own process. It writes OUTPUT.json
after each point; OUTPUT.md has a table and OUTPUT.png the curves. The same command resumes a stopped sweep.
"""

from typing import TYPE_CHECKING

from stii_jax.benchmark.command import main
from stii_jax.lazy import exports

if TYPE_CHECKING:
    from stii_jax.benchmark.step import analytic_flops, benchmark
else:
    __getattr__ = exports(__name__, {"analytic_flops": "step", "benchmark": "step"})

__all__ = ["analytic_flops", "benchmark", "main"]
