"""A model of the Orchard controller: its records, its scheduler and what goes wrong with it on purpose.

docs/contracts/orchard.md §3 in small. A pass takes ``pace`` seconds where the real one takes five; the workers of the
model (:mod:`app.sandbox.orchard.worker`) run their VMs on the sandbox's tart.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.sandbox.orchard.values import Record, Refused, WorkerRecord, covers, new_record

ROLES = frozenset({"compute:read", "compute:write", "compute:connect", "admin:read", "admin:write"})


@dataclass(frozen=True, slots=True)
class Account:
    """Whose credentials they are, and what they may do."""

    token: str
    roles: frozenset[str]


@dataclass(slots=True)
class Faults:
    """What goes wrong, on purpose: how often each still does."""

    answer: list[int] = field(default_factory=list)  # statuses that the next calls get instead
    lost_answer: int = 0  # a POST that is done and answered by 500
    exec_drops: int = 0  # the connection ends after the upgrade, and the command was run
    exec_error: int = 0  # an `error` frame instead of an `exit`
    exec_silent: int = 0  # no answer at all


class OrchardModel:
    """The controller."""

    def __init__(self, clock: Callable[[], datetime], *, pace: float = 0.2, version: str = "0.55.0") -> None:
        self.clock, self.pace, self.version = clock, pace, version
        self.accounts: dict[str, Account] = {}
        self.vms: dict[str, Record] = {}
        self.workers: dict[str, WorkerRecord] = {}
        self.pokes: dict[str, asyncio.Event] = {}
        self.faults = Faults()
        self.offline_after = timedelta(minutes=3)
        self.distribute = False  # the scheduler's profile: emptiest first
        self.log: list[str] = []  # of requests, with their queries, as the real one's
        self._due = asyncio.Event()

    def account(self, name: str, token: str, *roles: str) -> None:
        """Make a service account."""
        self.accounts[name] = Account(token, frozenset(roles) & ROLES)

    def create(self, body: object) -> Record:
        """Take a VM in, and have it placed at once. Raises Refused."""
        record = new_record(body, self.clock())
        if record.name in self.vms:
            raise Refused(409, "VM with this name already exists")
        self.vms[record.name] = record
        self._due.set()
        return record

    def vm(self, name: str) -> Record:
        """Return a VM. Raises Refused."""
        if name not in self.vms:
            raise Refused(404)
        return self.vms[name]

    async def schedule(self) -> None:
        """Check and place, every pass and at each VM that is asked for, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self.pace):
                    await self._due.wait()
            except TimeoutError:
                pass
            self._due.clear()
            self.check()
            self.place()

    def check(self) -> None:
        """Fail the VMs of workers that are lost, and free what failed ones took."""
        for record in self.vms.values():
            if record.status == "failed" and record.scheduled:
                record.scheduled = record.runs = False
            elif record.worker and not record.is_over() and not self.is_online(record.worker):
                gone = record.worker not in self.workers
                record.status = "failed"
                record.message = "VM is assigned to a worker that " + (
                    "doesn't exist anymore" if gone else "lost connection with the controller"
                )

    def is_online(self, name: str) -> bool:
        """Whether a worker was heard of lately."""
        worker = self.workers.get(name)
        return worker is not None and self.clock() - worker.last_seen <= self.offline_after

    def place(self) -> None:
        """Give every VM that waits a worker that fits, the oldest first; one that fits nowhere blocks no other."""
        waiting = [r for r in self.vms.values() if r.status == "pending" and not r.scheduled]
        for record in sorted(waiting, key=lambda r: r.created_at):
            worker = next(self._fitting(record), None)
            if worker is not None:
                record.worker, record.scheduled, record.scheduled_at = worker.name, True, self.clock()
                record.version += 1
                self.pokes.setdefault(worker.name, asyncio.Event()).set()

    def _fitting(self, record: Record) -> Iterator[WorkerRecord]:
        loads = Counter(other.worker for other in self.vms.values() if other.scheduled)
        order = 1 if self.distribute else -1
        for worker in sorted(self.workers.values(), key=lambda w: (order * loads[w.name], w.name)):
            kind = (record.asked["arch"], record.asked["runtime"])
            labels = record.asked.get("labels", {})
            if (
                self.is_online(worker.name)
                and not worker.paused
                and kind == (worker.arch, worker.runtime)
                and labels.items() <= worker.labels.items()
                and covers(self._room(worker), record.resources)
            ):
                yield worker

    def _room(self, worker: WorkerRecord) -> dict[str, int]:
        room = Counter(worker.resources)
        for record in self.vms.values():
            if record.worker == worker.name and record.scheduled:
                room.subtract(record.resources)
        return dict(room)
