"""`python -m stii_jax.report`: see the package."""

import sys

from ml_collections import ConfigDict

from stii_jax.devices.machine import enable_compilation_cache
from stii_jax.report.command import main


def _use_cores(config: ConfigDict) -> None:
    from stii_jax.report.html import use_cores

    use_cores(config)


if __name__ == "__main__":
    enable_compilation_cache()
    sys.exit(main(before_jax=_use_cores))
