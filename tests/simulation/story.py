"""A seeded story: what people at GitHub, the machines and the operator do, and then a calm in which all must end.

Everything is drawn from the site's one generator, so a seed is a story.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from app.domain.pools import Pool, Scope, Start
from app.domain.runners import NotHoldable, StopRequest
from app.sandbox.github_hooks import Chaos, Delivery
from app.sandbox.github_values import Job
from tests.builders import a_pool
from tests.simulation.layers import Fuse
from tests.simulation.site import Site, Variant
from tests.simulation.spells import SPELLS, come_and_go
from tests.simulation.trouble import CALM, Latency, Rates

HOUR = 3600.0
LONGEST_JOB = 300.0
PREPARES = 120.0  # s, a base
CALM_LIMIT = 3 * HOUR  # a slot with a silent guest is given up after job_timeout
LATENCY = Latency(boot=(5.0, 30.0), verb=(0.02, 1.0))

POOLS = (
    a_pool(job_timeout=timedelta(minutes=40), start=Start.SNAPSHOT),
    a_pool(
        name="big",
        labels=("mac", "xl"),
        repositories=("acme/app", "zoo/*"),
        priority=5,
        max_runners=1,
        boot_timeout=timedelta(minutes=2),
        job_timeout=timedelta(minutes=40),
    ),
    a_pool(
        name="solo",
        labels=("solo",),
        repositories=("zoe/*", "acme/lib"),
        scope=Scope.REPOSITORY,
        max_per_repository=1,
        job_timeout=timedelta(minutes=40),
    ),
)
KEPT_WARM = (0, 0, 1, 2)  # of mac and of solo, as chance decides
# Where a job comes from, and what it asks for; the last four are nobody's.
WORK = (
    ("acme/app", ("self-hosted", "mac")),
    ("acme/app", ("Self-Hosted", "MAC", "xl")),
    ("acme/lib", ("mac",)),
    ("acme/lib", ("solo",)),
    ("zoo/kit", ("mac", "xl")),
    ("zoe/pet", ("self-hosted", "solo")),
    ("acme/app", ("mac", "gpu")),
    ("acme/app", ()),
    ("zoo/kit", ("self-hosted", "solo")),
    ("stranger/tool", ("self-hosted", "mac")),
)
# A repository of acme whose events we do not see: its jobs may take our runners all the same.
SECRET = "acme/secret"

STORM = Rates(
    look=0.05,
    boot_fails=0.05,
    boot_hangs=0.03,
    boot_dies=0.05,
    resume_fails=0.1,
    silent=0.03,
    deliver_fails=0.04,
    deliver_lost=0.04,
    probe=0.1,
    delete=0.1,
    vm_crashes=4,
    github_fails=0.05,
    github_lost=0.04,
    github_limits=0.02,
    hook_unreachable=0.1,
    hook_late=0.1,
    hook_twice=0.1,
    hook_vanishes=0.05,
    hook_out=1,
    host_sick=1,
    strangers=1,
    disk_full=1,
    published=3,
    rebuilt=2,
    image_lost=1,
    github_out=1,
    suspended=1,
    ghosts=2,
    idle_reaped=1,
    outdated=0.5,
    process_crashes=10,
    clock_jumps=4,
    operator=12,
)


def pools_of(seed: int) -> tuple[Pool, ...]:
    """Return the pools of a story, some of which keep VMs warm; drawn apart, so that all else is as without them."""
    mac, big, solo = POOLS
    drawn = random.Random(f"warm {seed}")
    return (
        replace(mac, min_ready=drawn.choice(KEPT_WARM)),
        big,
        replace(solo, min_ready=drawn.choice(KEPT_WARM)),
    )


class Story:
    """One seeded stretch of time at one site."""

    def __init__(
        self,
        place: Path,
        seed: int,
        *,
        rates: Rates = CALM,
        variant: Variant | None = None,
        hours: float = 0.75,
        jobs_an_hour: float = 60.0,
    ) -> None:
        self.rates, self.hours, self.jobs_an_hour = rates, hours, jobs_an_hour
        self.pools = pools_of(seed)
        self.site = Site(place, seed=seed, pools=self.pools, latency=LATENCY, variant=variant)
        self.site.vanishing = self._vanishes
        self.site.host.prepare_seconds = PREPARES
        self.jobs: list[Job] = []
        self._stuck: set[int] = set()
        accounts = self.site.model.accounts
        accounts.add_user("zoe")
        shown = [
            accounts.add_repository(name, visibility="public" if name.startswith("zoo") else "private")
            for name in dict.fromkeys(name for name, _ in WORK)
        ]
        accounts.add_repository(SECRET)
        accounts.install("acme", repositories=shown)
        for owner in ("zoo", "zoe", "stranger"):
            accounts.install(owner)

    async def run(self) -> Site:
        """Live through it; what went wrong is in ``site.witness.wrong``."""
        async with self.site as site:
            self._set_rates(self.rates)
            processes = asyncio.create_task(self._keep_running())
            chances = [asyncio.create_task(self._often(*kind)) for kind in self._kinds()]
            chances += [asyncio.create_task(self._beset(kind)) for kind in SPELLS]
            await self._lasts(self.hours * HOUR)
            for task in chances:
                task.cancel()
            await asyncio.gather(*chances, return_exceptions=True)
            self._set_rates(CALM)
            await self._calm_down()
            if not site.witness.wrong:
                await self._lasts(CALM_LIMIT, until_drained=True)
                await site.operate(site.configure(*POOLS))  # which keep none warm
                await self._lasts(CALM_LIMIT, until_drained=True)
            processes.cancel()
            await self._kill()  # at once, or it begins something new after all had drained
            await asyncio.gather(processes, return_exceptions=True)
            await site.kill()
            if not site.witness.wrong:
                site.witness.check_history()
                site.witness.check_nothing_left()
                if self.rates == CALM:
                    site.witness.check_all_served()
        return site

    def _kinds(self) -> list[tuple[float, str]]:
        rates = self.rates
        return [
            (self.jobs_an_hour, "_arrive"),
            (self.jobs_an_hour / 8, "_cancel"),
            (self.jobs_an_hour / 4, "_approve"),
            (self.jobs_an_hour / 8, "_rerun"),
            (rates.operator, "_operate"),
            (rates.vm_crashes, "_crash_vm"),
            (rates.clock_jumps, "_jump"),
            (rates.process_crashes / 2, "_kill"),
            (rates.ghosts, "_ghost"),
            (rates.image_lost, "_lose_image"),
            (rates.published, "_publish"),
            (rates.rebuilt, "_rebuild"),
        ]

    async def _often(self, an_hour: float, what: str) -> None:
        while an_hour > 0:
            await asyncio.sleep(self.site.rng.expovariate(an_hour / HOUR))
            self.site.trace.add(what.strip("_"))
            await getattr(self, what)()

    async def _beset(self, kind: str) -> None:
        an_hour: float = getattr(self.rates, kind)
        while an_hour > 0:
            await asyncio.sleep(self.site.rng.expovariate(an_hour / HOUR))
            await come_and_go(self.site, kind)

    async def _lasts(self, seconds: float, *, until_drained: bool = False) -> None:
        """Let time pass; what the witness saw ends it early."""
        end = self.site.elapsed() + seconds
        while self.site.elapsed() < end and not self.site.witness.wrong:
            if until_drained and self.site.is_drained():
                return
            await asyncio.sleep(5.0)

    # -- GitHub's people -------------------------------------------------------------------------

    async def _arrive(self) -> None:
        rng, model = self.site.rng, self.site.model
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            repository, labels = rng.choice(WORK)
            if self.rates != CALM and rng.random() < 0.05:
                repository, labels = SECRET, ("mac",)
            job = model.queue(
                repository,
                labels=labels,
                seconds=rng.choice((rng.uniform(1, 20), rng.uniform(20, LONGEST_JOB))),
                gated=rng.random() < 0.1,
            )
            self.jobs.append(job)
        if self.rates != CALM and rng.random() < 0.02 and job.open:
            model.workflows.fail_to_start(job.run)

    async def _cancel(self) -> None:
        if self.rates == CALM:
            return  # what the calm day must show is that every job is served
        jobs = [job for job in self.jobs if job.status != "completed"]
        if jobs:
            self.site.model.cancel(self.site.rng.choice(jobs))

    async def _approve(self) -> None:
        gated = [job for job in self.jobs if job.status == "waiting"]
        if gated:
            self.site.model.workflows.approve(self.site.rng.choice(gated))

    async def _rerun(self) -> None:
        runs = [job.run for job in self.jobs if job.run.status == "completed" and job.run.verdict is None]
        if runs:
            run = self.site.rng.choice(runs)
            self.site.model.workflows.rerun(run)
            self.jobs += run.jobs

    # -- machines and the operator ---------------------------------------------------------------

    async def _keep_running(self) -> None:
        """Start a process whenever there is none: after a while, like launchd."""
        site, rng = self.site, self.site.rng
        while True:
            mean = 1500 if site.trouble.rates.process_crashes else 0
            at = int(rng.expovariate(1 / mean)) + 1 if mean else None
            process = site.start(Fuse(at=at, after=rng.random() < 0.5))
            await process.ended.wait()
            await site.kill()
            await asyncio.sleep(rng.uniform(1, 60))

    async def _kill(self) -> None:
        if self.site.process is not None:
            self.site.process.fuse.burn()

    async def _crash_vm(self) -> None:
        running = [vm for vm in self.site.host.running if self.site.names.is_runner(vm.name)]
        if running:
            self.site.trouble.crash(self.site.rng.choice(running).name)

    async def _ghost(self) -> None:
        self.site.trouble.injected["ghosts"] += 1
        self.site.model.runners.ghosts += 1

    async def _lose_image(self) -> None:
        self.site.trouble.injected["image_lost"] += 1
        self.site.host.images.clear()

    async def _publish(self) -> None:
        """Have GitHub expect a newer runner, one that the next of our processes hears of."""
        self.site.trouble.injected["published"] += 1
        expected = self.site.model.runners.expected
        major, minor, _ = expected.version.split(".")
        expected.version = f"{major}.{int(minor) + 1}.0"
        expected.published_at = self.site.clock() - timedelta(days=self.site.rng.choice((1, 5, 25)))

    async def _rebuild(self) -> None:
        self.site.trouble.injected["rebuilt"] += 1
        host, image = self.site.host, POOLS[0].image
        host.built[image] = host.built.get(image, 0) + 1
        host.bare = {image} if self.site.rng.random() < 0.5 else set()

    async def _jump(self) -> None:
        self.site.skew = timedelta(
            seconds=self.site.rng.choice((0, 0, 15, 30, -60, 90, 600, -3600, 8 * 3600))
        )

    async def _operate(self) -> None:
        site, rng = self.site, self.site.rng
        if site.process is None:
            return
        store, runners = site.process.store, site.runners()
        act = rng.choice(("stop", "stop", "force", "drain", "reload", "hold", "release"))
        if act in {"stop", "force"} and runners:
            wish = StopRequest.ASK if act == "stop" else StopRequest.FORCE
            await site.operate(store.request_stop(rng.choice(runners).name, wish))
        elif act == "hold" and runners:
            span = timedelta(minutes=rng.uniform(1, 60))
            with suppress(NotHoldable):
                await site.operate(store.hold(rng.choice(runners).name, span, at=site.our_clock()))
        elif act == "release" and runners:
            await site.operate(store.amend(rng.choice(runners).name, held_until=None))
        elif act == "drain":
            await site.operate(store.set_draining(draining=rng.random() < 0.5))
        elif act == "reload":
            await site.operate(site.configure(*self._other_pools()))

    def _other_pools(self) -> tuple[Pool, ...]:
        mac, big, solo = self.pools
        changed = replace(mac, cpu=8)
        return self.site.rng.choice((self.pools, self.pools, (changed, big, solo), (mac, solo)))

    async def _calm_down(self) -> None:
        site = self.site
        site.skew = max(site.skew, timedelta(0))
        site.model.runners.ghosts = 0
        site.pools = self.pools
        while site.process is None:
            await asyncio.sleep(1)
        await site.operate(site.process.store.set_draining(draining=False))
        await site.operate(site.process.store.forget_failures())
        await site.operate(site.configure(*self.pools))
        for job in self.jobs:
            site.model.workflows.approve(job)
            if job.run.repository.full_name == SECRET:
                site.model.cancel(job)

    # -- chance ----------------------------------------------------------------------------------

    def _set_rates(self, rates: Rates) -> None:
        self.site.trouble.rates = rates
        self.site.model.faults.clear()
        self.site.model.hooks.chaos = Chaos(
            unreachable=rates.hook_unreachable, late=rates.hook_late, twice=rates.hook_twice
        )

    def _vanishes(self, delivery: Delivery) -> bool:
        del delivery
        return self.site.trouble.strikes("hook_vanishes")
