"""`python -m stii_jax.benchmark`: see the package."""

import sys
from collections.abc import Sequence

from stii_jax.benchmark.command import main


def _use_cores(batch_sizes: Sequence[int]) -> None:
    from stii_jax.devices.parallel import use_all_cores

    use_all_cores(batch_sizes)


if __name__ == "__main__":
    main(sys.argv[1:], _use_cores)
