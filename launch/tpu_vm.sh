#!/usr/bin/env bash
# A TPU VM, or a pod of them, from its creation to its end; BUILD.md lists the steps in order.
# Not run against Google Cloud yet: the tests run it with a gcloud that only plays its part.
# shellcheck disable=SC2016 # what single quotes hold is for the shells of the hosts
set -euo pipefail

usage() {
  cat <<'END'
launch/tpu_vm.sh COMMAND --name=NAME --zone=ZONE [--project=PROJECT] [--dry_run] ...

create   --type=TYPE --version=IMAGE [--spot]   makes the TPU VM, one host or a pod
install                                         puts this checkout's HEAD on every host
run      --workdir=gs://BUCKET/PATH -- ARGS     starts launch.describe on every host, and follows
follow                                          shows the log of the first host until the run ends
fetch    --workdir=gs://BUCKET/PATH --output=FOLDER   copies results and logs, but no artifacts
delete                                          deletes the TPU VM with all that is on its disks

--type is an accelerator type such as v5litepod-8 or v4-32, --version the runtime image. --dry_run
prints the commands, quoted as a shell wants them, and runs none. A run goes on when the connection
is lost, and `follow` finds it again; after a preemption: create, install, and run the same.
END
}

fail() {
  printf 'error: %s\n' "$1" >&2
  exit 2
}

# --- what was asked for

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
command='' name='' zone='' type='' version='' project='' workdir='' output='' spot='' dry_run=''
arguments=()
into=''

parse() {
  command=${1:-}
  case $command in
    create | install | run | follow | fetch | delete) shift ;;
    help | --help | -h) usage && exit ;;
    '') fail 'no command was given: expected create, install, run, follow, fetch or delete.' ;;
    *) fail "unknown command $(quoted "$command"): expected create, install, run, follow, fetch or \
delete." ;;
  esac
  while (($#)); do
    case $1 in
      --name=*) name=${1#*=} ;;
      --zone=*) zone=${1#*=} ;;
      --type=*) type=${1#*=} ;;
      --version=*) version=${1#*=} ;;
      --project=*) project=${1#*=} ;;
      --workdir=*) workdir=${1#*=} ;;
      --output=*) output=${1#*=} ;;
      --spot) spot=yes ;;
      --dry_run) dry_run=yes ;;
      --)
        shift
        arguments=("$@")
        return
        ;;
      *) fail "$(quoted "$1") is not an option of this script: give options as --name=value, and \
arguments of launch.describe after --." ;;
    esac
    shift
  done
}

# Requires an option that has a form.
check() {
  local option=$1 value=$2 form=$3 example=$4
  if [[ -z $value ]]; then
    fail "--$option is missing: $command needs it, such as --$option=$example."
  elif [[ ! $value =~ ^($form)$ ]]; then
    fail "--$option=$(quoted "$value") can't be right: expected something like $example."
  fi
}

# Refuses an option that the command would ignore.
refuse() {
  if [[ -n $2 ]]; then
    fail "$1 means nothing to $command: leave it out."
  fi
}

validate() {
  check name "$name" '[a-z]([-a-z0-9]{0,61}[a-z0-9])?' my-tpu
  check zone "$zone" '[a-z]+-[a-z]+[0-9]+-[a-z]' us-central1-a
  if [[ -n $project ]]; then
    check project "$project" '[a-z]([-a-z0-9.:]*[a-z0-9])?' my-project
  fi
  case $command in
    create)
      check type "$type" 'v[0-9]+[a-z]*-[0-9]+' v5litepod-8
      check version "$version" '[a-z0-9]([-a-z0-9.]*[a-z0-9])?' v2-alpha-tpuv5-lite
      ;;
    *)
      refuse --type "$type"
      refuse --version "$version"
      refuse --spot "$spot"
      ;;
  esac
  case $command in
    run | fetch) check workdir "$workdir" 'gs://[a-z0-9][-a-z0-9_.]+/[^[:cntrl:]]*[^/[:cntrl:]]' \
      gs://my-bucket/run ;;
    *) refuse --workdir "$workdir" ;;
  esac
  case $command in
    fetch) check output "$output" '[^[:cntrl:]]+' out/run ;;
    *) refuse --output "$output" ;;
  esac
  case $command in
    run) ((${#arguments[@]})) || fail "run needs arguments of launch.describe after --, such as \
-- --config=configs/resnet50_imagenet.py." ;;
    *) refuse "${arguments[0]:-}" "${arguments[*]:-}" ;;
  esac
}

# --- how commands are written and run

# One word quoted for a shell, and readable if possible.
quoted() {
  case $1 in
    '' | *[!A-Za-z0-9_@%+=:,./-]*) ;;
    *)
      printf '%s' "$1"
      return
      ;;
  esac
  case $1 in
    *[\'[:cntrl:]]*) printf '%q' "$1" ;;
    *) printf "'%s'" "$1" ;;
  esac
}

