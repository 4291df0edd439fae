"""What a Mac needs to host VMs: one small function a check, facts in, finding out (docs/contracts/tart.md §9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.doctor.finding import Check, Finding, failure, warning
from app.doctor.mac import LEASES, LOGIN_WINDOW, SHARING, TIME_SERVER, Mac
from app.domain.pools import Pool, Start

SUSPENDING = (15, 0, 0)  # tart attaches console devices, which macOS 14 cannot save
OLDEST = (14, 0, 0)  # tart exec needs a macOS 14 host
SHORT_LEASE = 3600  # seconds; longer, and a busy day uses up vmnet's 253 addresses
MANY_LEASES = 240
SKEWED, FAR_OFF = 5.0, 60.0  # seconds; GitHub allows a minute
AGENT = "run CiderMill as a launch agent of this user, who is logged in at the screen (docs/operating.md)"

APPLE_SILICON = Check(
    area="mac",
    name="apple-silicon",
    looks_at="the processor, and whether Python runs natively",
    why="macOS guests run only on Apple silicon.",
    troubles={
        "intel": failure("this Mac has no Apple silicon", "use a Mac with an M1 or later"),
        "rosetta": warning(
            "Python runs under Rosetta",
            "install an arm64 Python (`brew install python`) and CiderMill with it",
        ),
    },
)
MACOS = Check(
    area="mac",
    name="macos-version",
    looks_at="the version of macOS",
    why="CiderMill speaks to guests by `tart exec`, which needs macOS 14 on the host.",
    troubles={
        "old": failure(
            "macOS {version} is too old", "update to macOS 14 or later in System Settings > General"
        ),
    },
)
SNAPSHOT = Check(
    area="mac",
    name="snapshot-start",
    looks_at='the version of macOS, where a pool has start = "snapshot"',
    why="macOS suspends a VM as tart makes it from version 15 on; before, its VMs boot.",
    troubles={
        "old": warning(
            'pool {pool} has start = "snapshot", and macOS {version} cannot suspend its VMs',
            'update to macOS 15 or later in System Settings > General, or leave start = "snapshot" out',
        ),
    },
)
NOT_ROOT = Check(
    area="mac",
    name="not-root",
    looks_at="the user that CiderMill runs as",
    why="As root macOS 15 and later start no macOS guest, and a mistake would cost the whole Mac.",
    troubles={
        "root": failure(
            "it runs as root", "run it as the normal user who is logged in at the screen, without sudo"
        ),
    },
)
GUI_SESSION = Check(
    area="mac",
    name="gui-session",
    looks_at="whether this user is logged in at the screen, and whether this process belongs to that session",
    why="macOS 15 and later start macOS guests only for a user with a session at the screen.",
    troubles={
        "nobody": failure(
            "{user} is not logged in at the screen",
            "log {user} in at the screen (Screen Sharing will do), and switch on automatic login in System "
            "Settings > Users & Groups",
        ),
        "other": failure(
            "this process is in the session {session}, not at the screen (Aqua)",
            AGENT + "; if you asked over SSH while CiderMill runs, look at `server` below",
        ),
    },
)
KEYCHAIN = Check(
    area="mac",
    name="keychain",
    looks_at="the login keychain, as this process sees it",
    why="Each start of a macOS guest makes a key in it; locked, starts fail with VZErrorDomain Code=1 or -9.",
    troubles={
        "missing": failure(
            "there is no login keychain",
            "`security create-keychain -P login.keychain` and `security default-keychain -s login.keychain`",
        ),
        "locked": failure(
            "it is locked", "`security unlock-keychain login.keychain`, and log in at the screen: " + AGENT
        ),
        "locks": warning(
            "it locks by itself ({when})",
            "`security set-keychain-settings login.keychain`, which sets no time-out",
        ),
    },
)
AUTO_LOGIN = Check(
    area="mac",
    name="auto-login",
    looks_at="who is logged in after a start, and FileVault",
    why="After a power failure or an update nobody is there to log in, and without a session no VM starts.",
    troubles={
        "off": warning(
            "nobody is logged in after a start",
            "System Settings > Users & Groups > Automatically log in as: {user}",
        ),
        "other": warning(
            "{other} is logged in after a start, and CiderMill runs as {user}",
            "System Settings > Users & Groups > Automatically log in as: {user}",
        ),
        "filevault": warning(
            "FileVault is on, so that a start waits for a password",
            "switch it off in System Settings > Privacy & Security > FileVault, or be there after each start",
        ),
    },
)
SLEEP = Check(
    area="mac",
    name="sleep",
    looks_at="whether the Mac sleeps, and whether it comes back after a power failure",
    why="A Mac that sleeps takes its VMs along: jobs stall until GitHub gives them up.",
    troubles={
        "sleeps": failure(
            "it sleeps after {minutes} minutes", "`sudo pmset -a sleep 0 disksleep 0 displaysleep 10`"
        ),
        "stays_off": warning("after a power failure it stays off", "`sudo pmset -a autorestart 1`"),
    },
)
DHCP = Check(
    area="mac",
    name="dhcp-lease",
    looks_at='how long vmnet gives addresses away for, where a pool has network = "nat"',
    why="Every VM takes an address; at a day for each the 253 there are run out, and guests get no network.",
    troubles={
        "long": warning(
            'pool {pool} has network = "nat", and an address is given away for {seconds} seconds',
            f'`sudo defaults write {SHARING} bootpd -dict DHCPLeaseTimeSecs -int 600`, or network = "softnet"',
        ),
        "used_up": failure(
            "{count} addresses are given away, of about 253",
            f"stop all VMs, `sudo rm {LEASES}`, and set a short lease: `sudo defaults write {SHARING} bootpd "
            "-dict DHCPLeaseTimeSecs -int 600`",
        ),
    },
)
APFS = Check(
    area="mac",
    name="apfs",
    looks_at="the file system under TART_HOME",
    why="Only APFS clones an image in a moment and without room; elsewhere each VM is a full copy.",
    troubles={
        "other": failure(
            "TART_HOME is on {kind}", "put it on a volume with APFS, and set tart_home to where it is then"
        ),
    },
)
CLOCK = Check(
    area="mac",
    name="clock",
    looks_at=f"this Mac's clock against {TIME_SERVER}",
    why="GitHub refuses an App whose clock is a minute off, and guests take their time from the host.",
    troubles={
        "skewed": warning(
            "it is {seconds} s off",
            "System Settings > General > Date & Time > Set time and date automatically",
        ),
        "far_off": failure(
            "it is {seconds} s off",
            "`sudo sntp -sS time.apple.com`, and System Settings > General > Date & Time > Set time and date "
            "automatically",
        ),
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MacFacts:
    """What the checks of a Mac go by."""

    mac: Mac
    pools: Sequence[Pool] = ()


def apple_silicon(facts: MacFacts) -> Finding:
    """Want Apple silicon, and natively."""
    match facts.mac.arm64:
        case None:
            return APPLE_SILICON.unknown(because="sysctl does not answer", by_hand="sysctl hw.optional.arm64")
        case False:
            return APPLE_SILICON.wrong("intel")
    return APPLE_SILICON.wrong("rosetta") if facts.mac.translated else APPLE_SILICON.fine("Apple silicon")


def macos_version(facts: MacFacts) -> Finding:
    """Want a macOS that is new enough."""
    found = facts.mac.macos
    if found is None:
        return MACOS.unknown(because="sw_vers tells no version", by_hand="sw_vers")
    version = ".".join(map(str, found))
    return MACOS.wrong("old", version=version) if found < OLDEST else MACOS.fine(f"macOS {version}")


def snapshot_start(facts: MacFacts) -> Finding:
    """Want a macOS that suspends VMs, where a pool has them resumed."""
    pools = [pool.name for pool in facts.pools if pool.start is Start.SNAPSHOT]
    found = facts.mac.macos
    if not pools:
        return SNAPSHOT.fine("no pool asks for it")
    if found is None:
        return SNAPSHOT.unknown(because="sw_vers tells no version", by_hand="sw_vers")
    version = ".".join(map(str, found))
    if found < SUSPENDING:
        return SNAPSHOT.wrong("old", pool=pools[0], version=version)
    return SNAPSHOT.fine(f"macOS {version} can suspend VMs")


def not_root(facts: MacFacts) -> Finding:
    """Want not root."""
    return NOT_ROOT.wrong("root") if facts.mac.uid == 0 else NOT_ROOT.fine(f"it runs as {facts.mac.user}")


def gui_session(facts: MacFacts) -> Finding:
    """Want a session at the screen, and we in it."""
    mac = facts.mac
    if mac.has_gui is False:
        return GUI_SESSION.wrong("nobody", user=mac.user)
    if mac.has_gui is None or mac.session is None:
        return GUI_SESSION.unknown(because="launchctl does not answer", by_hand="launchctl managername")
    if mac.session != "Aqua":
        return GUI_SESSION.wrong("other", session=mac.session)
    return GUI_SESSION.fine(f"{mac.user} is logged in at the screen, and this process belongs to it")


def keychain(facts: MacFacts) -> Finding:
    """Want an open login keychain that stays open."""
    found = facts.mac.keychain
    if found is None:
        return KEYCHAIN.unknown(
            because="security does not answer", by_hand="security show-keychain-info login.keychain"
        )
    if not found.exists:
        return KEYCHAIN.wrong("missing")
    if not found.is_open:
        return KEYCHAIN.wrong("locked")
    when = [f"after {found.locks_after} s"] if found.locks_after is not None else []
    when += ["when the Mac sleeps"] if found.locks_on_sleep else []
    return (
        KEYCHAIN.wrong("locks", when=" and ".join(when))
        if when
        else KEYCHAIN.fine("it is open, and stays so")
    )


def auto_login(facts: MacFacts) -> Finding:
    """Want this user, logged in after a start."""
    mac = facts.mac
    if mac.filevault:
        return AUTO_LOGIN.wrong("filevault")
    if not mac.auto_login_known:
        return AUTO_LOGIN.unknown(
            because="its setting cannot be read", by_hand=f"defaults read {LOGIN_WINDOW} autoLoginUser"
        )
    if mac.auto_login is None:
        return AUTO_LOGIN.wrong("off", user=mac.user)
    if mac.auto_login != mac.user:
        return AUTO_LOGIN.wrong("other", other=mac.auto_login, user=mac.user)
    return AUTO_LOGIN.fine(f"{mac.user} is logged in after a start")


def sleep(facts: MacFacts) -> Finding:
    """Want no sleep, and a start after a power failure."""
    mac = facts.mac
    if mac.sleep is None:
        return SLEEP.unknown(because="pmset does not tell", by_hand="pmset -g")
    if mac.sleep:
        return SLEEP.wrong("sleeps", minutes=mac.sleep)
    # A portable Mac knows no autorestart: its battery bridges a failure.
    return SLEEP.wrong("stays_off") if mac.restarts is False else SLEEP.fine("it never sleeps")


def dhcp_lease(facts: MacFacts) -> Finding:
    """Want short leases, where vmnet's own DHCP server is used."""
    natted = [pool.name for pool in facts.pools if pool.network == "nat"]
    if not natted:
        return DHCP.fine("no pool uses vmnet's own network: softnet keeps leases short itself")
    if facts.mac.leases is not None and facts.mac.leases >= MANY_LEASES:
        return DHCP.wrong("used_up", count=facts.mac.leases)
    seconds = 86400 if facts.mac.lease is None else facts.mac.lease
    if seconds > SHORT_LEASE:
        return DHCP.wrong("long", pool=natted[0], seconds=seconds)
    return DHCP.fine(f"an address is given away for {seconds} s")


