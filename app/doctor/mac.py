"""The facts about macOS that a VM host depends on, gathered by its own commands (docs/contracts/tart.md §9)."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.doctor import macsays
from app.doctor.macsays import Keychain
from app.doctor.shell import Said, Shell

LOGIN_WINDOW = "/Library/Preferences/com.apple.loginwindow"
SHARING = "/Library/Preferences/SystemConfiguration/com.apple.InternetSharing.default.plist"
LEASES = Path("/var/db/dhcpd_leases")
TIME_SERVER = "time.apple.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mac:
    """What macOS says of itself; None: it did not tell."""

    user: str
    uid: int
    arm64: bool | None = None
    translated: bool | None = None  # this process runs under Rosetta
    macos: tuple[int, ...] | None = None
    session: str | None = None  # that this process is in: Aqua, Background, System
    has_gui: bool | None = None  # this user is logged in at the screen
    keychain: Keychain | None = None
    auto_login: str | None = None  # the user that is logged in after a start
    auto_login_known: bool = False
    filevault: bool | None = None
    sleep: int | None = None  # minutes; 0: never
    restarts: bool | None = None  # by itself, after a power failure
    lease: int | None = None  # seconds that vmnet's DHCP server gives an address away for; None: a day
    leases: int | None = None  # that it has given
    file_system: str | None = None  # under TART_HOME
    clock_offset: float | None = None  # seconds that the time server is ahead of this clock


async def gather(
    shell: Shell,
    *,
    tart_home: Path,
    user: Callable[[], str] = getpass.getuser,
    uid: Callable[[], int] = os.geteuid,
    leases: Path = LEASES,
) -> Mac:
    """Ask all there is to ask, side by side."""
    number = uid()
    commands = {
        "arm64": ("sysctl", "-n", "hw.optional.arm64"),
        "translated": ("sysctl", "-n", "sysctl.proc_translated"),
        "macos": ("sw_vers", "-productVersion"),
        "session": ("launchctl", "managername"),
        "gui": ("launchctl", "print", f"gui/{number}"),
        "keychain": ("security", "show-keychain-info", "login.keychain-db"),
        "auto_login": ("defaults", "read", LOGIN_WINDOW, "autoLoginUser"),
        "filevault": ("fdesetup", "status"),
        "power": ("pmset", "-g"),
        "lease": ("defaults", "read", SHARING, "bootpd"),
        "df": ("df", "-P", str(_existing(tart_home))),
        "sntp": ("sntp", "-t", "5", TIME_SERVER),
    }
    answers = await asyncio.gather(*(shell(argv) for argv in commands.values()))
    said: dict[str, Said] = dict(zip(commands, answers, strict=True))
    device = macsays.device(said["df"])
    volume = await shell(("diskutil", "info", "-plist", device)) if device else Said(None)
    power = macsays.power(said["power"])
    known, auto_login = macsays.default(said["auto_login"])
    return Mac(
        user=user(),
        uid=number,
        arm64=macsays.flag(said["arm64"]),
        translated=macsays.flag(said["translated"]),
        macos=macsays.macos(said["macos"]),
        session=macsays.session(said["session"]),
        has_gui=None if said["gui"].code is None else said["gui"].ok,
        keychain=macsays.keychain(said["keychain"]),
        auto_login=auto_login,
        auto_login_known=known,
        filevault=macsays.filevault(said["filevault"]),
        sleep=power.get("sleep"),
        restarts=bool(power["autorestart"]) if "autorestart" in power else None,
        lease=macsays.lease(said["lease"]),
        leases=_count(leases),
        file_system=macsays.file_system(volume),
        clock_offset=macsays.offset(said["sntp"]),
    )


def _existing(path: Path) -> Path:
    """Return *path*, or the nearest folder above that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _count(leases: Path) -> int | None:
    try:
        return leases.read_text(encoding="ascii", errors="replace").count("{")
    except OSError:
        return None
