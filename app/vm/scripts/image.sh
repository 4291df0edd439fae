# shellcheck shell=sh
# Begins each script that is run in a guest of which clones are made. The first argument is where the runner is.
set -eu
PATH=$PATH:/usr/sbin:/sbin
runner_dir=$1

die() {
  printf 'cidermill-refused %s\n' "$1"
  exit 1
}

root() {
  if command -v sudo >/dev/null 2>&1; then
    sudo -n "$@"
  else
    "$@"
  fi
}

case $runner_dir in
"~"*) runner_dir=$HOME${runner_dir#?} ;;
esac
