#!/bin/sh
# Takes SECONDS: how long from now the supervisor leaves the guest up after the runner has ended; 0 takes that back.
# By the guest's own clock, so that the host's does not matter, and in a directory that is root's alone.
set -eu
file=$(dirname "$0")/hold-until

root() {
  if command -v sudo >/dev/null 2>&1; then
    sudo -n "$@"
  else
    "$@"
  fi
}

if [ "$1" = 0 ]; then
  root rm -f "$file"
else
  echo "$(($(date +%s) + $1))" | root tee "$file.new" >/dev/null
  root chmod 0644 "$file.new"
  root mv -f "$file.new" "$file"
fi
echo cidermill-held
