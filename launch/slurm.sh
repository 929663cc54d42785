#!/usr/bin/env bash
# Train on a Slurm cluster, one task per GPU; every task runs the same command.
# Usage: sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 launch/slurm.sh --config NAME --workdir SHARED_FOLDER [...]
# Tasks get SIGTERM two minutes before a time limit or preemption: they save, and the job is requeued.
#SBATCH --job-name=stii_jax
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail
srun --kill-on-bad-exit=1 "${PYTHON:-python3}" -m stii_jax.main --distributed "$@"
code=$?
if ((code == 143)); then # 128 + SIGTERM
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
