"""`python -m stii_jax.sweep`: see the package."""

import sys

from stii_jax.sweep.command import main

if __name__ == "__main__":
    sys.exit(main())
