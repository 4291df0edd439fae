# shellcheck shell=sh disable=SC2154
# Run by `sh -s -- RUNNER_DIR VERSION` in the guest that becomes a base, once it has all that it shall have: warms the
# runner up, leaves nothing of ours or of a shell behind, and has the guest shut itself down. Its last line is the answer.
version=$2
root true 2>/dev/null || die "the image's user has no password-less sudo: the job-started guard cannot be installed"
# What it compiles on its first start it has compiled from then on (docs/contracts/github.md, section 6.5).
"$runner_dir/bin/Runner.Listener" warmup </dev/null >/dev/null 2>&1 ||
  die "the actions runner does not start in the guest: it may need a newer macOS than the image's"
found=$("$runner_dir/bin/Runner.Listener" --version </dev/null 2>/dev/null | tail -n 1)
[ "$found" = "$version" ] || die "the prepare script left another actions runner in $runner_dir than was installed"

# What the image tells of itself, where it does.
told=${CIDERMILL_GUARD_DIR:-/opt/cidermill}/image.json
if [ -f "$told" ]; then
  sed 's/\("runner_version"[^"]*"\)[^"]*"/\1'"$version"'"/' "$told" >"$HOME/.cidermill/image.json"
  root cp "$HOME/.cidermill/image.json" "$told"
fi
rm -rf "$runner_dir/_diag" "$HOME/.cidermill" "$HOME/.zsh_history" "$HOME/.bash_history" "$HOME/.zsh_sessions" \
  "$HOME/.bash_sessions"
sync
# A moment later, so that the answer is heard.
(
  sleep 0.5
  root shutdown -h now
) </dev/null >/dev/null 2>&1 &
echo cidermill-finished
