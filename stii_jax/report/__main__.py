"""`python -m stii_jax.report`: see the package."""

import sys

from stii_jax.report.command import main

if __name__ == "__main__":
    sys.exit(main())
