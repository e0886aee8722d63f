#!/usr/bin/env bash
# A host with GPUs, or several, over plain ssh: setup, run, status, logs, stop.
# shellcheck source=launch/remote.sh
. "$(dirname "${BASH_SOURCE[0]}")/remote.sh"

usage() {
  cat <<'END'
usage: launch/gpu.sh VERB --host=[USER@]HOST[,…] [--flag=value…] [-- COMMAND…]

  setup    bring the code and Python with jax[cuda13] to the host
  run      start `python -m autoguide_jax COMMAND…` there, detached
  status   what runs
  logs     the end of the log
  stop     SIGTERM to the command: it saves and ends

Several hosts are one machine: they run the command together, the first leads (--hosts=…). The others
must reach it by the name in --host, as they know it, or by --coordinator.

  --host                also as GPU_HOST
  --ssh_flag=…          one more flag for ssh and scp, as --ssh_flag=-oPort=2222; repeatable
  --ref=HEAD            commit of this repository to send; with --repo=URL, to clone from there
  --python=3.12  --jax=cuda13  --folder=autoguide_jax     what setup installs, where in the home
  --env=NAME=VALUE      for the command, as --env=CUDA_VISIBLE_DEVICES=0,1; repeatable
  --coordinator=…       run: address or name of the first host for the others, where only your
                        ~/.ssh/config knows the one in --host
  --restarts=100        how often a host restarts a command that crashed
  --follow              run, logs: go on printing the log   --lines=20   --worker=all|0|1…
  --wait=600 --force    stop: seconds to save in; then kill
  --dry_run             print the commands, do nothing
END
}

jax=cuda13 connect='' coordinator='' host=${GPU_HOST:-}
ssh_flags=()

ask() { # ALL WORKER COMMAND, with @INDEX@ for the number of the host; at once on all, waits for all
  local index pids=() code=0
  for index in "${!hosts[@]}"; do
    if [ "$2" != all ] && [ "$2" != "$index" ]; then continue; fi
    if [ "$dry_run" ]; then
      call ssh "${ssh_flags[@]}" "${hosts[index]}" "${3//@INDEX@/$index}"
    else
      # shellcheck disable=SC2029 # the command is made here, for that host
      ssh "${ssh_flags[@]}" "${hosts[index]}" "${3//@INDEX@/$index}" </dev/null &
      pids+=("$!")
    fi
  done
  if [ -z "$dry_run" ] && [ ${#pids[@]} = 0 ]; then
    die "--worker=$2: the hosts are 0 to $((${#hosts[@]} - 1))"
  fi
  for index in "${pids[@]}"; do wait "$index" || code=1; done
  return "$code"
}

send() { # ALL FILE NEW_NAME
  local target
  for target in "${hosts[@]}"; do call scp -q "${ssh_flags[@]}" "$2" "$target:$3" || return; done
}

status() {
  if [ "$dry_run" ]; then
    workers "$1"
  else
    local rows code=0
    rows=$(workers "$1") || code=$?
    grep '^@worker' <<<"$rows" | sed "s/^@worker/$1\t-/" | table
    [ "$code" = 0 ] || die 'not every host answers'
  fi
}

verb=${1:-}
[ $# -eq 0 ] || shift
flags='host folder ssh_flag dry_run help'
case $verb in
  setup) parse "$flags repo ref python jax" "$@" ;;
  run) parse "$flags env restarts follow lines worker coordinator" "$@" ;;
  status) parse "$flags" "$@" ;;
  logs) parse "$flags follow lines worker" "$@" ;;
  stop) parse "$flags wait force" "$@" ;;
  --help | -h) usage && exit 0 ;;
  *) usage >&2 && die "unknown verb '$verb'" ;;
esac
[ "$host" ] || die '--host is needed (or GPU_HOST), as in --host=me@gpu1'
IFS=, read -r -a hosts <<<"$host"
if [ ${#hosts[@]} -gt 1 ]; then
  leader=${coordinator:-${hosts[0]#*@}}
  connect="--hosts=$leader:${JAX_COORDINATOR_PORT:-8476},@INDEX@,${#hosts[@]}"
elif [ "$coordinator" ]; then
  die "--coordinator=$coordinator: one host needs none. Leave it out, or name all in --host=one,two"
fi
if [[ ! $coordinator =~ ^[A-Za-z0-9.-]*$ ]]; then
  die "--coordinator=$coordinator must be an address or a name; JAX_COORDINATOR_PORT is its port"
fi
if [ "$coordinator" ] && [[ " ${command[*]} " = *' --hosts'* ]]; then
  die "--coordinator=$coordinator: the command has --hosts, which joins the hosts. Leave one out"
fi
if [ "$verb" = run ]; then need_command run; else no_command "$verb"; fi
if [ "$verb" = setup ]; then need_source; fi
"$verb" "$host"
