"""The inside of a simulated guest: its directories, its environment, and the programs that stand in for macOS's own.

Commands run on the host, as the host's user, so what would reach beyond the guest is replaced: powering off ends
the VM and not the host, the clock is never set, nothing of the host's environment is inherited. A command that
calls such a program by its absolute path is caught only behind ``sudo``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

HOME = "Users/admin"
SHIMS = "bin-shims"
GUARD = "opt/cidermill"
SHARED = "Volumes/My Shared Files"
SSH = "etc/ssh"
STALE = ("clock", "network", "randomness")  # files in a resumed guest, gone once that was mended
POWER = ".power"  # a FIFO: whatever is written to it powers the guest off
SYSTEM_PATH = "/bin:/usr/bin:/usr/sbin:/usr/local/bin"

_SHELL = '#!/bin/sh\nhere=$(dirname "$0")\n'

_OFF = f"""{_SHELL}[ -p "$here/../{POWER}" ] || exit 1
echo off >"$here/../{POWER}"
"""

# Whatever program is named, by a path or not: one that has a stand-in here is replaced by it.
_SUDO = f"""{_SHELL}while :; do
  case ${{1-}} in
  -u | -g | -p | -C | -h) shift 2 ;;
  --) shift && break ;;
  -*) shift ;;
  *=*) export "$1" && shift ;;
  *) break ;;
  esac
done
[ $# -gt 0 ] || exit 0
name=${{1##*/}}
if [ -x "$here/$name" ]; then
  shift
  exec "$here/$name" "$@"
fi
exec "$@"
"""

_DATE = """#!/bin/sh
# Reading passes through, an hour late in a guest that was resumed; setting succeeds, and only ends that.
set_it=no skip=no show=no
for word in "$@"; do
  if [ "$skip" = yes ]; then
    skip=no
    continue
  fi
  case $word in
  -j*) show=yes ;;
  -s* | --set*) set_it=yes ;;
  -d | -r | -f | -v) skip=yes ;;
  -* | +*) ;;
  *) set_it=yes ;;
  esac
done
stale=$(dirname "$0")/../.stale-clock
if [ "$set_it" = yes ] && [ "$show" = no ]; then
  rm -f "$stale"
  exit 0
fi
if [ -e "$stale" ] && [ "$*" = +%s ]; then
  echo $(($(/bin/date +%s) - 3600))
  exit 0
fi
exec /bin/date "$@"
"""

_IPCONFIG = f"""{_SHELL}stale=$here/../.stale-network
case ${{1-}} in
set) rm -f "$stale" ;;
getifaddr) [ ! -e "$stale" ] && echo 192.168.64.2 ;;
*) exit 1 ;;
esac
"""

# What is written to the kernel's randomness ends here.
_TEE = f"""{_SHELL}[ "${{1-}}" = /dev/random ] || exec /usr/bin/tee "$@"
seed=$(wc -c)
[ "$seed" -lt 64 ] || rm -f "$here/../.stale-randomness"
"""

_NOTHING = "#!/bin/sh\nexit 0\n"

PROGRAMS = {
    "sudo": _SUDO,
    "chown": _NOTHING,
    "chgrp": _NOTHING,
    "sntp": _NOTHING,
    "shutdown": _OFF,
    "halt": _OFF,
    "date": _DATE,
    "ipconfig": _IPCONFIG,
    "tee": _TEE,
}


def furnish(guest: Path) -> None:
    """Make what a guest needs and does not have yet."""
    for directory in (HOME, SHIMS, GUARD, SSH, "tmp"):
        (guest / directory).mkdir(parents=True, exist_ok=True)
    for name, text in PROGRAMS.items():
        program = guest / SHIMS / name
        if not program.exists():
            program.write_text(text, encoding="ascii")
            program.chmod(0o755)


def mount(guest: Path, shares: Mapping[str, Path]) -> None:
    """Show directories of the host in the guest: each by its name, or what is in the one that has none.

    That they may only be read is not enforced: the guest's commands run as the host's user.
    """
    unmount(guest)
    for name, path in shares.items():
        place = guest / SHARED / name if name else guest / SHARED
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)


def unmount(guest: Path) -> None:
    """Take the directories of the host away again."""
    place = guest / SHARED
    if place.is_symlink():
        place.unlink()
    for link in place.iterdir() if place.is_dir() else ():
        link.unlink()


def grow_stale(guest: Path) -> None:
    """Have a guest be as one that slept: its clock stands still, its lease and its randomness are old."""
    for what in STALE:
        (guest / f".stale-{what}").touch()


def power_switch(guest: Path) -> int:
    """Make the FIFO that powers the guest off, and open it so that it never ends."""
    fifo = guest / POWER
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo, 0o600)
    return os.open(fifo, os.O_RDWR | os.O_NONBLOCK)


def environment(guest: Path) -> dict[str, str]:
    """Return all that a command in the guest finds in its environment."""
    return {
        "HOME": str(guest / HOME),
        "USER": "admin",
        "LOGNAME": "admin",
        "TMPDIR": str(guest / "tmp"),
        "PATH": f"{guest / SHIMS}:{SYSTEM_PATH}",
        "CIDERMILL_GUARD_DIR": str(guest / GUARD),
        "CIDERMILL_SHARE_DIR": str(guest / SHARED),
        "CIDERMILL_SSH_DIR": str(guest / SSH),
    }


def find_program(command: str, guest: Path) -> str:
    """Return the program's path as the agent finds it. Raises FileNotFoundError with the agent's words."""
    if "/" in command:
        return command
    for directory in environment(guest)["PATH"].split(":"):
        path = f"{directory}/{command}"
        if command and os.access(path, os.X_OK) and Path(path).is_file():
            return path
    raise FileNotFoundError(f'exec: "{command}": executable file not found in $PATH')
