"""Suspend and resume on the stand-in: docs/contracts/tart.md §6, and what a driver must never do with a snapshot."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.sandbox.tart.faults import Fault
from app.sandbox.tart.guest import STALE
from tests.sandbox.tart_mac import Mac

COLLISION = (
    "There is already a running VM with the same MAC address!\nResetting VM to assign a new MAC address...\n"
)
RESUMED = "restoring VM state from a snapshot...\nresuming VM...\n"
UNUSABLE = "Code=12"
LONG = pytest.mark.long  # a variant of a row beside it


def stale(mac: Mac, name: str) -> set[str]:
    return {what for what in STALE if (mac.vm(name).path / "guest" / f".stale-{what}").exists()}


def resumed(mac: Mac, name: str = "c") -> None:
    """Make a clone of suspended VM ``gold``, and resume it."""
    mac.good("clone", "gold", name)
    mac.boot(name)


def test_each_clone_of_a_suspended_vm_resumes(mac: Mac) -> None:
    """One after the other as often as wanted, with the MAC of the source, which stays as it is; a snapshot serves once."""
    mac.suspended("gold", "--no-audio")
    assert mac.log("gold").endswith(
        "pausing VM to take a snapshot...\ncreating a snapshot...\nsnapshot created successfully! shutting down the VM...\n"
    )
    for name in ("c", "d"):
        mac.good("clone", "gold", name)
        assert (mac.state(name), mac.mac_of(name)) == ("suspended", mac.mac_of("gold"))
        mac.boot(name, "--no-audio")
        assert (mac.state(name), mac.log(name)) == ("running", RESUMED)
        assert stale(mac, name) == set(STALE)
        mac.good("stop", name)
        assert (mac.state(name), mac.state("gold")) == ("stopped", "suspended")
        mac.good("delete", name)
    assert mac.violations() == []


def test_what_grew_stale_is_mended_from_within(mac: Mac) -> None:
    """The clock stands an hour back until it is set, no address is had before the lease is renewed."""
    mac.suspended("gold")
    resumed(mac)
    assert mac.tart("exec", "c", "ipconfig", "getifaddr", "en0").returncode == 1
    late = int(mac.good("exec", "c", "date", "+%s"))
    mac.good("exec", "c", "sudo", "date", "-u", "010100002030.00")
    assert int(mac.good("exec", "c", "date", "+%s")) - late > 3000
    mac.good("exec", "c", "sudo", "ipconfig", "set", "en0", "DHCP")
    assert mac.good("exec", "c", "ipconfig", "getifaddr", "en0") == "192.168.64.2\n"
    assert stale(mac, "c") == {"randomness"}
    mac.good("exec", "-i", "c", "sudo", "tee", "/dev/random", stdin="0" * 64)
    assert stale(mac, "c") == set()


def test_a_second_clone_at_a_time_boots_cold_without_a_word(mac: Mac) -> None:
    """Its snapshot is gone and its MAC is new; exit code and state look as ever, and the driver's mistake is noted."""
    mac.suspended("gold")
    resumed(mac)
    resumed(mac, "d")
    assert (mac.state("d"), mac.log("d")) == ("running", COLLISION)
    assert mac.mac_of("d") != mac.mac_of("gold")
    assert not mac.vm("d").snapshot.exists()
    assert mac.violations() == ["mac-collision"]


def test_a_stranger_with_the_same_mac(mac: Mac) -> None:
    """The same on request, and nobody's mistake."""
    mac.suspended("gold")
    mac.faults(Fault("mac_taken", count=1))
    resumed(mac)
    assert (mac.log("c"), stale(mac, "c"), mac.violations()) == (COLLISION, set(), [])


