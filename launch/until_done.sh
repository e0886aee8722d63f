#!/usr/bin/env bash
# Run a command again until it is done: for machines that are preempted or crash.
#
#   launch/until_done.sh [-n MAX_RESTARTS] python -m autoguide_jax train --config=… --workdir=…
#
# Done means exit code 0. What the user must mend (2) and Ctrl-C (130) end it at once; anything
# else (killed, preempted, out of memory; 75: what passes by itself, as an outage of the bucket or
# hosts that did not come in time) starts the same command again, which resumes.
# SIGTERM and Ctrl-C to this script reach the command once, which saves; nothing starts after it.
# UNTIL_DONE_WAIT: seconds before a restart (5). Default of -n: 100.
set -u
usage() {
  echo 'usage: until_done.sh [-n MAX_RESTARTS] COMMAND…' >&2
  exit 2
}

max=100
if [ "${1:-}" = -n ]; then
  max=${2:-}
  case $max in '' | *[!0-9]*) usage ;; esac
  shift 2
fi
[ $# -gt 0 ] || usage

asked='' told='' child=''
tell() {
  if [ -n "$child" ] && [ -n "$asked" ] && [ -z "$told" ]; then
    told=yes
    kill -s "$asked" "$child" 2>/dev/null
  fi
}
forward() {
  asked=$1 told=''
  tell
}
trap 'forward TERM' TERM
trap 'forward INT' INT
# A process group of its own for the command: a terminal's Ctrl-C must not reach it a second time.
set -m

for ((restart = 0; ; restart++)); do
  "$@" </dev/null &
  child=$!
  tell # of a signal that came before the command was there
  # bash can lose a signal on its way into a wait, so no wait is longer than a second.
  while kill -0 "$child" 2>/dev/null; do
    sleep 1 >/dev/null 2>&1 &
    wait $!
  done
  wait "$child"
  code=$?
  child=''
  case $code in 0 | 2 | 130) exit "$code" ;; esac
  if [ -n "$asked" ]; then exit "$code"; fi
  if [ "$restart" -ge "$max" ]; then
    echo "gave up after $max restarts, exit code $code" >&2
    exit "$code"
  fi
  echo "exit code $code: restart $((restart + 1)) of at most $max" >&2
  for ((second = 0; second < ${UNTIL_DONE_WAIT:-5}; second++)); do
    if [ -n "$asked" ]; then exit "$code"; fi
    sleep 1 &
    wait $! # unlike a plain sleep, it ends at once at a signal
  done
  if [ -n "$asked" ]; then exit "$code"; fi
done
