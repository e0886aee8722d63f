#!/usr/bin/env bash
# TPU slices of Google Cloud, v4 to v6e, as queued resources: from nothing to a training pod.
# launch/README.md has the five commands; --help lists the flags.
# shellcheck source=launch/remote.sh
. "$(dirname "${BASH_SOURCE[0]}")/remote.sh"
# shellcheck source=launch/watch.sh
. "$root/launch/watch.sh"

usage() {
  cat <<'END'
usage: launch/tpu.sh VERB --name=NAME[,NAME…] --zone=ZONE [--flag=value…] [-- COMMAND…]

  create   ask for a slice: a queued resource, which waits until there is room
  setup    bring the code and Python with jax[tpu] to every worker
  run      start `python -m autoguide_jax COMMAND… --hosts=auto` on every worker, detached
  watch    all of that until COMMAND is done: a slice that is preempted is made anew and resumes
  status   the slice and the command on every worker, in one table
  logs     the end of every worker's log
  stop     SIGTERM to the command on every worker: it saves and ends
  delete   end the slice, and its costs

Several names are several slices that do the same: a sweep with one gs:// --workdir shares its rows.

  --name --zone --project --type     also as TPU_NAME, TPU_ZONE, TPU_PROJECT, TPU_TYPE
  --type=v5e-16         v4-…, v5e-…, v5p-… or v6e-…, by the number that Google's names have
  --spot | --reserved   cheaper, but taken away at any time | of your reservation
  --nodes=1             slices in one queued resource that train together (multislice)
  --runtime=…           image of the VMs; known for every type
  --create_flag=…       one more flag for gcloud's create, as …=--network=mine; repeatable
  --ssh_flag=…          one more flag for gcloud's ssh and scp, as …=--tunnel-through-iap
  --ref=HEAD            commit of this repository to send; with --repo=URL, to clone from there
  --python=3.12  --jax=tpu  --folder=autoguide_jax     what setup installs, where in the home
  --env=NAME=VALUE      for the command, as --env=JAX_COORDINATOR_PORT=8490; repeatable
  --restarts=100        how often a worker restarts a command that crashed
  --follow              run, logs: go on printing the log   --lines=20   --worker=all|0|1…
  --wait=600 --force    stop: seconds to save in; then kill
  --poll=60 --max_failures=20     watch: seconds between looks; failures in a row before it gives up
  --then_delete         watch: delete the slice when the command is done
  --dry_run             print the commands, do nothing
END
}

jax=tpu connect=--hosts=auto
name=${TPU_NAME:-} zone=${TPU_ZONE:-} project=${TPU_PROJECT:-} type=${TPU_TYPE:-}
spot='' reserved='' nodes=1 runtime='' poll=60 max_failures=20 then_delete=''
ssh_flags=() create_flags=()

tpu7x_route() {
  die "--type=$type: TPU7x is not made by queued resources but by Compute Engine instance groups:
  gcloud compute resource-policies create workload-policy NAME --type=HIGH_THROUGHPUT \\
      --accelerator-topology=2x2x2 --region=REGION
  gcloud compute instance-templates create NAME --machine-type=tpu7x-standard-4t \\
      --maintenance-policy=TERMINATE --image-project=ubuntu-os-accelerator-images --image-family=…
  gcloud compute instance-groups managed create NAME --zone=ZONE --size=2 --template=NAME \\
      --workload-policy=NAME
then launch/gpu.sh --jax=tpu does setup, run, status, logs and stop: launch/README.md, 'TPU7x'."
}

know_type() { # sets accelerator, and runtime if it was not given
  local image
  [ "$type" ] || die '--type is needed (or TPU_TYPE), as in --type=v5e-16'
  case $type in
    tpu7x* | v7x*) tpu7x_route ;;
    v4-*) accelerator=$type image=tpu-ubuntu2204-base ;;
    v5e-* | v5litepod-*) accelerator=v5litepod-${type#*-} image=v2-alpha-tpuv5-lite ;;
    v5p-*) accelerator=$type image=v2-alpha-tpuv5 ;;
    v6e-*) accelerator=$type image=v2-alpha-tpuv6e ;;
    *) die "--type=$type is not known. Known are v4-…, v5e-…, v5p-…, v6e-…, as v5e-16" ;;
  esac
  [[ $type =~ -[0-9]+$ ]] || die "--type=$type must end with a number, as v5e-16"
  runtime=${runtime:-$image}
  [ -z "$spot" ] || [ -z "$reserved" ] || die '--spot and --reserved exclude each other: give one'
}

queued() { # VERB NAME WORDS…: gcloud's command for a queued resource
  local words=("$1" "$2" "--zone=$zone" --quiet)
  if [ "$project" ]; then words+=("--project=$project"); fi
  call gcloud compute tpus queued-resources "${words[@]}" "${@:3}"
}

