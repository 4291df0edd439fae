"""Reads what macOS's own commands print. None means that the text does not tell.

Written from memory of what the commands print (tests/samples/macos/README.md); none of it
was tried on a Mac.
"""

from __future__ import annotations

import plistlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.parsers.expat import ExpatError

from app.doctor.shell import Said

VERSION = re.compile(r"^\s*(\d+)\.(\d+)(?:\.(\d+))?\s*$")
PMSET = re.compile(r"^\s*([a-z]+)\s+(\d+)(?:\s|$)", re.MULTILINE)
LEASE = re.compile(r"DHCPLeaseTimeSecs\W+(\d+)")
OFFSET = re.compile(r"^([+-]\d+\.\d+)\s+\+/-", re.MULTILINE)
TIMEOUT = re.compile(r"timeout=(\d+)s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keychain:
    """The login keychain: whether it is there and open, and when it locks by itself."""

    exists: bool = True
    is_open: bool = True
    locks_after: int | None = None  # seconds; None: never
    locks_on_sleep: bool = False


def macos(said: Said) -> tuple[int, ...] | None:
    """Read ``sw_vers -productVersion``."""
    found = VERSION.match(said.out)
    return tuple(int(part or 0) for part in found.groups()) if found else None


def flag(said: Said) -> bool | None:
    """Read ``sysctl -n NAME`` of a switch; a name that this machine does not know means no."""
    if "unknown oid" in said.err:
        return False
    return said.out.strip() == "1" if said.ok else None


def session(said: Said) -> str | None:
    """Read ``launchctl managername``: Aqua, Background, System, LoginWindow."""
    return said.out.strip() or None if said.ok else None


def keychain(said: Said) -> Keychain | None:
    """Read ``security show-keychain-info FILE``, which answers on standard error."""
    if said.ok:
        timeout = TIMEOUT.search(said.err)
        return Keychain(
            locks_after=int(timeout[1]) if timeout else None, locks_on_sleep="lock-on-sleep" in said.err
        )
    if "could not be found" in said.err:
        return Keychain(exists=False, is_open=False)
    if "User interaction is not allowed" in said.err or "keychain is locked" in said.err:
        return Keychain(is_open=False)
    return None


def default(said: Said) -> tuple[bool, str | None]:
    """Read ``defaults read DOMAIN KEY``: whether it answered, and the value; None: it is not set."""
    if said.ok:
        return True, said.out.strip() or None
    return "does not exist" in said.err, None


def filevault(said: Said) -> bool | None:
    """Read ``fdesetup status``."""
    if "FileVault is On" in said.out:
        return True
    return False if "FileVault is Off" in said.out else None


def power(said: Said) -> Mapping[str, int]:
    """Read ``pmset -g``: the settings in force."""
    return {name: int(value) for name, value in PMSET.findall(said.out)}


def lease(said: Said) -> int | None:
    """Read the ``bootpd`` dictionary of ``defaults read … InternetSharing.default.plist bootpd``: seconds."""
    found = LEASE.search(said.out)
    return int(found[1]) if found else None


def device(said: Said) -> str | None:
    """Read ``df -P PATH``: the device that holds the path."""
    lines = said.out.splitlines()
    return lines[1].split()[0] if said.ok and len(lines) > 1 and lines[1].startswith("/dev/") else None


def file_system(said: Said) -> str | None:
    """Read ``diskutil info -plist DEVICE``: ``apfs``, ``hfs``."""
    try:
        told = plistlib.loads(said.out.encode())
    except (plistlib.InvalidFileException, ExpatError, ValueError):
        return None
    kind = told.get("FilesystemType") if isinstance(told, dict) else None
    return kind if isinstance(kind, str) else None


def offset(said: Said) -> float | None:
    """Read ``sntp SERVER``: by how many seconds the server is ahead of this clock."""
    found = OFFSET.search(said.out)
    return float(found[1]) if found else None
