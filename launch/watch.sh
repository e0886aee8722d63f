# Sourced by tpu.sh, never run: its verb `watch`.
# shellcheck shell=bash disable=SC2154 # the flags and the other verbs are tpu.sh's
#
# Each step looks at the world and does one thing, so watch itself may be killed and started again.

watch() { # NAME: until the command is done
  local slice=$1 failures=0 restarted=0 last='' seen='' code delay
  while :; do
    code=0
    watch_step "$1" || code=$?
    case $code in
      0) failures=0 delay=$poll ;; # it runs
      10) delay=$poll ;;           # waiting for Google
      11) delay=0 ;;               # something was done: look again
      *) failures=$((failures + 1)) && back_off ;;
    esac
    sleep "$delay"
  done
}
note() { say "$(date -u +%FT%TZ) $*"; }
back_off() { # sets delay: none after the first failure, then doubling up to 15 minutes
  if [ "$failures" -gt "$max_failures" ]; then
    note "$slice: gave up after $max_failures failures in a row; what there is still costs"
    exit 1
  fi
  delay=0
  if [ "$failures" -gt 1 ]; then
    delay=$((poll * 2 ** (failures < 7 ? failures - 2 : 5)))
    if [ "$delay" -gt 900 ]; then delay=900; fi
    note "$slice: failure $failures of at most $max_failures; again in $delay s"
  fi
}

watch_step() { # NAME → 0 it runs, 10 waiting, 11 something was done, 12 a failure; or it exits
  local state
  state=$(slice_state "$1")
  if [ "$state" != "$last" ]; then note "$1: $state" && last=$state; fi
  case $state in
    NONE)
      note "$1: create"
      create "$1" && return 11
      if grep -q -e INVALID_ARGUMENT -e PERMISSION_DENIED -e UNAUTHENTICATED "$(errors "$1")"; then
        exit 2 # what the user must mend
      fi
      return 12
      ;;
    SUSPENDED | FAILED) remake "$1" ;;
    ACTIVE) tend "$1" ;;
    UNKNOWN) return 12 ;;
    *) return 10 ;;
  esac
}

remake() { # counts as a failure: a slice that never comes to run must end the watch
  note "$1: delete, and create again"
  restarted=0
  delete "$1"
  return 12
}

tend() { # an active slice: set it up, start the command, or end with it
  local rows states ended
  if ! rows=$(workers "$1" | grep '^@worker'; exit "${PIPESTATUS[0]}"); then
    # The queued resource can say ACTIVE for a while after its VMs were taken.
    if grep -q 'terminal state' "$(errors "$1")"; then remake "$1"; fi
    return 12
  fi
  states=$(cut -f3,4 <<<"$rows" | sort -u | awk '{printf "%s%s %s", n++ ? ", " : "", $1, $2}')
  if [[ $states = *new* ]]; then
    note "$1: setup"
    setup "$1" && return 11
    return 12
  fi
  if [[ $states = *running* && -z $seen ]]; then
    if [[ $rows != *$'\trunning\t'*$'\t'"${job[*]}"* ]]; then
      die "$1: another command runs there: $0 status, $0 stop"
    fi
    seen=yes
  fi
  ended=$(grep -o -E 'ended [0-9]+' <<<"$states" | grep -v -x -E 'ended (0|75|137|143)' | head -n 1)
  # What ended before this watch began is no news: it is started again.
  if [ "$seen" ]; then
    case $states in
      'ended 0') finish "$1" ;;
      *stopped*running* | *running*stopped*) return 10 ;;
      *stopped*) note "$1: stopped by hand" && exit 143 ;;
    esac
    if [ "$ended" ]; then
      note "$1: $ended: to be mended; the others are stopped. $0 logs has the reason"
      stop "$1"
      exit "${ended#ended }"
    fi
  fi
  case $states in
    'running -' | 'ended 0, running -') restarted=0 && return 0 ;;
  esac
  restarted=$((restarted + 1))
  if [ "$restarted" -gt 10 ]; then
    note "$1: ended 10 times in a row before it was seen running ($states); it still costs"
    exit 1
  fi
  note "$1: start ($states)"
  resume "$1" || return 12
  seen=yes
  return 11
}

finish() {
  note "$1: done"
  if [ -z "$then_delete" ]; then say "$1 still costs: $0 delete --name=$1" && exit 0; fi
  failures=0
  # A delete whose answer was lost is one: not by a look of watch_step, which would create it again.
  until delete "$1" || [ "$(slice_state "$1")" = NONE ]; do
    failures=$((failures + 1)) && back_off
    sleep "$delay"
  done
  exit 0
}

watch_dry() { # every command that watch uses, once
  echo '# look:' && status "$1"
  echo '# if there is none:' && create "$1" && setup "$1"
  echo '# unless it runs:' && resume "$1"
  echo '# when it was preempted, before it is created again:' && delete "$1"
}
