#!/usr/bin/env bash
# Run a command again until it is done: for machines that are preempted or crash.
#
#   launch/until_done.sh [-n MAX_RESTARTS] python -m autoguide_jax train --config=… --workdir=…
#
# Done means exit code 0. What the user must mend (2) and Ctrl-C (130) end it at once; anything
# else (killed, preempted, out of memory) starts the same command again, which resumes.
set -u
max=100
if [ "${1:-}" = -n ]; then
  max=$2
  shift 2
fi
if [ $# -eq 0 ]; then
  echo 'usage: until_done.sh [-n MAX_RESTARTS] COMMAND…' >&2
  exit 2
fi
for ((restart = 0; ; restart++)); do
  "$@"
  code=$?
  case $code in 0 | 2 | 130) exit $code ;; esac
  if [ "$restart" -ge "$max" ]; then
    echo "gave up after $max restarts, exit code $code" >&2
    exit "$code"
  fi
  echo "exit code $code: restart $((restart + 1)) of at most $max" >&2
  sleep "${UNTIL_DONE_WAIT:-5}"
done
