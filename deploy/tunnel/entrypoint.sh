#!/bin/sh
# Runs the proxy and the tunnel side by side, and ends both when either ends, so that the container's restart policy
# sees it. The token stays in the environment or in a file, where cloudflared reads it by itself: it is in no argument.
set -eu

die() {
  printf 'tunnel: %s\n' "$1" >&2
  exit 2
}

: "${CIDERMILL_ORIGIN:=http://host.docker.internal:8000}"
export CIDERMILL_ORIGIN
case $CIDERMILL_ORIGIN in
http://?* | https://?*) ;;
*) die "CIDERMILL_ORIGIN must be the address of CiderMill, such as http://host.docker.internal:8000" ;;
esac
# It becomes part of the proxy's configuration, and names a host and a port alone.
case ${CIDERMILL_ORIGIN#*://} in
*[!A-Za-z0-9.:_-]*) die "CIDERMILL_ORIGIN must be http://HOST:PORT, without a path" ;;
esac
[ -n "${TUNNEL_TOKEN:-}${TUNNEL_TOKEN_FILE:-}" ] ||
  die "set TUNNEL_TOKEN, or TUNNEL_TOKEN_FILE to a file that holds it"

proxy='' tunnel=''
stop() {
  # The last one started is known to the shell before it is to a variable of ours.
  # shellcheck disable=SC2086 # two numbers, or one
  kill -TERM $proxy ${!:-} 2>/dev/null || true
  wait
}
trap 'stop; exit 143' TERM
trap 'stop; exit 130' INT

env -u TUNNEL_TOKEN -u TUNNEL_TOKEN_FILE caddy run --adapter caddyfile \
  --config "${CIDERMILL_CADDYFILE:-/etc/cidermill/Caddyfile}" &
proxy=$!
cloudflared --no-autoupdate tunnel run &
tunnel=$!

# The shell takes note of a child's end when it waits for the next one, which here is the sleep.
while kill -0 "$proxy" 2>/dev/null && kill -0 "$tunnel" 2>/dev/null; do
  sleep 1
done
echo "tunnel: the proxy or the tunnel ended, so both end" >&2
stop
exit 1
