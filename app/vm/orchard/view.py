"""The fleet as a look at hosts: each usable worker with its room, each VM on the worker that has it.

A worker takes nothing new while it is paused or was not heard of for some beats; none does right after the controller
was away, until those that run VMs have been heard of again: the first VM that is asked for then would make the
controller take them for lost, and their VMs for failed (docs/contracts/orchard.md §3.5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from app.domain.pools import Names
from app.domain.world import VM, Host, HostLook, HostState, VMState
from app.vm.orchard.answers import Machine, Status, Worker
from app.vm.orchard.controller import Fleet
from app.vm.orchard.endings import ending
from app.vm.orchard.request import inward

SILENT = timedelta(seconds=60)  # a worker says that it lives every 15 s
FRESH = timedelta(seconds=20)
PAUSED = "it is paused"
SETTLING = "the controller was away, and waits for its workers"


def host_look(fleet: Fleet, names: Names, *, at: datetime, settling: bool) -> HostLook:
    """Return what *fleet* looks like at *at*, by our clock; *settling*: the controller has just come back."""
    loads = Counter(machine.worker for machine in fleet.machines if machine.placed)
    waits = settling and any(
        loads[worker.name] and not is_fresh(worker, fleet.at) for worker in fleet.workers
    )
    # As the scheduler fills them by itself: the busiest first.
    workers = sorted(fleet.workers, key=lambda worker: (-loads[worker.name], worker.name))
    return HostLook(
        at=at,
        vms=tuple(_seen(machine, names) for machine in fleet.machines),
        hosts=tuple(_host(worker, fleet.at, waits=waits) for worker in workers),
        free_disk_gb=None,
        images=None,
    )


def is_fresh(worker: Worker, now: datetime) -> bool:
    """Whether a worker was heard of in its last beat or two."""
    return worker.last_seen is not None and now - worker.last_seen <= FRESH


def _host(worker: Worker, now: datetime, *, waits: bool) -> Host:
    state, closed = _standing(worker, now, waits=waits)
    return Host(
        name=worker.name,
        room=inward(worker.resources),
        traits=dict(_traits(worker)),
        state=state,
        closed=closed,
        seen_at=worker.last_seen,
        can_be_chosen=bool(worker.pin),
    )


def _standing(worker: Worker, now: datetime, *, waits: bool) -> tuple[HostState, str]:
    """Return whether a worker takes new VMs, and why not."""
    if worker.last_seen is None or now - worker.last_seen > SILENT:
        since = f"since {worker.last_seen:%H:%M:%S} UTC" if worker.last_seen else "yet"
        return HostState.SILENT, f"it was not heard of {since}"
    if worker.paused:
        return HostState.PAUSED, PAUSED
    return (HostState.WAITING, SETTLING) if waits else (HostState.OPEN, "")


def _traits(worker: Worker) -> Iterator[tuple[str, str]]:
    yield "arch", worker.arch
    yield "runtime", worker.runtime
    yield from ((f"label:{name}", value) for name, value in worker.labels.items())


def _seen(machine: Machine, names: Names) -> VM:
    failed = machine.status is Status.FAILED
    return VM(
        name=machine.name,
        state=VMState.STOPPED if failed else VMState.RUNNING,
        host=machine.worker,
        takes=inward(machine.resources) if machine.placed else {},
        ending=ending(machine.message).code if failed and names.is_runner(machine.name) else None,
    )
