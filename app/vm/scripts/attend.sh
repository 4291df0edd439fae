# shellcheck shell=sh
# The startup script of a VM on an Orchard worker: typed into a login shell of the guest, so nothing in here may read
# standard input, and the end of this text is the end of the VM. It knows no secret. It waits for a delivery
# (deliver.sh), then for the end of the runner's supervisor (supervise.sh), and ends with what run.sh ended with, plus
# 100: to Orchard that is a failure, and the only way to tell it that a VM is done with.
set +e
state=$HOME/.cidermill

is_delivered() {
  [ -d "$state/delivered" ] && [ "$(cat "$state/vm" 2>/dev/null)" = "$CIDERMILL_VM" ]
}

waited=0
until is_delivered; do
  waited=$((waited + 1))
  if [ "$waited" -gt "$CIDERMILL_PATIENCE" ]; then
    echo "cidermill: no job came within $CIDERMILL_PATIENCE s"
    exit 90
  fi
  sleep 1
done
waited=0
until [ -s "$state/pid" ] || [ "$waited" -gt 30 ]; do
  waited=$((waited + 1))
  sleep 1
done
echo "cidermill: the runner starts"
until [ -e "$state/over" ]; do
  kill -0 "$(cat "$state/pid" 2>/dev/null)" 2>/dev/null || break
  sleep 1
done
code=$(cat "$state/exit" 2>/dev/null)
case $code in
'' | *[!0-9]*)
  echo "cidermill: the runner ended without a word"
  exit 91
  ;;
esac
echo "cidermill: run.sh ended with $code"
[ "$code" -le 99 ] || code=99
exit "$((100 + code))"
