# shellcheck shell=sh disable=SC2154
# Part of setup.sh in a guest that was resumed, after its clock was set; the bytes from the host are in $seed.
# Its randomness goes on from where that of every other clone does, until it is stirred; and softnet passes nothing
# before it has seen a lease, while the one of before the suspend may be another guest's by now.
printf '%s\n' "$seed" | root tee /dev/random >/dev/null || die "the guest takes no randomness after its resume"
root ipconfig set en0 DHCP >/dev/null 2>&1 || die "the guest's network en0 cannot be set up after its resume"
tries=0
until [ -n "$(ipconfig getifaddr en0 2>/dev/null)" ]; do
  tries=$((tries + 1))
  [ "$tries" -le 100 ] || die "the guest has no address on its network en0 after its resume"
  sleep 0.1
done
