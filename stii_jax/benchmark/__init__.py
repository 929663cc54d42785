"""What a training step costs, in time and memory.

    python -m stii_jax.benchmark --config balls:color --config.batch_size=4
    python -m stii_jax.benchmark --config balls:color --config.data.num_frames=40 --steps 0
    python -m stii_jax.benchmark --sweep --config balls:color balls:color,iodine --size small --output cost.json

The first times the very step of training on random frames, and apart from it the data pipeline; `--steps 0` only
compiles it and tells its memory. One cell is one refinement (t, r) of one video; the decode that ends every frame is
in the time but is not counted as a cell.

A sweep measures how the cost grows with one setting at a time around a base, each point in a process of its own, and
writes OUTPUT.json after each; OUTPUT.md has a table and OUTPUT.png the curves. The same command goes on with it.
"""

from typing import TYPE_CHECKING

from stii_jax.benchmark.command import main
from stii_jax.lazy import exports

if TYPE_CHECKING:
    from stii_jax.benchmark.step import analytic_flops, benchmark
else:
    __getattr__ = exports(__name__, {"analytic_flops": "step", "benchmark": "step"})

__all__ = ["analytic_flops", "benchmark", "main"]