def apfs(facts: MacFacts) -> Finding:
    """Want APFS under TART_HOME."""
    kind = facts.mac.file_system
    if kind is None:
        return APFS.unknown(because="diskutil does not tell", by_hand="diskutil info /System/Volumes/Data")
    return APFS.fine("TART_HOME is on APFS") if kind == "apfs" else APFS.wrong("other", kind=kind)


def clock(facts: MacFacts) -> Finding:
    """Want a clock that is right."""
    offset = facts.mac.clock_offset
    if offset is None:
        return CLOCK.unknown(because=f"{TIME_SERVER} does not answer", by_hand=f"sntp {TIME_SERVER}")
    seconds = round(abs(offset), 1)
    if seconds < SKEWED:
        return CLOCK.fine(f"it is right to {seconds} s")
    return CLOCK.wrong("far_off" if seconds >= FAR_OFF else "skewed", seconds=seconds)


CHECKS: tuple[tuple[Check, Callable[[MacFacts], Finding]], ...] = (
    (APPLE_SILICON, apple_silicon),
    (MACOS, macos_version),
    (SNAPSHOT, snapshot_start),
    (NOT_ROOT, not_root),
    (GUI_SESSION, gui_session),
    (KEYCHAIN, keychain),
    (AUTO_LOGIN, auto_login),
    (SLEEP, sleep),
    (DHCP, dhcp_lease),
    (APFS, apfs),
    (CLOCK, clock),
)
