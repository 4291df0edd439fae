#!/bin/bash
# The image is what it says, or the build fails; then what the build itself left is removed.
set -euo pipefail

runner=/Users/admin/actions-runner
fail() {
  echo "verify: $1" >&2
  exit 1
}

[ "$("$runner/bin/Runner.Listener" --version)" = "$RUNNER_VERSION" ] || fail "the runner is not $RUNNER_VERSION"
for file in .runner .credentials .credentials_rsaparams .path; do
  [ ! -e "$runner/$file" ] || fail "$file is in the image: the runner was configured"
done
[ -w "$runner" ] || fail "the runner's directory is not writable by $(id -un)"
touch /Users/runner/hostedtoolcache/.writable && rm /Users/runner/hostedtoolcache/.writable
[ "$(readlink /Users/runner)" = /Users/admin ] || [ -d /Users/runner ] || fail "/Users/runner is missing"
! grep -nE "[\"'\$]|^export |^#" "$runner/.env" || fail ".env has what the runner would take literally"
sudo -n true || fail "sudo asks for a password"
perl -MJSON::PP -MPOSIX -e 1 || fail "perl lacks JSON::PP or POSIX, which CiderMill's guest scripts use"
plutil -lint /Library/LaunchAgents/org.cirruslabs.tart-guest-agent.plist >/dev/null || fail "the agent's plist is broken"
[ -e /etc/kcpassword ] || fail "automatic login is off: the guest agent would never start"
free=$(($(df -k / | awk 'NR == 2 { print $4 }') / 1000000))
[ "$free" -ge "$FREE_DISK_GB" ] || fail "only $free GB are free, $FREE_DISK_GB are wanted: raise disk_size_gb"

rm -rf ~/.zsh_history ~/.zsh_sessions ~/.bash_history ~/Library/Caches/Homebrew "$runner/_diag"
sudo rm -rf /private/var/log/asl/*.asl /private/tmp/tart-guest-agent.log