@pytest.mark.parametrize(
    ("change", "noted"),
    [
        pytest.param(
            lambda mac: mac.good("set", "c", "--cpu", "3"),
            ["set-suspended", "unfit-snapshot"],
            id="set",
            marks=LONG,
        ),
        pytest.param(
            lambda mac: mac.good("set", "c", "--random-mac"), ["set-suspended", "unfit-snapshot"], id="MAC"
        ),
        pytest.param(
            lambda mac: mac.faults(version="2.36.0"), ["unfit-snapshot"], id="another tart", marks=LONG
        ),
        pytest.param(lambda mac: mac.faults(macos=16), ["unfit-snapshot"], id="another macOS", marks=LONG),
        pytest.param(lambda mac: mac.faults(Fault("restore_fails", count=2)), [], id="no reason"),
    ],
)
def test_a_restore_that_fails(mac: Mac, change: Callable[[Mac], object], noted: list[str]) -> None:
    """Exit 1 as often as it is tried; ``stop`` drops the snapshot, and then the VM boots cold."""
    mac.suspended("gold")
    mac.good("clone", "gold", "c")
    change(mac)
    for _ in range(2):
        code, said = (mac.launch("c"), mac.end_of("c"))[1]
        assert (code, UNUSABLE in said, mac.state("c")) == (1, True, "suspended")
    assert list(dict.fromkeys(mac.violations())) == noted
    mac.good("stop", "c")
    assert mac.state("c") == "stopped"
    mac.boot("c")
    assert mac.state("gold") == "suspended"


def test_other_devices_than_at_the_suspend(mac: Mac) -> None:
    """A device more or less is another configuration, and noted; ``--suspendable`` itself need not be repeated."""
    mac.suspended("gold", "--no-audio", "--net-softnet")
    mac.good("clone", "gold", "c")
    mac.launch("c", "--no-audio")
    code, said = mac.end_of("c")
    assert (code, UNUSABLE in said, mac.violations()) == (1, True, ["unfit-snapshot"])
    mac.boot("c", "--no-audio", "--net-softnet", "--suspendable")


def test_a_limit_that_is_met_after_the_restore(mac: Mac) -> None:
    """The clone's snapshot is used up; that of its source is not."""
    mac.suspended("gold")
    mac.good("clone", "gold", "c")
    mac.faults(Fault("restore_limit", count=1))
    mac.launch("c")
    code, said = mac.end_of("c")
    assert (code, "exceeds the system limit" in said, mac.state("c")) == (1, True, "stopped")
    assert mac.state("gold") == "suspended"


def test_a_guest_that_is_silent_after_its_resume(mac: Mac) -> None:
    """It runs and does not answer."""
    mac.suspended("gold")
    mac.good("clone", "gold", "c")
    mac.faults(Fault("resume_silent", count=1), agent_timeout=0.2)
    mac.launch("c")
    mac.until(lambda: "resuming" in mac.log("c"))
    assert mac.tart("exec", "c", "true").returncode == 1
    assert mac.state("c") == "running"


def test_a_suspend_that_fails(mac: Mac) -> None:
    """``suspend`` itself says nothing of it: the VM is gone, with its reason on stdout; not asked for is noted."""
    mac.boot("a")
    mac.good("suspend", "a")
    assert mac.end_of("a")[0] == 1
    assert mac.log("a").startswith("Failed to suspend the VM: ")
    assert (mac.state("a"), mac.violations()) == ("stopped", ["unsuspendable"])
    mac.faults(Fault("suspend_fails", count=1))
    mac.boot("b", "--suspendable")
    mac.good("suspend", "b")
    assert mac.end_of("b")[0] == 1
    assert (mac.state("b"), mac.violations()) == ("stopped", ["unsuspendable"])


def test_a_running_vm_is_never_cloned(mac: Mac) -> None:
    """Tart does it, about right; a driver that asks for it is noted, also while the VM is being suspended."""
    mac.faults(suspend_seconds=60)
    mac.boot("a", "--suspendable")
    mac.good("clone", "a", "b")
    mac.good("suspend", "a")
    mac.until(lambda: "pausing" in mac.log("a"))
    mac.good("clone", "a", "c")
    assert mac.violations() == ["clone-running", "clone-running"]
    mac.processes["a"].kill()
