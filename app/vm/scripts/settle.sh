# shellcheck shell=sh disable=SC2154
# Run by `sh -s -- RUNNER_DIR` in the guest that is about to be suspended, and whose every clone goes on from there:
# warms the runner up, and leaves nothing that a clone must not share with another. Its last line is the answer.
root true 2>/dev/null || die "the image's user has no password-less sudo: the job-started guard cannot be installed"
[ -x "$runner_dir/run.sh" ] || die "the image holds no actions runner in $runner_dir: set runner_dir to where it is"
listener=$runner_dir/bin/Runner.Listener
[ ! -x "$listener" ] || "$listener" warmup </dev/null >/dev/null 2>&1 ||
  die "the actions runner does not start in the guest: it may need a newer macOS than the image's"

# An identity is each runner's own, and so are an SSH server's keys, which macOS makes anew when it needs them.
rm -f "$runner_dir/.runner" "$runner_dir/.credentials" "$runner_dir/.credentials_rsaparams"
rm -rf "$runner_dir/_diag" "$HOME/.cidermill" "$HOME/.zsh_history" "$HOME/.bash_history" "$HOME/.zsh_sessions" \
  "$HOME/.bash_sessions"
if [ -n "${CIDERMILL_SSH_DIR-}" ] || [ "$(sysctl -n kern.hv_vmm_present 2>/dev/null)" = 1 ]; then
  for key in "${CIDERMILL_SSH_DIR:-/etc/ssh}"/ssh_host_*; do
    root rm -f "$key"
  done
fi
sync
echo cidermill-settled
