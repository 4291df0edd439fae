#!/bin/bash
# Homebrew's part: what setup-* actions, caches and builds commonly need. Languages are left to setup-* actions.
set -euo pipefail

eval "$(/opt/homebrew/bin/brew shellenv)"
export HOMEBREW_NO_AUTO_UPDATE=1 HOMEBREW_NO_INSTALL_CLEANUP=1 HOMEBREW_NO_ENV_HINTS=1
# shellcheck disable=SC2086 # a list of names
brew install --quiet $FORMULAE
if command -v git-lfs >/dev/null; then
  git lfs install --system 2>/dev/null || sudo "$(command -v git)" lfs install --system
fi
sudo git config --system --add safe.directory '*'
