"""How the world is looked at: the part of :mod:`app.perform` for what the host, guests and GitHub are asked."""

from __future__ import annotations

import structlog

from app.acts.means import Means
from app.domain import actions as do
from app.domain.jobs import JobStatus
from app.domain.looks import needs_run
from app.domain.pools import Forks, Target
from app.domain.world import GroupLook, RegistrationsLook, RunnerRelease, World
from app.ports import GitHubRefused, GitHubUnavailable, NotFound, VMError

log = structlog.get_logger(__name__)


class Looking:
    """Carries out what the plan decided to find out."""

    def __init__(self, means: Means) -> None:
        self._store, self._reader = means.store, means.reader
        self._github, self._vms = means.github, means.vms
        self._sight, self._clock, self._ask = means.sight, means.clock, means.ask

    async def registrations(self, target: Target, world: World) -> None:
        """List the runners that GitHub knows at *target*. Raises OutsideError."""
        at = self._clock()
        found = await self._ask(self._github.registrations(target))
        self._sight.saw_registrations(target, RegistrationsLook(at=at, registrations=found), world)

    async def guest(self, name: str) -> None:
        """Ask a guest about its runner. Raises VMError."""
        self._sight.guests[name] = await self._vms.probe(name)

    async def host(self, world: World) -> None:
        """List the VMs. Raises VMError."""
        try:
            look = await self._vms.look()
        except VMError as error:
            self._sight.host_trouble = str(error)
            raise
        self._sight.saw_host(look, world)

    async def group(self, action: do.LookAtGroup) -> None:
        """Ask about a runner group. Raises OutsideError."""
        key = action.organization, action.group
        at = self._clock()
        try:
            group = await self._ask(self._github.runner_group(*key))
        except (NotFound, GitHubRefused) as error:
            self._sight.groups[key] = GroupLook(at=at, group=None, refusal=str(error))
        else:
            self._sight.groups[key] = GroupLook(at=at, group=group)

    async def release(self, target: Target) -> None:
        """Ask which actions runner GitHub expects. Raises OutsideError."""
        now = self._clock()
        found = await self._ask(self._github.latest_runner(target))
        since = await self._store.note_release(found.version, found.published_at, at=now)
        self._sight.release = RunnerRelease(version=found.version, since=since)
        self._sight.released_at = now

    async def job(self, job_id: int, world: World) -> None:
        """Ask how a job is doing, and write that down. Raises OutsideError."""
        job = await self._reader.job(job_id)
        if job is None:
            return
        pool = world.pool(job.pool) if job.pool else None
        forks = pool.forks if pool else Forks.ALLOW
        now = self._clock()
        try:
            event = await self._ask(self._github.job(job.repository, job.id))
            wanted = event.status is JobStatus.QUEUED and needs_run(job, forks=forks, now=now)
            run = await self._ask(self._github.run(job.repository, job.run_id)) if wanted else None
        except NotFound:
            await self._store.end_job(job.id, at=now, note="GitHub no longer knows the job")
            await self._store.mark_checked(job.id, at=now)
        except (GitHubUnavailable, GitHubRefused):
            # What we know stands, and the launch goes on; where it must not, the plan sees that fork is unknown.
            if job.status is JobStatus.QUEUED:
                await self._store.mark_checked(job.id, at=now)
            raise
        else:
            if run is not None and run.status == JobStatus.COMPLETED:
                note = f"its run is over ({run.conclusion}), although GitHub still lists the job as queued"
                await self._store.end_job(job.id, at=now, note=note)
            elif job.status is JobStatus.COMPLETED and event.status is JobStatus.IN_PROGRESS:
                log.warning(
                    "job_goes_on", job=job.id, detail="a webhook called it completed, GitHub does not"
                )
                await self._store.reopen(job.id, at=now)
            else:
                await self._store.observe(event, at=now, fork=run.fork if run else None)
