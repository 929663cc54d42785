"""The command `python -m stii_jax.comparison`; see the package."""

import sys

from stii_jax.comparison.command import main

if __name__ == "__main__":
    main(sys.argv[1:])
