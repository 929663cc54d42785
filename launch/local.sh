#!/usr/bin/env bash
# Train on this machine: in one process on all devices, or with one process per device (bash 5.1 or newer).
# Usage: launch/local.sh [--processes N] --config NAME --workdir FOLDER [...]
set -euo pipefail
python=${PYTHON:-python3}
if [[ ${1:-} != --processes ]]; then
  exec "$python" -m stii_jax.main "$@"
fi
processes=$2
shift 2
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
declare -A running
for ((i = 0; i < processes; i++)); do
  # Each process takes one GPU.
  JAX_LOCAL_DEVICE_IDS=$i "$python" -m stii_jax.main "$@" \
    --coordinator_address "127.0.0.1:$port" --num_processes "$processes" --process_id "$i" &
  running[$!]=$i
done
trap 'kill -TERM "${!running[@]}" 2>/dev/null || true' TERM INT

code=0
while ((${#running[@]})); do
  ended='' status=0
  wait -n -p ended "${!running[@]}" || status=$?
  [[ -n $ended ]] || continue # interrupted by a signal, which the trap has passed on
  if ((status)); then echo "process ${running[$ended]} of $processes ended with exit code $status" >&2; fi
  unset "running[$ended]"
  if ((status && !code)); then
    code=$status
    # The others notice by themselves that one is missing; give them two minutes.
    (sleep "${GRACE:-120}" && kill -KILL "${!running[@]}") </dev/null >/dev/null 2>&1 &
    disown
  fi
done
exit "$code"
