#!/usr/bin/env bash
# One worker's part of tpu.sh and gpu.sh: it is called on the worker, from FOLDER/source/launch.
#
#   worker.sh setup FOLDER JAX PYTHON    make FOLDER/new the source, install Python and JAX by uv
#   worker.sh start FOLDER RESTARTS COMMAND…     run it detached; refuses while another one runs
#   worker.sh resume FOLDER RESTARTS COMMAND…    the same, but lets one that runs go on
#   worker.sh status FOLDER              one line: @worker HOST STATE CODE SINCE COMMAND, by tabs
#   worker.sh logs FOLDER LINES [follow]
#   worker.sh stop FOLDER SECONDS [force]        SIGTERM, which saves; force kills what is left
#
# Whether what ended is to be mended (2) or started again (75, 137, 143) is for `watch` to judge.
# FOLDER/job holds command, since, log, pid (of until_done.sh), code (its exit code, once it ended),
# asked (if `stop` ended it) and lock, which is locked as long as something runs: unlike a pid it
# cannot outlive a reboot or belong to another process.
set -eu

host=${HOSTNAME%%.*}
tell() { printf '[%s] %s\n' "$host" "$*"; }
fail() {
  tell "$*" >&2
  exit 1
}
running() { [ -e "$job/lock" ] && [ ! -e "$job/code" ] && ! flock -n "$job/lock" true; }

state() { # STATE<tab>CODE
  local code=-
  if [ -e "$job/code" ]; then code=$(cat "$job/code"); fi
  if [ ! -e "$folder/ready" ]; then printf 'new\t-'
  elif [ ! -e "$job/command" ]; then printf 'idle\t-'
  elif running; then printf 'running\t-'
  elif [ "$code" = - ]; then printf 'lost\t-' # the machine went down
  elif [ -e "$job/asked" ]; then printf 'stopped\t%s' "$code"
  else printf 'ended\t%s' "$code"; fi
}

find_uv() {
  export PATH="$HOME/.local/bin:$PATH"
  command -v uv >/dev/null && return
  tell 'installing uv'
  curl -LsSf https://astral.sh/uv/install.sh | sh || fail 'uv could not be installed: see setup.log'
}

setup() { # JAX PYTHON
  if running; then fail "a command runs here: $(cat "$job/command"). Stop it first"; fi
  rm -rf "$folder/ready" "$folder/source" "$job/command" "$job/code" "$job/asked"
  mv "$folder/new" "$folder/source"
  tell "Python $2 and jax[$1]"
  if ! install "$@" >"$folder/setup.log" 2>&1; then
    tail -n 20 "$folder/setup.log" | sed "s/^/[$host] /" >&2
    fail "setup failed: $folder/setup.log has more"
  fi
  # Devices are not touched: on a pod they answer only when all hosts ask.
  versions='import jax, platform as p; print("Python", p.python_version(), "jax", jax.__version__)'
  found=$("$folder/.venv/bin/python" -c "$versions") || fail 'jax cannot be imported'
  touch "$folder/ready"
  tell "ready: $found"
}

install() {
  find_uv
  if [ ! -x "$folder/.venv/bin/python" ]; then uv venv --python "$2" "$folder/.venv"; fi
  uv pip install --python "$folder/.venv/bin/python" -r "$folder/source/requirements.txt" "jax[$1]"
}

start() { # RESTARTS COMMAND…
  mkdir -p "$job"
  setsid bash "$0" supervise "$folder" "$@" >>"$job/log" 2>&1 </dev/null &
  owns() { [ "$(cat "$job/owner" 2>/dev/null)" = "$!" ]; }
  until owns || ! kill -0 "$!" 2>/dev/null; do sleep 0.1; done
  owns || fail "not started: $(tail -n 1 "$job/log")"
  tell "started: ${*:2}"
}

supervise() { # RESTARTS COMMAND…
  exec 9>>"$job/lock"
  flock -w 2 9 || fail 'another command runs here'
  rm -f "$job/code" "$job/asked"
  printf '%s' "${*:2}" >"$job/command"
  date -u +%FT%TZ >"$job/since"
  echo "$(cat "$job/since") start: ${*:2}"
  export PATH="$folder/.venv/bin:$PATH" PYTHONUNBUFFERED=1
  cd "$folder/source"
  bash launch/until_done.sh -n "$1" "${@:2}" &
  echo "$!" >"$job/pid"
  echo "$$" >"$job/owner"
  code=0
  wait "$!" || code=$?
  echo "$(date -u +%FT%TZ) end: exit code $code"
  echo "$code" >"$job/code.new"
  mv "$job/code.new" "$job/code"
}

logs() { # LINES [follow]
  if [ ! -e "$job/log" ]; then fail 'nothing was started here yet'; fi
  words=(-n "$1")
  if [ "${2:-}" = follow ] && running; then words+=(--follow=name "--pid=$(cat "$job/owner")"); fi
  tail "${words[@]}" "$job/log" | sed -u "s/^/[$host] /"
}

stop() { # SECONDS [force]
  if running; then
    touch "$job/asked"
    kill -TERM "$(cat "$job/pid")" 2>/dev/null || true # it may have ended by itself just now
    for ((i = 0; i < $1; i++)); do
      running || break
      sleep 1
    done
  fi
  if running && [ "${2:-}" = force ]; then
    # The command has a process group of its own, but the session is the supervisor's.
    pkill -KILL -s "$(cat "$job/owner")" || true
    echo 137 >"$job/code"
    tell 'killed: what it had not saved is lost'
  elif running; then
    fail "still running after $1 s: it may be saving. Wait, or stop --force"
  else
    tell "$(state | tr '\t' ' '): $(cat "$job/command" 2>/dev/null)"
  fi
}

verb=$1
folder=$(cd "$2" && pwd)
job=$folder/job
shift 2
case $verb in
  setup | supervise | logs | stop) "$verb" "$@" ;;
  start)
    if running; then fail "already runs: $(cat "$job/command"). Stop it first"; fi
    start "$@"
    ;;
  resume) if running; then tell 'runs'; else start "$@"; fi ;;
  status)
    since=$(cat "$job/since" 2>/dev/null || echo -)
    command=$(cat "$job/command" 2>/dev/null || echo -)
    printf '@worker\t%s\t%s\t%s\t%s\n' "$host" "$(state)" "$since" "$command"
    ;;
  *) fail "unknown verb $verb" ;;
esac
