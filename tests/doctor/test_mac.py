"""macOS, as its own commands tell of it: a sample of each output, gathered, read and judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from app.doctor import mac, mac_checks
from app.doctor.mac_checks import MacFacts
from app.doctor.shell import Said
from app.domain.pools import Pool, Start
from tests.builders import a_pool
from tests.doctor.seen import expect

SAMPLES = Path(__file__).parent.parent / "samples" / "macos"
MUTE = Said(None, "", "no such command")


def out(name: str) -> Said:
    return Said(0, (SAMPLES / name).read_text(encoding="utf-8"))


def err(name: str, code: int = 1) -> Said:
    return Said(code, "", (SAMPLES / name).read_text(encoding="utf-8"))


GOOD = {
    "sysctl -n hw.optional.arm64": out("sysctl-arm64.txt"),
    "sysctl -n sysctl.proc_translated": Said(0, "0\n"),
    "sw_vers": out("sw_vers.txt"),
    "launchctl managername": out("launchctl-managername.txt"),
    "launchctl print": out("launchctl-print-gui.txt"),
    "security": err("keychain-open.err", 0),
    "defaults read /Library/Preferences/com.apple.loginwindow": out("auto-login.txt"),
    "fdesetup": out("filevault-off.txt"),
    "pmset": out("pmset.txt"),
    "defaults read /Library/Preferences/SystemConfiguration": out("bootpd.txt"),
    "df": out("df.txt"),
    "diskutil": out("diskutil.plist"),
    "sntp": out("sntp.txt"),
}
RESUMING = a_pool(network="softnet", start=Start.SNAPSHOT)
SONOMA = Said(0, "14.7.1\n")
NAT, SOFTNET = a_pool(network="nat"), a_pool(network="softnet")


class Recorded:
    """A Mac that answers from samples."""

    def __init__(self, changes: dict[str, Said]) -> None:
        self._answers = GOOD | changes

    async def __call__(self, argv: Sequence[str]) -> Said:
        line = " ".join(argv)
        return next(said for command, said in self._answers.items() if line.startswith(command))


async def facts_of(
    tmp_path: Path, changes: dict[str, Said], *, pool: Pool = NAT, uid: int = 501, leases: int = 3
) -> MacFacts:
    file = tmp_path / "dhcpd_leases"
    file.write_text("{\n\tname=guest\n}\n" * leases)
    found = await mac.gather(
        Recorded(changes), tart_home=tmp_path / "tart", user=lambda: "ci", uid=lambda: uid, leases=file
    )
    return MacFacts(mac=found, pools=(pool,))


AUTO = "defaults read /Library/Preferences/com.apple.loginwindow"
BOOTPD = "defaults read /Library/Preferences/SystemConfiguration"


def row(
    check: str, code: str, name: str, changes: dict[str, Said] | None = None, **more: Any
) -> ParameterSet:
    return pytest.param(check, code, changes or {}, more, id=name)


TABLE = [
    row("apple-silicon", "intel", "an Intel Mac", {"sysctl -n hw.optional.arm64": err("sysctl-intel.err")}),
    row("apple-silicon", "rosetta", "Rosetta", {"sysctl -n sysctl.proc_translated": Said(0, "1\n")}),
    row("apple-silicon", "unknown", "no sysctl", {"sysctl -n hw.optional.arm64": MUTE}),
    row("macos-version", "old", "macOS 13", {"sw_vers": out("sw_vers-ventura.txt")}),
    row("macos-version", "unknown", "no version", {"sw_vers": Said(0, "tomorrow\n")}),
    row(
        "gui-session",
        "nobody",
        "nobody at the screen",
        {"launchctl print": err("launchctl-print-gui-none.err", 113)},
    ),
    row("gui-session", "other", "over SSH", {"launchctl managername": out("launchctl-managername-ssh.txt")}),
    row("gui-session", "unknown", "no launchctl", {"launchctl managername": MUTE}),
    row("keychain", "locked", "a locked keychain", {"security": err("keychain-locked.err", 36)}),
    row("keychain", "missing", "no keychain", {"security": err("keychain-missing.err", 50)}),
    row("keychain", "locks", "a keychain that locks by itself", {"security": err("keychain-locks.err", 0)}),
    row("keychain", "unknown", "another answer of security", {"security": Said(1, "", "security: what?")}),
    row("auto-login", "off", "no automatic login", {AUTO: err("auto-login-off.err")}),
    row("auto-login", "other", "automatic login of another", {AUTO: Said(0, "anna\n")}),
    row("auto-login", "filevault", "FileVault", {"fdesetup": out("filevault-on.txt")}),
    row("auto-login", "unknown", "no defaults", {AUTO: MUTE}),
    row("sleep", "sleeps", "a Mac that sleeps", {"pmset": out("pmset-sleeps.txt")}),
    row("sleep", "stays_off", "off after a power failure", {"pmset": out("pmset-stays-off.txt")}),
    row("sleep", "unknown", "no pmset", {"pmset": MUTE}),
    row("dhcp-lease", "long", "leases of a day", {BOOTPD: err("bootpd-unset.err")}),
    row("apfs", "other", "HFS+", {"diskutil": out("diskutil-hfs.plist")}),
    row("apfs", "unknown", "no plist of diskutil", {"diskutil": Said(0, "no plist")}),
    row("apfs", "unknown", "a network volume", {"df": Said(0, "Filesystem\nmap auto_home 0 0\n")}),
    row("snapshot-start", "old", "macOS 14", {"sw_vers": SONOMA}, pool=RESUMING),
    row("clock", "skewed", "seven seconds off", {"sntp": out("sntp-skewed.txt")}),
    row("clock", "far_off", "five minutes off", {"sntp": out("sntp-far-off.txt")}),
    row("clock", "unknown", "no answer of the time server", {"sntp": err("sntp-timeout.err")}),
    row("not-root", "root", "root", uid=0),
    row("dhcp-lease", "used_up", "all addresses are given away", leases=250),
]


@pytest.mark.parametrize(("check", "code", "changes", "more"), TABLE)
async def test_what_is_wrong_is_found(
    check: str, code: str, changes: dict[str, Said], more: dict[str, Any], tmp_path: Path
) -> None:
    """Each trouble is found from what the command prints, with its mend, and no other check minds."""
    facts = await facts_of(tmp_path, changes, **more)
    for one, look in mac_checks.CHECKS:
        expect(look(facts), code if one.name == check else "ok")


async def test_a_good_mac_is_fine(tmp_path: Path) -> None:
    """Nothing is found where nothing is wrong."""
    facts = await facts_of(tmp_path, {})
    for _, look in mac_checks.CHECKS:
        expect(look(facts), "ok")


async def test_snapshots_need_no_more_than_macos_15(tmp_path: Path) -> None:
    """A Mac that can is fine, and one that does not tell is unknown; without such a pool none of it matters."""
    expect(mac_checks.snapshot_start(await facts_of(tmp_path, {}, pool=RESUMING)), "ok")
    mute = await facts_of(tmp_path, {"sw_vers": MUTE}, pool=RESUMING)
    expect(mac_checks.snapshot_start(mute), "unknown")
    expect(mac_checks.snapshot_start(await facts_of(tmp_path, {"sw_vers": SONOMA})), "ok")


async def test_softnet_has_addresses_of_its_own(tmp_path: Path) -> None:
    """Addresses matter only where a pool takes vmnet's own."""
    expect(mac_checks.dhcp_lease(await facts_of(tmp_path, {}, pool=SOFTNET, leases=250)), "ok")


async def test_a_mac_that_answers_nothing_is_unknown_and_not_broken(tmp_path: Path) -> None:
    """No check takes silence for a failure, but for the Mac that has no session at the screen."""
    facts = await facts_of(tmp_path, dict.fromkeys(GOOD, MUTE))
    silent = {look(facts).code for _, look in mac_checks.CHECKS}
    assert silent == {"", "unknown", "long"}  # vmnet's default is a day
