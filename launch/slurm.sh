#!/usr/bin/env bash
# Trains on a Slurm cluster, one task a GPU; every task runs the same command.
# Usage: sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 launch/slurm.sh --config NAME --workdir SHARED_FOLDER [...]
# Tasks are told of the end of their time, or of a preemption, two minutes ahead: they save, and the job is queued again.
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
