#!/usr/bin/env bash
# Trains on all devices of this machine.
# Usage: launch/local.sh --config NAME --workdir FOLDER [...]
set -euo pipefail
exec "${PYTHON:-python3}" -m stii_jax.main "$@"
