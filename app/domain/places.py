"""What room is left on the hosts, as a pass hands it out: which slot the next VM of a pool may take.

A slot is free only if no live runner holds it *and* its host has the room: what strangers' VMs take counts, and so do
VMs with a name of ours that no live runner owns. Of the hosts with room, one that has the pool's image goes before one that
would have to fetch it, as far as that is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from itertools import count

from app.domain.pools import Pool, host_of, slot_name
from app.domain.runners import Runner
from app.domain.world import Host, World


def warnings(world: World) -> Iterator[str]:
    """Yield one sentence for each host that takes nothing new."""
    for host in world.host.hosts if world.host else ():
        if host.closed:
            yield f"{host.name} takes no VMs: {host.closed}."


def reseated(world: World) -> dict[str, str]:
    """Return the slots of runners whose VM is on another host than their slot: whoever has the hosts chose it."""
    placed = {vm.name: vm.host for vm in world.host.vms if vm.host} if world.host else {}
    if not placed:
        return {}
    moved = [r for r in world.live if placed.get(r.name, host_of(r.slot)) != host_of(r.slot)]
    held = {runner.slot for runner in world.live} - {runner.slot for runner in moved}
    slots: dict[str, str] = {}
    for runner in moved:
        slots[runner.name] = _next_free(placed[runner.name], held)
        held.add(slots[runner.name])
    return slots


def suits(pool: Pool, host: Host, room: Mapping[str, int] | None = None) -> bool:
    """Whether a host can run a VM of *pool* in the *room* that is left there; None: were nothing else on it."""
    left = host.room if room is None else room
    if any(left.get(what, 0) < amount for what, amount in pool.takes.items()):
        return False
    return all(host.traits.get(trait) == value for trait, value in pool.wants.items())


def _next_free(host: str, held: set[str]) -> str:
    return next(slot for n in count(1) if (slot := slot_name(host, n)) not in held)


class Room:
    """The hosts' room, less what is taken. Unknown room is no room."""

    def __init__(self, world: World) -> None:
        hosts = world.host.hosts if world.host else ()
        vms = world.host.vms if world.host else ()
        live = world.live
        names = {runner.name for runner in live}
        self._hosts = tuple(host for host in hosts if not host.closed)
        self._left = {host.name: dict(host.room) for host in hosts}
        self._images, self._spread = world.images_at, world.spread
        self._load = dict.fromkeys(self._left, 0)  # VMs on each host
        self._held: set[str] = set()
        self._ours = dict.fromkeys(self._left, 0)
        for vm in vms:
            if vm.name not in names:
                if vm.takes:
                    self._load[vm.host] = self._load.get(vm.host, 0) + 1
                self._subtract(vm.host, vm.takes)
        for runner in live:
            self.take(runner.slot, runner.spec)

    def copy(self) -> Room:
        """Return the same room, to be handed out apart from this."""
        twin = copy(self)
        twin._left = {host: dict(left) for host, left in self._left.items()}
        twin._held, twin._ours, twin._load = set(self._held), dict(self._ours), dict(self._load)
        return twin

    def slot_for(self, pool: Pool) -> str | None:
        """Return the slot that the next VM of *pool* would take; None: there is no room for it."""
        fitting = [host for host in self._hosts if self._fits(pool, host)]
        if not fitting:
            return None
        host = fitting[0] if len(fitting) == 1 else min(fitting, key=lambda host: self._order(pool, host))
        return _next_free(host.name, self._held)

    def _order(self, pool: Pool, host: Host) -> tuple[bool, int]:
        return (host.name, pool.image) not in self._images, self._load[host.name] if self._spread else 0

    def slot_on(self, host: str, pool: Pool) -> str | None:
        """Return the slot that a VM of *pool* would take on *host*; None: there is no room for it."""
        fits = any(one.name == host and self._fits(pool, one) for one in self._hosts)
        return _next_free(host, self._held) if fits else None

    def take(self, slot: str, pool: Pool) -> None:
        """Take note that a VM of *pool* holds *slot*."""
        host = host_of(slot)
        self._held.add(slot)
        self._ours[host] = self._ours.get(host, 0) + 1
        self._load[host] = self._load.get(host, 0) + 1
        self._subtract(host, pool.takes)

    def give_back(self, slot: str, pool: Pool) -> None:
        """Take note that a VM of *pool* holds *slot* no longer."""
        host = host_of(slot)
        self._held.discard(slot)
        self._ours[host] -= 1
        self._load[host] -= 1
        self._subtract(host, {what: -amount for what, amount in pool.takes.items()})

    def fits_without(self, runner: Runner, pool: Pool) -> bool:
        """Whether there would be room for a VM of *pool* if *runner* gave its own back."""
        self.give_back(runner.slot, runner.spec)
        fits = self.slot_for(pool) is not None
        self.take(runner.slot, runner.spec)
        return fits

    def _fits(self, pool: Pool, host: Host) -> bool:
        if host.most is not None and self._ours[host.name] >= host.most:
            return False
        return suits(pool, host, self._left[host.name])

    def _subtract(self, host: str, taken: Mapping[str, int]) -> None:
        left = self._left.get(host)
        if left is not None:
            for what, amount in taken.items():
                left[what] = left.get(what, 0) - amount
