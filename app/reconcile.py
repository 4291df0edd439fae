"""The loop: wait for the bell, see the world, plan, act. It contains no rule.

One task owns the loop. Webhooks, timers and ended VMs only ring the bell (:meth:`Reconciler.wake`); a bell during
a pass means one more pass. A pass never waits for the outside: short writes are done in it, everything else is a
task of its own that reports back by a state change and another ring. After a crash the next start simply goes on.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import perf_counter

import structlog
from structlog.contextvars import bound_contextvars

from app.acts.means import Means
from app.boot_session import ClockMark
from app.db.reader import Reader
from app.db.store import Store
from app.domain.actions import Action, Boot, Claim, Note, Reseat, Stop, subject
from app.domain.hearing import owner_of
from app.domain.plan import plan
from app.domain.pools import Forks, Names, Pool, Target
from app.domain.runners import AT_GITHUB, InvalidTransition, Runner
from app.domain.world import Hearing, World
from app.metrics import Metrics
from app.perform import Performer
from app.ports import GitHub, OutsideError, VMBackend, VMError
from app.sight import Sight

log = structlog.get_logger(__name__)

FIRST_REST = 1.0  # s, after an action failed; doubled each time
LONGEST_REST = 60.0  # s
JUMP = timedelta(seconds=20)  # less is the clock being set right bit by bit
SLEW = timedelta(seconds=1)  # of that, noted so that the bits never add up to a jump
LONGEST_BREATH = 0.05  # s, between two passes
WITHIN = Claim | Note | Reseat | Stop  # short writes, done within the pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The configuration that a pass works by; replaced whole on a reload."""

    names: Names
    pools: tuple[Pool, ...]
    min_free_disk_gb: float
    poll_interval: timedelta = timedelta(minutes=1)
    image_refresh: timedelta = timedelta(0)
    image_pulls: int = 1
    image_keep: int = 1
    spread: bool = False

    @property
    def denying(self) -> str:
        """The pools that serve no forks, as the JSON list the reader takes."""
        return json.dumps([pool.name for pool in self.pools if pool.forks is Forks.DENY])


