#!/usr/bin/env bash
# Trains on all devices of this machine, with a compilation cache beside the data so that a second start is quick.
# Usage: launch/local.sh --config NAME --workdir FOLDER [...]
set -euo pipefail
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/stii_jax/compiled}"
exec "${PYTHON:-python3}" -m stii_jax.main "$@"
