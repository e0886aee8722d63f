#!/usr/bin/env bash
#SBATCH --job-name=autoguide_jax
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@300
# One process per node under Slurm; saved and queued again when its time is up or it is preempted.
#
#   sbatch --nodes=4 --gpus-per-node=8 --time=24:00:00 launch/slurm.sh train --config=… --workdir=…
#
# To be submitted from the repository, with its .venv installed (make, or launch/gpu.sh setup) on a
# file system that all nodes see; the same for --workdir. VENV names another environment.
# --signal sends SIGTERM 300 s before the end of --time; a preemption sends it itself. until_done.sh
# hands it to srun, srun to every process: they save and end with 143, and the job queues again.
# A crash, or what passes by itself (75: a bucket's outage, hosts that did not come in time), ends
# all processes, and until_done.sh starts them again, at most RESTARTS (20) times.
set -u
cd "${SLURM_SUBMIT_DIR:?is set by sbatch: submit this script with sbatch}" || exit 2
if [ ! -e launch/until_done.sh ]; then
  echo "submit from the repository: there is no launch/until_done.sh in $PWD" >&2
  exit 2
fi
if [ $# = 0 ]; then
  echo 'a command is needed: sbatch launch/slurm.sh train --config=… --workdir=…' >&2
  exit 2
fi
export PATH="$PWD/${VENV:-.venv}/bin:$PATH" PYTHONUNBUFFERED=1
# JAX gives a Slurm task one GPU unless it is told which: all of the node's.
if [ -z "${JAX_LOCAL_DEVICE_IDS:-}" ] && [ "${SLURM_GPUS_ON_NODE:-0}" -gt 0 ]; then
  JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((SLURM_GPUS_ON_NODE - 1)))
  export JAX_LOCAL_DEVICE_IDS
fi

asked=''
bash launch/until_done.sh -n "${RESTARTS:-20}" \
  srun --kill-on-bad-exit=1 python -m autoguide_jax "$@" --hosts=auto &
child=$!
trap 'asked=yes && kill -TERM "$child" 2>/dev/null' TERM
while kill -0 "$child" 2>/dev/null; do
  sleep 1 &
  wait $!
done
wait "$child"
code=$?
# Queue again only a job that still runs: not one that was cancelled or that Slurm queues itself.
if [ "$asked" ] && [ "$code" != 0 ] && [ "$code" != 2 ] &&
  [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
  echo "exit code $code after SIGTERM: the job queues again and resumes" >&2
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
