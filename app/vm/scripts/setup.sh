# shellcheck shell=sh
# Run by `sh -s -- NAME RUNNER_DIR EPOCH STAMP` in a guest that has just answered, before it has any identity;
# the files to install and a call of `finish` follow on the same standard input.
# Sets the clock and installs, root-owned and outside the home directory, what a job must not have been able to
# change before its first step: the job-started guard and the scripts that start and watch the runner.
# Running it again changes nothing. Its last line is the answer.
set -eu
umask 022
PATH=$PATH:/usr/sbin:/sbin
name=$1 runner_dir=$2 epoch=$3 stamp=$4

die() {
  printf 'cidermill-refused %s\n' "$1"
  exit 1
}

root() {
  if command -v sudo >/dev/null 2>&1; then
    sudo -n "$@"
  elif [ "$(id -u)" = 0 ]; then
    "$@"
  else
    return 1
  fi
}

case $runner_dir in
"~"*) runner_dir=$HOME${runner_dir#?} ;;
esac
if [ ! -x "$runner_dir/run.sh" ]; then
  echo cidermill-no-runner
  exit 1
fi
command -v perl >/dev/null 2>&1 || die "the image has no perl, which macOS brings"
root true 2>/dev/null || die "the image's user has no password-less sudo: the job-started guard cannot be installed"

# A snapshot's clock stands still while it sleeps, and a wrong clock breaks TLS and the runner's session.
skew=$(($(date +%s) - epoch))
if [ "$skew" -gt 2 ] || [ "$skew" -lt -2 ]; then
  root date -u "$stamp" >/dev/null 2>&1 || die "the guest's clock is $skew s off and cannot be set"
fi

base=${CIDERMILL_GUARD_DIR:-/opt/cidermill}
dir=$base/$name
root mkdir -p "$dir"
install_file() { # NAME MODE, content on standard input
  root tee "$dir/$1" >/dev/null
  root chmod "$2" "$dir/$1"
  root chown 0:0 "$dir/$1"
}

# Called once the files that go with this script are installed.
finish() {
  printf '%s\n' "$runner_dir" | install_file runner-dir 0644

  # The runner loads .env over the environment it is started with, so the guard must be named there; a hook that the
  # image names is kept, and run by the guard once it has accepted the job.
  env_file=$runner_dir/.env
  hook=$dir/job-started.sh
  kept=
  if [ -f "$env_file" ]; then
    kept=$(sed -n 's/^ACTIONS_RUNNER_HOOK_JOB_STARTED=//p' "$env_file" | tail -n 1)
    case $kept in # our own, of this VM or of one that the image was made from: what it ran is meant
    "$base"/*/job-started.sh) kept=$(cat "${kept%job-started.sh}image-hook" 2>/dev/null || true) ;;
    esac
  fi
  printf '%s\n' "$kept" | install_file image-hook 0644
  rest=
  [ ! -f "$env_file" ] || rest=$(grep -v '^ACTIONS_RUNNER_HOOK_JOB_STARTED=' "$env_file" || true)
  {
    [ -z "$rest" ] || printf '%s\n' "$rest"
    printf 'ACTIONS_RUNNER_HOOK_JOB_STARTED=%s\n' "$hook"
  } | root tee "$env_file.cidermill" >/dev/null
  root chmod 0644 "$env_file.cidermill"
  root chown 0:0 "$env_file.cidermill"
  root mv -f "$env_file.cidermill" "$env_file"
  root chown 0:0 "$dir"
  root chmod 0755 "$dir"
  # What an image kept of another VM's life must not count as ours.
  state=$HOME/.cidermill
  [ "$(cat "$state/vm" 2>/dev/null)" = "$name" ] || root rm -rf "$state"
  mkdir -p "$state"
  chmod 0700 "$state"
  printf '%s\n' "$name" >"$state/vm"

  version=$(sed -n 's/.*"runner_version"[^"]*"\([0-9.]*\)".*/\1/p' "$base/image.json" 2>/dev/null | head -n 1)
  if [ -z "$version" ] && [ -x "$runner_dir/bin/Runner.Listener" ]; then
    version=$("$runner_dir/bin/Runner.Listener" --version 2>/dev/null </dev/null | tail -n 1) || version=
  fi
  printf 'cidermill-set-up version=%s\n' "${version:-unknown}"
}
