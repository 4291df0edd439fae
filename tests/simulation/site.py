"""A site: the simulated outside, and one process of ours at a time, on virtual time.

The outside outlives our processes, as do the database, the VMs and the jobs in them. A process is a Reconciler
with a store, run by its own loop; it ends between two calls (a Fuse), or when it is killed, and the next one
knows nothing but the database.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
from sqlalchemy import event, or_, select

from app.db.database import Database, open_engine
from app.db.reader import Reader
from app.db.rows import RUNNER, runner_from
from app.db.store import Delivery, Store
from app.domain.pools import Names, Pool
from app.domain.runners import Runner
from app.github.webhook import job_event
from app.metrics import Metrics
from app.reconcile import Reconciler, Setup
from app.sandbox import github_hooks
from app.sandbox.carrier import Carrier, in_process
from app.sandbox.direct import DirectGitHub
from app.sandbox.github import ModelGitHub
from app.sandbox.host import ModelHost
from app.sandbox.lives import Pace, RunnerLives
from tests.builders import NOW, a_pool
from tests.databases import new_database
from tests.simulation.layers import Fuse, Layer, Port
from tests.simulation.trace import Trace
from tests.simulation.trouble import Latency, Trouble
from tests.simulation.witness import Witness

BELL = 5.0  # seconds, as app.timers rings
MIN_FREE_DISK_GB = 30.0
GITHUB_WAITS = 10.0  # seconds for an answer to a webhook
STEP = 0.5
# Nothing here waits for a thread or a socket, so a loop need not turn 42 times, in vain, before its time goes on.
TURNS = {"noop_cycles": 1}
VIRTUAL_TIME = pytest.mark.looptime(**TURNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """The program under test, or a version of it that is broken on purpose."""

    host: tuple[Layer, ...] = ()
    github: tuple[Layer, ...] = ()
    reconciler: type[Reconciler] = Reconciler


class Clock:
    """The true time; no two readings are the same, as on a real machine."""

    def __init__(self) -> None:
        self._last = NOW

    def __call__(self) -> datetime:
        now = NOW + timedelta(seconds=asyncio.get_running_loop().time())
        self._last = max(now, self._last + timedelta(microseconds=1))
        return self._last


@dataclass(slots=True)
class Process:
    """One process of ours."""

    reconciler: Reconciler
    store: Any  # a Store within its layers
    metrics: Metrics
    clock: Callable[[], datetime]
    fuse: Fuse
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self, delivery: github_hooks.Delivery) -> int:
        """Take a webhook as the door does: record it, ring the bell."""
        job = job_event(delivery.payload.get("workflow_job"), delivery.payload.get("repository"))
        received = Delivery(
            guid=delivery.guid, event=delivery.event, action=delivery.action, hook_id=str(delivery.hook.id)
        )
        try:
            async with asyncio.timeout(GITHUB_WAITS):
                new = await self.store.record(received, job, at=self.clock())
        except TimeoutError:
            return 502
        if new:
            self.reconciler.wake()
        return 202

    async def ring(self) -> None:
        while True:
            await asyncio.sleep(BELL)
            self.reconciler.wake()

    def bugs(self) -> list[str]:
        """Return what the process itself calls a bug of ours."""
        found = [
            f"{sample.labels['action']} ended with an exception that nobody expected"
            for metric in self.metrics.actions.collect()
            for sample in metric.samples
            if sample.labels.get("outcome") == "bug" and sample.name.endswith("_total")
        ]
        failed = self.metrics.registry.get_sample_value("cidermill_passes_failed_total")
        return [*found, *(["a pass failed"] if failed else [])]


class Site:
    """The outside, one process, and the witness; ``async with`` it on a loop with virtual time."""

    def __init__(
        self,
        place: Path,
        *,
        seed: int = 0,
        pools: Sequence[Pool] | None = None,
        slots: int = 2,
        latency: Latency | None = None,
        variant: Variant | None = None,
    ) -> None:
        self.rng = random.Random(seed)
        self.pools = tuple(pools if pools is not None else (a_pool(),))
        self.slots, self.names = slots, Names("mini")
        self.variant = variant or Variant()
        self.clock, self.skew = Clock(), timedelta(0)
        engine = open_engine(new_database(place / "cidermill.db"))
        # Our processes crash here, this machine does not: nothing need reach the disk.
        event.listen(engine, "connect", lambda dbapi, _: dbapi.execute("PRAGMA synchronous=OFF"))
        self.database = Database(engine, inline=True)
        self.model = ModelGitHub(self.clock, self.rng)
        self.host = ModelHost(self.our_clock)
        self.host.limit = self.host.slots = slots
        self.host.images |= {pool.image for pool in self.pools}
        self.lives = RunnerLives(self.model, self.host, pace=Pace(connect=2.0, pick_up=5.0, power_off=2.0))
        self.trouble = Trouble(
            self.host, self.model.faults.add, self.rng, latency=latency if latency is not None else Latency()
        )
        self.github = DirectGitHub(self.model, latency=self.trouble.github_latency)
        self.witness = Witness(self)
        self.process: Process | None = None
        self.trace = Trace()
        self.spells: Counter[str] = Counter()  # that last
        self.hooks_out = False
        self.vanishing: Callable[[github_hooks.Delivery], bool] = lambda _: False
        self._carrier = Carrier(self.model, in_process(self.model, self._receive))

    async def __aenter__(self) -> Self:
        self._began = asyncio.get_running_loop().time()
        await self._carrier.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()
        await self.lives.close()
        await self._carrier.__aexit__()
        self.database.close()

    # -- time ------------------------------------------------------------------------------------

    def our_clock(self) -> datetime:
        """Return what the clock of our machine shows."""
        return self.clock() + self.skew

    def elapsed(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def until(self, holds: Callable[[], object], *, within: float = 300.0) -> None:
        """Let time pass until *holds*; fail if it does not within so many seconds."""
        deadline = self.elapsed() + within
        while not holds():
            assert self.elapsed() < deadline, f"not within {within} s; left: {self.witness.left()}"
            await asyncio.sleep(STEP)

    # -- our process -----------------------------------------------------------------------------

    def start(self, fuse: Fuse | None = None) -> Process:
        """Start a process; the one before must have ended."""
        fuse = fuse or Fuse()
        variant, witness, metrics = self.variant, self.witness, Metrics()
        trace = self.trace.layer
        store = Port(Store(self.database, self.pools), fuse.layer, trace("store"), witness.store)
        reconciler = variant.reconciler(
            Setup(
                names=self.names,
                pools=self.pools,
                min_free_disk_gb=MIN_FREE_DISK_GB,
            ),
            store=store,
            reader=Reader(self.database),
            github=Port(
                self.github, fuse.layer, *variant.github, trace("github"), witness.github, self.trouble.github
            ),
            vms=Port(self.host, fuse.layer, *variant.host, trace("host"), witness.host, self.trouble.host),
            metrics=metrics,
            clock=self.our_clock,
            boot="one",
            chance=self.rng,
        )
        process = Process(reconciler, store, metrics, self.our_clock, fuse)
        fuse.on_end = process.ended.set
        process.tasks = [asyncio.create_task(reconciler.run()), asyncio.create_task(process.ring())]
        self.process = process
        return process

    async def kill(self) -> None:
        """End the process as ``kill -9`` does: it makes no further call."""
        process, self.process = self.process, None
        if process is None:
            return
        process.fuse.burn()
        self.host.on_end(lambda *_: None)
        for task in process.tasks:
            task.cancel()
        await process.reconciler.close()
        await asyncio.gather(*process.tasks, return_exceptions=True)
        for bug in process.bugs():
            self.witness.note(bug)

    @property
    def reconciler(self) -> Reconciler:
        assert self.process is not None
        return self.process.reconciler

    async def operate(self, wish: Awaitable[object]) -> None:
        """Carry out an operator's wish, unless the process ends under it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await wish
        if self.process is not None:
            self.reconciler.wake()

    async def configure(self, *pools: Pool) -> None:
        """Reload with other pools."""
        self.pools = pools
        if self.process is not None:
            setup = self.reconciler.setup
            await self.reconciler.configure(
                Setup(names=setup.names, pools=pools, min_free_disk_gb=MIN_FREE_DISK_GB)
            )

    # -- what is there ---------------------------------------------------------------------------

    def runners(self, *, owed: bool = False, gone: bool = False) -> list[Runner]:
        """Return the live runners, those that still owe a registration too, or all; oldest first."""
        live = RUNNER.c.state != "gone"
        debt = RUNNER.c.target.is_not(None) & ~RUNNER.c.deregistered
        query = select(RUNNER).order_by(RUNNER.c.created_at, RUNNER.c.name)
        if not gone:
            query = query.where(or_(live, debt) if owed else live)
        with self.database.engine.begin() as connection:
            return [runner_from(row) for row in connection.execute(query)]

    def states(self) -> list[str]:
        return [runner.state.value for runner in self.runners()]

    def is_drained(self) -> bool:
        return self.witness.github_is_done() and not self.witness.left()

    def check(self) -> None:
        """Fail on anything the witness saw, or a life it finds illegal; everything must have ended."""
        self.witness.check_history()
        self.witness.check_nothing_left()
        assert not self.witness.wrong, "\n".join(self.witness.wrong)

    # -- webhooks --------------------------------------------------------------------------------

    async def _receive(self, delivery: github_hooks.Delivery) -> int:
        self.trace.add(f"webhook {delivery.action} {delivery.guid[:8]}", quiet=True)
        if self.process is None or self.hooks_out:
            return 502
        if self.vanishing(delivery):
            return 202
        return await self.process.receive(delivery)
