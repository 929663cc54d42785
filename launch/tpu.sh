#!/usr/bin/env bash
# Train on a TPU VM, or on every host of a TPU pod slice. Each must have this project installed in ~/stii_jax/.venv.
# Usage: TPU=NAME ZONE=ZONE launch/tpu.sh --config NAME --workdir SHARED_FOLDER [...]
set -euo pipefail
: "${TPU:?the name of the TPU VM}" "${ZONE:?its zone}"
printf -v arguments ' %q' "$@"
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone "$ZONE" --worker=all \
  --command "cd stii_jax && exec .venv/bin/python -m stii_jax.main --distributed$arguments"
