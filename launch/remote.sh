# Sourced by tpu.sh and gpu.sh, never run: flags, dry runs, and the verbs that both have.
# shellcheck shell=bash
#
# The script that sources it defines usage, `ask TARGET WORKER COMMAND` (a shell command on workers
# of a target: all, or the one of that number) and `send TARGET FILE NAME` (a file into every home).

if [ "${BASH_VERSINFO[0]}${BASH_VERSINFO[1]}" -lt 44 ]; then
  echo "bash 4.4 or newer is needed, this is $BASH_VERSION (on a Mac: brew install bash)" >&2
  exit 2
fi
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Defaults of the flags that both scripts have.
folder=autoguide_jax python=3.12 repo='' ref=HEAD restarts=100 lines=20 worker=all wait=600
follow='' force='' dry_run=''
environment=() command=()

say() { printf '%s\n' "$*" >&2; }
die() {
  say "$*"
  exit 2
}
quote() { # words as one line that a shell reads back
  local word line=''
  for word; do
    if [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then line+=" $word"; else line+=" ${word@Q}"; fi
  done
  printf '%s' "${line# }"
}

set_flag() { # ALLOWED FLAG: --key=value sets $key; the repeatable ones are lists
  local allowed=$1 key=${2#--} value=true
  if [[ $key = *=* ]]; then value=${key#*=} key=${key%%=*}; fi
  [[ " $allowed " = *" $key "* ]] || die "--$key: unknown flag. Known are: --${allowed// / --}"
  if [ -z "$value" ]; then die "--$key= is empty: give it a value"; fi
  if [ "$value" = false ]; then value=''; fi
  case $key in
    help) usage && exit 0 ;;
    env) environment+=("$value") ;;
    ssh_flag) ssh_flags+=("$value") ;;
    create_flag) create_flags+=("$value") ;;
    restarts | lines | wait | poll | max_failures | nodes)
      [[ $value =~ ^[0-9]+$ ]] || die "--$key=$value must be a whole number"
      printf -v "$key" %s "$value"
      ;;
    *) printf -v "$key" %s "$value" ;;
  esac
}

parse() { # ALLOWED WORDS…: the flags, and what follows -- as the command
  local allowed=$1
  shift
  while [ $# -gt 0 ]; do
    case $1 in
      --) shift && command=("$@") && break ;;
      --*) set_flag "$allowed" "$1" ;;
      *) die "unexpected ${1@Q}: flags are written --name=value, the command comes after --" ;;
    esac
    shift
  done
  [[ $folder =~ ^[A-Za-z0-9_.-]+$ ]] || die "--folder=$folder must be a plain name in the home"
  [[ $worker =~ ^(all|[0-9]+)$ ]] || die "--worker=$worker must be all or a number"
}

call() { # run a command, or show it
  if [ "$dry_run" ]; then quote "$@" && echo; else "$@"; fi
}

each() { # VERB TARGETS…: for several at once, with their names before each line; fails if one does
  local verb=$1 target pids=() code=0 worst=0
  shift
  if [ $# = 1 ] || [ "$dry_run" ]; then
    for target; do "$verb" "$target" || worst=$?; done
    return "$worst"
  fi
  for target; do
    (set -o pipefail && ("$verb" "$target") 2>&1 | sed -u "s/^/[$target] /") &
    pids+=("$!")
  done
  for target in "${pids[@]}"; do
    code=0
    wait "$target" || code=$?
    if [ "$code" -gt "$worst" ]; then worst=$code; fi
  done
  return "$worst"
}

on_worker() { # WORKER_VERB WORDS…: the shell command that calls worker.sh
  local verb=$1
  shift
  printf 'bash %s %s' "$folder/source/launch/worker.sh" "$(quote "$verb" "$folder" "$@")"
}

job_words() { # $job: what the workers run; uses $connect, the flag that joins several hosts
  job=(python -m autoguide_jax "${command[@]}")
  if [ ${#environment[@]} -gt 0 ]; then job=(env "${environment[@]}" "${job[@]}"); fi
  if [ "$connect" ] && [[ " ${command[*]} " != *' --hosts'* ]]; then job+=("$connect"); fi
}

need_command() {
  if [ ${#command[@]} = 0 ]; then
    die "$1 needs a command after --, as in: $1 … -- train --config=… --workdir=gs://…"
  fi
  local word
  for word in "${environment[@]}"; do
    [[ $word =~ ^[A-Za-z_][A-Za-z_0-9]*= ]] || die "--env=$word must be NAME=VALUE"
  done
  job_words
}

no_command() {
  [ ${#command[@]} = 0 ] || die "$1 takes no command: leave out -- and what follows"
}

need_source() { # pack --ref once, so that a slice made anew gets the same code
  if [ "$repo" ]; then return; fi
  local asked=$ref
  ref=$(git -C "$root" rev-parse --quiet --verify "$asked^{commit}") ||
    die "--ref=$asked is no commit of $root: give one, or --repo=URL to clone from elsewhere"
  if [ "$asked" = HEAD ] && [ -n "$(git -C "$root" status --porcelain)" ]; then
    say "note: uncommitted changes stay here; commit $ref is sent"
  fi
  call git -C "$root" archive --format=tar.gz -o "$scratch/source.tgz" "$ref" || exit 1
}

# The verbs. Each takes a target and fails if any of its workers does.
setup() {
  local new=$folder/new get
  if [ "$repo" ]; then
    get="rm -rf $new && git init -q $new && git -C $new fetch -q --depth 1 $(quote "$repo" "$ref")"
    get+=" && git -C $new checkout -q FETCH_HEAD"
  else
    send "$1" "$scratch/source.tgz" "$folder.tgz" || return
    get="mkdir -p $folder && rm -rf $new && mkdir $new && tar -xzf $folder.tgz -C $new"
    get+=" && { gzip -dc $folder.tgz | git get-tar-commit-id >$new/.commit || true; }"
  fi
  # shellcheck disable=SC2154 # jax is set by the script that sources this one
  ask "$1" all "$get && bash $new/launch/worker.sh setup $folder $(quote "$jax" "$python")"
}

workers() { # lines of @worker
  local new="printf '@worker\\t%s\\tnew\\t-\\t-\\t-\\n' \"\${HOSTNAME%%.*}\""
  ask "$1" all "if [ -e $folder/ready ]; then $(on_worker status); else $new; fi"
}

run() {
  local rows
  if [ -z "$dry_run" ]; then
    rows=$(workers "$1") || return
    case $rows in
      *$'\tnew\t'*) die "$1: not every worker is set up: $0 setup" ;;
      *$'\trunning\t'*) die "$1: a command runs there already: $0 status, $0 stop" ;;
    esac
  fi
  ask "$1" all "$(on_worker start "$restarts" "${job[@]}")" || return
  if [ "$follow" ]; then logs "$1"; fi
}

logs() { ask "$1" "$worker" "$(on_worker logs "$lines" ${follow:+follow})"; }

stop() { ask "$1" all "$(on_worker stop "$wait" ${force:+force})"; }

resume() { ask "$1" all "$(on_worker resume "$restarts" "${job[@]}")"; }

table() { # of lines NAME SLICE WORKER STATE CODE SINCE COMMAND, by tabs
  { printf '%s\t' NAME SLICE WORKER STATE CODE SINCE && echo COMMAND && cat; } |
    awk -F '\t' '{ printf "%-16s %-22s %-24s %-8s %-5s %-21s %s\n", $1, $2, $3, $4, $5, $6, $7 }'
}
