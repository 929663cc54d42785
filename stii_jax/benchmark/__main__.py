"""`python -m stii_jax.benchmark`: see the package."""

import sys

from stii_jax.benchmark.command import main
from stii_jax.parallel import use_all_cores

if __name__ == "__main__":
    main(sys.argv[1:], use_all_cores)
