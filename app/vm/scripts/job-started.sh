#!/bin/bash
# The job-started hook: decides on the job that really arrived whether it may use this Mac. With organization scope
# GitHub, not CiderMill, picks the job, so this is the one check that is certain to see it.
# A hook that merely fails still lets `if: always()` steps and actions' `pre:` scripts run: on refusal the worker
# itself is ended, so that no step runs. Whatever cannot be read is refused; so that a program that fails leads there
# and not out of here, the runner's `bash -e` is taken back.
set -u +e
job_path=$PATH
PATH=/usr/bin:/bin:/usr/sbin:/sbin
dir=$(dirname "$0")
forks=$(cat "$dir/forks" 2>/dev/null)
repository=$(printf '%s' "${GITHUB_REPOSITORY:-}" | LC_ALL=C tr '[:upper:]' '[:lower:]')

refuse() {
  echo "::error::CiderMill does not run this job: $1"
  sleep 1 # the worker passes the line above on to GitHub
  case $(ps -o command= -p "$PPID" 2>/dev/null) in
  *Runner.Worker*) kill -KILL "$PPID" ;;
  esac
  exit 1
}

allowed=no
while IFS= read -r pattern; do
  # shellcheck disable=SC2254 # it is a pattern
  case $repository in $pattern) allowed=yes ;; esac
done 2>/dev/null <"$dir/repositories"
[ -n "$repository" ] && [ "$allowed" = yes ] ||
  refuse "${GITHUB_REPOSITORY:-an unnamed repository} is not on the list of the pool that this Mac serves."

if [ "$forks" != allow ]; then
  case ${GITHUB_EVENT_NAME:-} in
  "") refuse "its triggering event is not known, and this pool runs no pull requests of forks." ;;
  pull_request*)
    # JSON::PP comes with perl, which comes with macOS; jq and python do not.
    origin=$(perl -MJSON::PP -0777 -ne '
      my $e = decode_json($_); my $r = $e->{pull_request}{head}{repo};
      my ($head, $base) = ($r ? $r->{id} : 0, $e->{repository}{id});
      print $head && $base && $head == $base ? "own" : "fork"' \
      "${GITHUB_EVENT_PATH:-/nonexistent}" 2>/dev/null)
    [ "$origin" = own ] || refuse "it is a pull request of a fork, and this pool runs none of those."
    ;;
  esac
fi

echo "CiderMill accepted this job of $GITHUB_REPOSITORY."
cat "$HOME/.cidermill/about" 2>/dev/null
image_hook=$(cat "$dir/image-hook" 2>/dev/null)
[ -z "$image_hook" ] || PATH=$job_path exec bash -e "$image_hook"
exit 0