line() {
  local word separator=''
  for word in "$@"; do
    printf '%s' "$separator"
    quoted "$word"
    separator=' '
  done
}

# Runs a command, or prints it; its output goes to the file `into`, if that is set.
do_or_tell() {
  if [[ -n $dry_run ]]; then
    line "$@"
    printf '%s\n' "${into:+ > $(quoted "$into")}"
  elif [[ -n $into ]]; then
    "$@" > "$into"
  else
    "$@"
  fi
}

tpu() {
  local verb=$1
  shift
  do_or_tell gcloud compute tpus tpu-vm "$verb" "$@" --zone="$zone" ${project:+--project="$project"}
}

# A command on every host, or on the first.
everywhere() { tpu ssh "$name" --worker=all --command="$1"; }
first() { tpu ssh "$name" --worker=0 --command="$1"; }

# --- the commands

create() {
  tpu create "$name" --accelerator-type="$type" --version="$version" ${spot:+--spot}
}

install() {
  local tarball=$root/out/jaxdesc.tar.gz
  if [[ -z $dry_run && -n $(git -C "$root" status --porcelain) ]]; then
    echo 'Only committed files are installed; this checkout has other changes.' >&2
  fi
  do_or_tell mkdir -p "$root/out"
  do_or_tell git -C "$root" archive --format=tar.gz --prefix=jaxdesc/ --output="$tarball" HEAD
  tpu scp "$tarball" "$name:" --worker=all
  # uv brings a Python that constraints.txt was tested with: the images' own is older.
  everywhere 'sudo apt-get -qq -o DPkg::Lock::Timeout=300 update && '\
'sudo apt-get -qq -o DPkg::Lock::Timeout=300 install -y wordnet-base && '\
'tar -xzf jaxdesc.tar.gz && cd jaxdesc && python3 -m pip install --quiet --user uv && '\
'python3 -m uv venv --quiet --allow-existing --seed --python=3.11 .venv && '\
'.venv/bin/python -m pip install --quiet -c constraints.txt -e ".[tpu]"'
}

run() {
  local describe
  describe=$(line .venv/bin/python -m launch.describe --coordinator=auto --workdir="$workdir" \
    "${arguments[@]}")
  # It does not depend on the connection: input, output and hang-up signal are redirected.
  everywhere 'cd jaxdesc || exit 1; if [ -e run.pid ] && kill -0 "$(cat run.pid)" 2> /dev/null; '\
'then echo "A run is at work here: follow it, or wait until it has ended." >&2; exit 2; fi; '\
"( trap \"\" HUP; $describe; echo \"exit code \$?\" ) < /dev/null > run.log 2>&1 & "\
'echo $! > run.pid'
  follow
}

follow() {
  first 'cd jaxdesc && tail --pid="$(cat run.pid)" -n +1 -f run.log && '\
'exit "$(tail -n 1 run.log | sed -n "s/^exit code //p" | grep . || echo 1)"'
}

fetch() {
  do_or_tell mkdir -p "$output"
  do_or_tell gcloud storage rsync --recursive '--exclude=(artifacts|compilation_cache)/' \
    "$workdir" "$output" ${project:+--project="$project"}
  into=$output/run.log
  everywhere 'sed "s/^/$(hostname): /" jaxdesc/run.log'
}

delete() {
  tpu delete "$name"
}

parse "$@"
validate
if [[ -z $dry_run && -z $(command -v gcloud) ]]; then
  fail "gcloud can't be found: install Google Cloud's command line, or add --dry_run."
fi
"$command"
