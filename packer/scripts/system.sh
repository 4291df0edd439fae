#!/bin/bash
# The system: nothing that updates, indexes, sleeps or lets anyone in; UTC; certificates; places that jobs expect.
set -euo pipefail

sudo systemsetup -settimezone UTC >/dev/null
sudo softwareupdate --schedule off >/dev/null
for key in AutomaticCheckEnabled AutomaticDownload CriticalUpdateInstall ConfigDataInstall AutomaticallyInstallMacOSUpdates; do
  sudo defaults write /Library/Preferences/com.apple.SoftwareUpdate "$key" -bool false
done
sudo defaults write /Library/Preferences/com.apple.commerce AutoUpdate -bool false
sudo mdutil -a -i off >/dev/null
sudo tmutil disable
sudo pmset -a sleep 0 displaysleep 0 disksleep 0 hibernatemode 0
defaults write NSGlobalDomain NSAppSleepDisabled -bool YES
sudo DevToolsSecurity -enable >/dev/null || true # there without Xcode too, but not in every base

# Signing needs Apple's intermediate certificates, which a fresh macOS lacks.
for name in AppleWWDRCAG3 DeveloperIDG2CA; do
  curl --fail --silent --show-error --location --retry 3 --output "/tmp/$name.cer" \
    "https://www.apple.com/certificateauthority/$name.cer"
  sudo security add-certificates -k /Library/Keychains/System.keychain "/tmp/$name.cer" || true # it has it
  rm "/tmp/$name.cer"
done

# Prebuilt Rubies and Pythons have this path compiled in. ln -s into an existing link would make a link inside it.
if [ ! -e /Users/runner ]; then
  sudo ln -sfn /Users/admin /Users/runner
fi
mkdir -p /Users/runner/hostedtoolcache
sudo mkdir -p /usr/local/bin /usr/local/share
sudo chown "$(id -un)":admin /usr/local/bin /usr/local/share

# From the next boot on: Packer still needs this session to shut down.
if [ "$KEEP_REMOTE_LOGIN" != true ]; then
  sudo launchctl disable system/com.openssh.sshd
  sudo launchctl disable system/com.apple.screensharing
fi
