# shellcheck shell=sh disable=SC2154
# Run by `sh -s -- RUNNER_DIR ARCHIVE SHA256 SCRIPT` in the guest that becomes a base: puts the actions runner of the
# shared directory in its place, and the operator's script ("-": there is none) where it is run from.
# What an image keeps beside the runner (.env, .path, tools) stays; an identity does not. Its last line is the answer.
umask 022
archive=$2 sha256=$3 script=$4
share=${CIDERMILL_SHARE_DIR:-/Volumes/My Shared Files}/cidermill
state=$HOME/.cidermill

# macOS mounts what is shared some moments after the login.
tries=0
until [ -r "$share/$archive" ]; do
  tries=$((tries + 1))
  [ "$tries" -le 60 ] || die "the guest does not see the directory that is shared with it: it needs macOS 13 or later"
  sleep 1
done
rm -rf "$state"
mkdir -p "$state"
chmod 0700 "$state"
cp "$share/$archive" "$state/runner.tar.gz" || die "the image's disk has no room for the actions runner: give it more"
found=$(shasum -a 256 "$state/runner.tar.gz")
[ "${found%% *}" = "$sha256" ] || die "the actions runner arrived damaged in the guest"
mkdir "$state/runner"
tar -xzf "$state/runner.tar.gz" -C "$state/runner" ||
  die "the image's disk has no room for the actions runner: give it more"
[ -x "$state/runner/run.sh" ] || die "the archive that GitHub offers holds no actions runner"

if ! mkdir -p "$runner_dir" 2>/dev/null; then
  root mkdir -p "$runner_dir" || die "the image's user may not make $runner_dir: set runner_dir"
  root chown "$(id -u):$(id -g)" "$runner_dir"
fi
# As the runner updates itself: what it is made of is replaced, whole directories first.
for new in "$state/runner"/*; do
  rm -rf "${runner_dir:?}/${new##*/}" || die "the image's user may not write to $runner_dir: set runner_dir"
  mv "$new" "$runner_dir/"
done
rm -rf "$runner_dir/.runner" "$runner_dir/.credentials" "$runner_dir/.credentials_rsaparams" "$runner_dir/_diag" \
  "$state/runner" "$state/runner.tar.gz"
if [ "$script" != - ]; then
  cp "$share/$script" "$state/prepare"
  chmod 0700 "$state/prepare"
fi
: >"$state/runner.log"
echo cidermill-installed