class Reconciler:
    """Keeps what runs in step with what waits."""

    def __init__(
        self,
        setup: Setup,
        *,
        store: Store,
        reader: Reader,
        github: GitHub,
        vms: VMBackend,
        metrics: Metrics,
        clock: Callable[[], datetime],
        boot: str,  # the run of the machine that the loop's clock counts from (app.clock.boot_session)
        chance: random.Random | None = None,  # for names and jitter; a simulation hands in a seeded one
    ) -> None:
        self.setup = setup
        self.sight = Sight()
        self.world: World | None = None  # as the last pass saw it
        self._store, self._reader, self._github, self._vms = store, reader, github, vms
        self._metrics, self._clock = metrics, clock
        self._performer = Performer(
            Means(
                store=store,
                reader=reader,
                github=github,
                vms=vms,
                sight=self.sight,
                metrics=metrics,
                clock=clock,
                chance=chance or random.SystemRandom(),
            )
        )
        self._bell = asyncio.Event()
        self._boot = boot
        self._mark: ClockMark | None = None  # how the wall clock stood to the loop's, as the database has it
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._resting: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}

    def wake(self) -> None:
        """Ask for a pass soon; any number of calls before it begins mean one pass."""
        self._bell.set()

    def host_changed(self) -> None:
        """Take note that something happened on the host, so that the last look is out of date."""
        self.sight.host_changed_at = self._clock()
        self.wake()

    def vm_ended(self, name: str, ending: str) -> None:
        """Take note that a VM ended: known at once, without another look at the host."""
        self.sight.ended[name] = ending
        self.wake()

    def tend_images(
        self, *, refresh: Iterable[str] = (), drop: Iterable[str] = (), prepare: Iterable[str] = ()
    ) -> None:
        """Have images asked about at their registry, bases removed and prepared, as soon as the plan agrees."""
        self.sight.to_refresh.update(dict.fromkeys(refresh, self._clock()))
        self.sight.to_drop.update(drop)
        self.sight.to_prepare.update(prepare)
        self.wake()

    async def configure(self, setup: Setup) -> None:
        """Work by *setup* from the next pass on."""
        self.setup = setup
        await self._store.configure(setup.pools)
        self.wake()

    async def launch(self, runner: Runner) -> None:
        """Boot *runner*, which no job asked for; from here on it is one like any other. Raises SlotTaken."""
        await self._store.claim(runner)
        await self._start(Boot(runner), await self.see())

    async def run(self) -> None:
        """Go on until cancelled; VMs and their guests are left as they are then."""
        loop, begun = asyncio.get_running_loop(), False
        self.wake()
        while True:
            await self._bell.wait()
            self._bell.clear()
            began = loop.time()
            try:
                if not begun:
                    await self.begin()
                    begun = True
                while await self.turn():
                    pass
            except Exception:
                # One bad pass must not stop the loop; the timer rings again.
                log.exception("pass_failed")
                self._metrics.passes_failed.inc()
            # Under a burst of webhooks the bell never rests: half the time stays theirs.
            await asyncio.sleep(min(LONGEST_BREATH, loop.time() - began))

    async def begin(self) -> None:
        """Take up what an earlier process left: job routing by today's pools, known targets, runner output."""
        await self._store.configure(self.setup.pools)
        self.sight.known_targets |= await self._reader.targets()
        self.sight.repositories |= await self._reader.repositories()
        self.sight.versions |= await self._reader.runner_versions()
        self.sight.images_at |= await self._reader.images_at()
        for pool, launch in await self._reader.launches():
            self.sight.launches.note(pool, launch)
        self._vms.on_end(self.vm_ended)
        for runner in await self._reader.runners(live=True, limit=1000):
            if runner.state in AT_GITHUB and runner.delivered:
                await self._vms.follow(runner.name, runner.spec)
        self.wake()

    async def turn(self) -> bool:
        """Make one pass; True when it changed a row itself, so that another one follows at once."""
        started = perf_counter()
        await self._mind_the_clock()
        world = await self.see()
        actions = plan(world, now=self._clock())
        for action in actions:
            await self._start(action, world)
        self._metrics.pass_seconds.observe(perf_counter() - started)
        return any(isinstance(action, WITHIN) for action in actions)

    async def _mind_the_clock(self) -> None:
        """Where the wall clock jumped (the Mac slept, or was set), let nothing seem older or younger by that.

        Nor where it did before this process was there to see it: the database knows how the clocks stood.
        """
        mark = ClockMark(self._boot, self._clock() - timedelta(seconds=asyncio.get_running_loop().time()))
        known = self._mark or await self._reader.clock()
        jump = mark.jump_since(known) if known else timedelta(0)
        if abs(jump) >= JUMP:
            log.warning("clock_jumped", seconds=round(jump.total_seconds()))
            await self._store.shift_times(jump, mark)
            self.sight.forget_looks()
        elif self._mark is None or abs(jump) >= SLEW:
            await self._store.note_clock(mark)
        else:
            return
        self._mark = mark

    async def see(self) -> World:
        """Put together what is known now. Looks that failed or were never made are absent, not empty."""
        setup, sight = self.setup, self.sight
        # The keys first: an action that ends while the database is read shows in the rows, not as idle.
        in_hand = frozenset(self._tasks) | frozenset(self._resting)
        places = sum(len(host.slots) for host in sight.host.hosts) if sight.host else 0
        records = await self._reader.records(denying=setup.denying, heads=max(1, places))
        sight.repositories |= {demand.repository for demand in records.demand}
        self.world = World(
            names=setup.names,
            pools=setup.pools,
            min_free_disk_gb=setup.min_free_disk_gb,
            image_refresh=setup.image_refresh,
            image_pulls=setup.image_pulls,
            image_keep=setup.image_keep,
            to_refresh=dict(sight.to_refresh),
            to_drop=frozenset(sight.to_drop),
            to_prepare=frozenset(sight.to_prepare),
            images_at=dict(sight.images_at),
            spread=setup.spread,
            draining=records.draining,
            demand=records.demand,
            runners=records.runners,
            work=records.work,
            unsettled=records.unsettled,
            cooldowns=records.cooldowns,
            host=sight.host,
            ended=dict(sight.ended),
            host_changed_at=sight.host_changed_at,
            registrations=dict(sight.registrations),
            known_targets=frozenset(sight.known_targets),
            guests=dict(sight.guests),
            groups=dict(sight.groups),
            hearing=self._hearing(),
            release=sight.release,
            released_at=sight.released_at,
            versions=dict(sight.versions),
            in_hand=in_hand,
            seen_before=sight.seen_before,
        )
        return self.world

    def _hearing(self) -> Hearing:
        sight = self.sight
        repositories = frozenset(sight.repositories)
        return Hearing(
            poll_interval=self.setup.poll_interval,
            log_read_at=sight.log_read_at,
            listed_at=sight.listed_at,
            polls=dict(sight.polls),
            repositories=repositories,
            headroom={owner: self._github.headroom(Target(owner)) for owner in map(owner_of, repositories)},
        )

    async def _start(self, action: Action, world: World) -> None:
        if isinstance(action, Stop):
            boot = self._tasks.get(Boot(action.runner).key)
            if boot is not None:
                boot.cancel()
        if isinstance(action, WITHIN):
            await self._carry_out(action, world)
            return
        task = asyncio.create_task(self._carry_out(action, world))
        self._tasks[action.key] = task
        task.add_done_callback(lambda _: self._put_down(action.key))

    async def _carry_out(self, action: Action, world: World) -> None:
        """Carry one action out; whatever logs a line meanwhile, it names the action's runner and job."""
        with bound_contextvars(**subject(action)):
            await self._attempt(action, world)

    async def _attempt(self, action: Action, world: World) -> None:
        """Perform the action; a failure rests its key for a while and touches nothing else."""
        kind = type(action).__name__
        try:
            await self._performer.perform(action, world)
        except OutsideError as error:
            self._rest(action.key)
            self._metrics.actions.labels(kind, error.code).inc()
            reason = error.code
            if isinstance(error, VMError):
                reason = error.reason
                self._metrics.failures.labels("again", reason).inc()
            log.warning("action_failed", action=kind, about=action.key, reason=reason, detail=str(error))
        except InvalidTransition as overtaken:
            # Two things became true at once; the rows hold the one that was written first.
            self._metrics.actions.labels(kind, "overtaken").inc()
            log.info("action_overtaken", action=kind, about=action.key, detail=str(overtaken))
        except Exception:
            # One bad VM must not stop the others.
            self._rest(action.key)
            self._metrics.actions.labels(kind, "bug").inc()
            log.exception("action_failed", action=kind, about=action.key)
        else:
            self._failures.pop(action.key, None)
            self._metrics.actions.labels(kind, "ok").inc()

    def _rest(self, key: str) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(LONGEST_REST, FIRST_REST * 2 ** min(failures - 1, 10))
        self._resting[key] = asyncio.get_running_loop().call_later(delay, self._wake_up, key)

    def _wake_up(self, key: str) -> None:
        self._resting.pop(key, None)
        self.wake()

    def _put_down(self, key: str) -> None:
        self._tasks.pop(key, None)
        self.wake()

    async def settle(self) -> None:
        """Wait until no action is under way; passes go on meanwhile if someone runs them."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def close(self) -> None:
        """End every action under way, leaving VMs and their guests as they are."""
        for handle in self._resting.values():
            handle.cancel()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def replace_pools(setup: Setup, pools: tuple[Pool, ...]) -> Setup:
    """Return *setup* with other pools: what a reload may change while runners are in flight."""
    return replace(setup, pools=pools)
