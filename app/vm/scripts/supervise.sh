#!/bin/sh
# Leads its own session, runs the actions runner once, keeps its output, records how it ended, and powers the guest
# off: so the VM ends when the runner ends, whatever became of the host's side.
umask 022
state=$HOME/.cidermill
dir=$(dirname "$0")
IFS= read -r jit
exec </dev/null >>"$state/runner.log" 2>&1
echo "$$" >"$state/pid.new"
mv "$state/pid.new" "$state/pid"
cd "$(cat "$dir/runner-dir")" && ACTIONS_RUNNER_INPUT_JITCONFIG=$jit \
  ACTIONS_RUNNER_HOOK_JOB_STARTED=$dir/job-started.sh \
  ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE=1 \
  RUNNER_MANUALLY_TRAP_SIG=1 \
  ./run.sh
code=$?
echo "$code" >"$state/exit.new"
mv "$state/exit.new" "$state/exit"
echo "cidermill: run.sh ended with $code"
sleep 2 # for the follower to read the last lines

# Whether an operator keeps this VM for debugging: only root may write the file, and never for more than a day.
is_held() {
  read -r until 2>/dev/null <"$dir/hold-until" || return 1
  case $until in *[!0-9]* | '' | ???????????*) return 1 ;; esac
  left=$((until - $(date +%s)))
  [ "$left" -gt 0 ] && [ "$left" -le 86400 ]
}
while is_held; do sleep 1; done
: >"$state/over"
[ ! -e "$dir/attended" ] || sleep 30 # whoever attends takes it from here; where nobody does any more, we do

PATH=$PATH:/usr/sbin:/sbin
if command -v sudo >/dev/null 2>&1; then
  exec sudo -n shutdown -h now
fi
exec shutdown -h now
