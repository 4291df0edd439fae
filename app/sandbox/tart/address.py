"""``ip``: by the leases of the simulated DHCP server, by its ARP table, or by asking the agent (docs/contracts/tart.md §4).

The leases are in ``TART_HOME/dhcpd_leases``, written when a guest has booted and never removed, so a stopped VM
still has an address, and a wrong one is possible, as on a Mac.
"""

from __future__ import annotations

import time
from pathlib import Path

from app.clock import utcnow
from app.sandbox.tart import faults, link
from app.sandbox.tart.home import VM, Home, address_of
from app.sandbox.tart.locking import flocked
from app.sandbox.tart.options import Spec, parse
from app.sandbox.tart.refusals import Failure, Refusal

IP = Spec("ip", ("name",), values=("--wait", "--resolver"))
LEASE_SECONDS = 86_400
TRY_SECONDS = 1.0
MOST_SECONDS = 65_535


def lease(home: Home, vm: VM, mac: str) -> None:
    """Note the address of a guest that has booted."""
    plain = ":".join(f"{int(octet, 16):x}" for octet in mac.split(":"))
    until = int(utcnow().timestamp()) + LEASE_SECONDS
    block = (
        f"{{\n\tname={vm.name}\n\tip_address={address_of(mac)}\n\thw_address=1,{plain}\n"
        f"\tidentifier=1,{plain}\n\tlease=0x{until:x}\n}}\n"
    )
    file = home.root / "dhcpd_leases"
    file.touch()
    with flocked(file), file.open("a", encoding="ascii") as leases:
        leases.write(block)


def ip(home: Home, arguments: list[str]) -> None:
    """Print the address: try, wait a second, try again until the time is up."""
    options = parse(IP, arguments)
    resolver = options.text("--resolver", "dhcp")
    if resolver not in {"dhcp", "arp", "agent"}:
        raise options.misuse(f"The value '{resolver}' is invalid for '--resolver <resolver>'")
    wait = options.number("--wait") or 0
    if not 0 <= wait <= MOST_SECONDS:
        raise options.misuse(f"The value '{wait}' is invalid for '--wait <wait>'")
    vm = home.vm(options.names[0])
    end = time.monotonic() + wait
    while True:
        found = _ask_agent(vm) if resolver == "agent" else _look_up(home, vm, resolver)
        if found is not None:
            print(found)
            return
        time.sleep(TRY_SECONDS)
        if time.monotonic() >= end:
            raise Refusal(_not_found(vm, resolver))


def _ask_agent(vm: VM) -> str | None:
    if not vm.owner:
        return None
    connection = link.connect(vm, TRY_SECONDS)
    if connection is None:
        return None
    connection.close()
    return address_of(vm.config()["macAddress"])


def _look_up(home: Home, vm: VM, resolver: str) -> str | None:
    if resolver == "arp" and not vm.owner:
        return None
    if faults.take(home.root, "lease_truncated", vm.name):
        raise Failure('Truncated(name: "hw_address")')
    file = home.root / "dhcpd_leases"
    leases = _leases(file) if file.is_file() else {}
    return leases.get(vm.config()["macAddress"])


def _leases(file: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for block in file.read_text(encoding="ascii").split("{")[1:]:
        entry = dict(line.strip().partition("=")[::2] for line in block.splitlines() if "=" in line)
        if "}" not in block or not {"hw_address", "ip_address", "lease"} <= entry.keys():
            raise Failure('UnexpectedFormat(name: "hw_address", message: "the entry is not complete")')
        kind, _, mac = entry["hw_address"].partition(",")
        if kind == "1" and int(entry["lease"], 16) > utcnow().timestamp():
            found[":".join(octet.zfill(2) for octet in mac.split(":"))] = entry["ip_address"]
    return found


def _not_found(vm: VM, resolver: str) -> str:
    text = "no IP address found" if vm.owner else "no IP address found, is your VM running?"
    if resolver == "agent":
        return f"{text} (also make sure that Guest agent for Tart is running inside of a VM)"
    if resolver == "arp" and vm.config()["os"] == "linux":
        return f"{text} (not all Linux distributions are compatible with the ARP resolver)"
    return text