errors() { echo "$scratch/$1.errors"; } # what gcloud last said of a slice
attempt() { # NAME COMMAND…: what it says on stderr is shown only if it fails
  local code=0 said
  said=$(errors "$1")
  if [ "$dry_run" ]; then
    "${@:2}"
    return
  fi
  "${@:2}" 2>"$said" || code=$?
  # gcloud 528 leaves out a node that it cannot reach, and ends with 0.
  if [ "$code" = 0 ] && grep -q 'Could not prepare all' "$said"; then code=1; fi
  if [ "$code" != 0 ]; then grep -v -e '^SSH: ' -e '^Using s' "$said" | tail -n 25 >&2; fi
  return "$code"
}
ask() { # NAME WORKER COMMAND
  attempt "$1" queued ssh "$1" --node=all "--worker=$2" "--command=$3" "${ssh_flags[@]}"
}
send() { # NAME FILE NEW_NAME
  attempt "$1" queued scp "$2" "$1:$3" --node=all --worker=all "${ssh_flags[@]}"
}

note_workdir() {
  if [[ " ${command[*]} " =~ \ --workdir=([^ ]+) && ${BASH_REMATCH[1]} != *://* ]]; then
    say "note: --workdir=${BASH_REMATCH[1]} is on a disk that may go with the slice: give gs://…"
  fi
}

make_key() { # the one that gcloud would make; two gclouds that make it at once both fail
  local key=$HOME/.ssh/google_compute_engine
  if [ -e "$key" ]; then return; fi
  (umask 077 && mkdir -p "$HOME/.ssh")
  call ssh-keygen -q -t rsa -N '' -f "$key"
}

create() {
  local words=("--accelerator-type=$accelerator" "--runtime-version=$runtime" --async)
  if [ "$nodes" = 1 ]; then words+=("--node-id=$1"); else words+=("--node-count=$nodes"); fi
  attempt "$1" queued create "$1" "${words[@]}" ${spot:+--spot} ${reserved:+--reserved} \
    "${create_flags[@]}" || return
  [ "$dry_run" ] || say "$1: asked for $accelerator; it costs from ACTIVE on until: $0 delete"
}

delete() { attempt "$1" queued delete "$1" --force && { [ "$dry_run" ] || say "$1: deleted"; }; }

slice_state() { # ACTIVE, SUSPENDED, …; NONE: there is none; UNKNOWN: gcloud failed
  local found said
  said=$(errors "$1")
  if found=$(queued describe "$1" '--format=value(state.state)' 2>"$said"); then
    echo "${found:-UNKNOWN}"
  elif grep -q -e NOT_FOUND -e 'was not found' "$said"; then
    echo NONE
  else
    tail -n 3 "$said" >&2
    echo UNKNOWN
  fi
}

status_rows() {
  local state rows=''
  state=$(slice_state "$1")
  if [ "$state" = ACTIVE ]; then rows=$(workers "$1" | grep '^@worker') || rows=''; fi
  if [ "$rows" ]; then
    printf '%s\n' "${rows//@worker/$1$'\t'$state}"
  else
    printf '%s\t%s\t-\t-\t-\t-\t-\n' "$1" "$state"
  fi
}
status() {
  local one
  if [ "$dry_run" ]; then
    for one; do queued describe "$one" '--format=value(state.state)' && workers "$one"; done
  else
    (for one; do status_rows "$one"; done) | table
  fi
}

verb=${1:-}
[ $# -eq 0 ] || shift
flags='name zone project dry_run help'
more='folder ssh_flag'
place='type spot reserved nodes runtime create_flag' code='repo ref python jax' task='env restarts'
case $verb in
  create) parse "$flags $place" "$@" ;;
  setup) parse "$flags $more $code" "$@" ;;
  run) parse "$flags $more $task follow lines worker" "$@" ;;
  watch) parse "$flags $more $place $code $task poll max_failures then_delete" "$@" ;;
  status) parse "$flags $more" "$@" ;;
  logs) parse "$flags $more follow lines worker" "$@" ;;
  stop) parse "$flags $more wait force" "$@" ;;
  delete) parse "$flags" "$@" ;;
  --help | -h) usage && exit 0 ;;
  *) usage >&2 && die "unknown verb '$verb'" ;;
esac
[ "$name" ] || die '--name is needed (or TPU_NAME)'
[ "$zone" ] || die '--zone is needed (or TPU_ZONE), as in --zone=us-central2-b'
IFS=, read -r -a names <<<"$name"
for name in "${names[@]}"; do
  [[ $name =~ ^[a-z][a-z0-9-]*$ ]] || die "--name=$name must be lower-case letters, digits and -"
done
case $verb in run | watch) need_command "$verb" ;; *) no_command "$verb" ;; esac
case $verb in run | watch) note_workdir ;; esac
case $verb in create | watch) know_type ;; esac
case $verb in setup | watch) need_source ;; esac
if [ -z "$dry_run" ] && ! command -v gcloud >/dev/null; then
  die 'gcloud is not installed: https://cloud.google.com/sdk/docs/install'
fi
case $verb in
  setup | run | watch) if [ ${#names[@]} -gt 1 ]; then make_key || exit 1; fi ;;
esac
case $verb$dry_run in
  status*) status "${names[@]}" ;;
  watchtrue) each watch_dry "${names[@]}" ;;
  *) each "$verb" "${names[@]}" ;;
esac
