#!/bin/bash
# The guest agent that `tart exec` talks to: the calls alone, without the clipboard, started at the automatic login.
# The root daemon, which grows the disk at boot, stays as the base has it.
set -euo pipefail

agent=$(command -v tart-guest-agent || echo /opt/homebrew/bin/tart-guest-agent)
[ -x "$agent" ] || {
  echo "The base image has no tart-guest-agent: use a base or xcode image, not a vanilla one." >&2
  exit 1
}
plist=/Library/LaunchAgents/org.cirruslabs.tart-guest-agent.plist
sudo tee "$plist" >/dev/null <<EOF
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key><string>org.cirruslabs.tart-guest-agent</string>
  <key>ProgramArguments</key><array><string>$agent</string><string>--run-rpc</string></array>
  <key>EnvironmentVariables</key><dict>
    <key>PATH</key><string>/bin:/usr/bin:/usr/sbin:/usr/local/bin:/opt/homebrew/bin</string>
  </dict>
  <key>WorkingDirectory</key><string>/Users/admin</string>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><true/>
  <key>StandardOutPath</key><string>/tmp/tart-guest-agent.log</string>
  <key>StandardErrorPath</key><string>/tmp/tart-guest-agent.log</string>
</dict>
</plist>
EOF
sudo chown root:wheel "$plist"
sudo chmod 0644 "$plist"
sudo xattr -c "$plist"
plutil -lint "$plist"
