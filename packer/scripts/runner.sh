#!/bin/bash
# The actions runner, at a pinned version whose checksum is checked before it is unpacked. It is not configured:
# CiderMill hands each VM a just-in-time configuration. No registration and no secret is ever in here.
set -euo pipefail

runner=/Users/admin/actions-runner
archive=/tmp/actions-runner.tar.gz
rm -rf "$runner"
mkdir -p "$runner"
curl --fail --silent --show-error --location --retry 3 --output "$archive" \
  "https://github.com/actions/runner/releases/download/v$RUNNER_VERSION/actions-runner-osx-arm64-$RUNNER_VERSION.tar.gz"
echo "$RUNNER_SHA256  $archive" | shasum -a 256 --check --quiet
tar -xzf "$archive" -C "$runner" # into this directory: the archive has none of its own
rm "$archive"
"$runner/bin/Runner.Listener" warmup

# The one place where a job's environment comes from: steps read no profile. Literal values: the runner expands none.
cat >"$runner/.env" <<EOF
PATH=/opt/homebrew/bin:/opt/homebrew/sbin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/Users/admin/.cargo/bin:/Users/admin/.local/bin
LANG=en_US.UTF-8
LC_ALL=en_US.UTF-8
LC_CTYPE=en_US.UTF-8
AGENT_TOOLSDIRECTORY=/Users/runner/hostedtoolcache
RUNNER_TOOL_CACHE=/Users/runner/hostedtoolcache
ImageOS=$IMAGE_OS
HOMEBREW_NO_AUTO_UPDATE=1
HOMEBREW_NO_INSTALL_CLEANUP=1
DOTNET_NOLOGO=1
RCT_NO_LAUNCH_PACKAGER=1
EOF

# What CiderMill reads when a VM is up. It installs its own job-started guard at run time, beside this file.
sudo mkdir -p /opt/cidermill
sudo tee /opt/cidermill/image.json >/dev/null <<EOF
{
  "runner_version": "$RUNNER_VERSION",
  "runner_sha256": "$RUNNER_SHA256",
  "base": "$BASE",
  "built_at": "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
}
EOF
sudo chown -R root:wheel /opt/cidermill
sudo chmod 0755 /opt/cidermill
sudo chmod 0644 /opt/cidermill/image.json
