"""Runs and jobs of the sandbox's GitHub, and the events that tell of them.

A job only ever moves forward; each move is one ``workflow_job`` event to every hook that hears it. What GitHub
does oddly it does here as well: a gated job says *queued* first, a re-run repeats *completed*, a run that
failed to start leaves its jobs queued for ever (docs/contracts/github.md §1.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from app.sandbox.github_accounts import Accounts
from app.sandbox.github_ground import Ground
from app.sandbox.github_hooks import Hook, Hooks
from app.sandbox.github_links import node_id
from app.sandbox.github_shapes import Json, Shapes
from app.sandbox.github_values import ApiError, Job, Registration, Repository, Run

QUEUE_LIMIT = timedelta(hours=24)
CANCEL_LIMIT = timedelta(minutes=5)  # a runner that does not obey a cancellation loses the job


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job as its author wrote it."""

    name: str = "build"
    labels: tuple[str, ...] = ("self-hosted",)
    seconds: float = 0.0
    group: str | None = None
    script: str | None = None  # shell text, its only step
    always: str | None = None  # the same, of a step with `if: always()`
    outcome: str = "success"
    gated: bool = False  # an approval holds it


class Workflows:
    """Every run and job."""

    def __init__(self, ground: Ground, accounts: Accounts, hooks: Hooks, shapes: Shapes) -> None:
        self._ground = ground
        self._accounts = accounts
        self._hooks = hooks
        self._shapes = shapes
        self.runs: dict[int, Run] = {}
        self.jobs: dict[int, Job] = {}
        self.waiting: dict[int, Job] = {}  # queued ones, whether assigned or not
        self.opened: Callable[[], None] = lambda: None  # jobs may be given to runners
        self.ended: Callable[[Job], None] = lambda _: None
        self.cancelling: Callable[[Job], None] = lambda _: None  # its runner is asked to stop

    def add_run(
        self,
        repository: Repository | str,
        specs: Iterable[JobSpec],
        *,
        workflow: str = "CI",
        event: str = "push",
        head: Repository | None = None,
        fork_gone: bool = False,
    ) -> Run:
        """Start a run; *head* is the fork it comes from, if any."""
        home = self._accounts.repository(repository) if isinstance(repository, str) else repository
        now, number = self._ground.now(), self._ground.number("run")
        run = Run(
            id=number,
            number=number % 1_000_000,
            repository=home,
            workflow=workflow,
            event=event,
            head_repository=None if fork_gone else head or home,
            head_sha=self._ground.hex(40),
            created_at=now,
            updated_at=now,
        )
        self.runs[run.id] = run
        for spec in specs:
            self._add(run, spec)
        self.opened()
        return run

    def add_job(self, run: Run, spec: JobSpec) -> Job:
        """Queue one more job of a run."""
        job = self._add(run, spec)
        self.opened()
        return job

    def _add(self, run: Run, spec: JobSpec) -> Job:
        job = Job(
            id=self._ground.number("job"),
            run=run,
            attempt=run.attempt,
            name=spec.name,
            key="".join(c if c.isalnum() else "_" for c in spec.name.lower()) or "job",
            labels=spec.labels,
            group=spec.group,
            seconds=spec.seconds,
            script=spec.script,
            always=spec.always,
            outcome=spec.outcome,
            created_at=self._ground.now(),
        )
        run.jobs.append(job)
        self._enter(job, gated=spec.gated)
        return job

    def _enter(self, job: Job, *, gated: bool) -> None:
        self.jobs[job.id] = job
        if gated:
            job.status = "waiting"
            self.tell("queued", job)
            self.tell("waiting", job)
        else:
            self._queue(job)

    def _queue(self, job: Job) -> None:
        job.status = "queued"
        self.waiting[job.id] = job
        self.tell("queued", job)
        self._ground.after(QUEUE_LIMIT, lambda: self._expire(job))

    def _expire(self, job: Job) -> None:
        if job.open:
            self.complete(job, "cancelled")

    def approve(self, job: Job) -> None:
        """Let a gated job go on."""
        if job.status == "waiting":
            self._queue(job)
            self.opened()

    def skip(self, repository: str, name: str = "skipped") -> Job:
        """Complete a job that never was queued, as an ``if`` that is false does."""
        run = self.add_run(repository, ())
        job = Job(
            id=self._ground.number("job"),
            run=run,
            attempt=1,
            name=name,
            key=name,
            labels=(),
            created_at=self._ground.now(),
        )
        run.jobs.append(job)
        self.jobs[job.id] = job
        self.complete(job, "skipped")
        return job

    def start(self, job: Job, runner: Registration) -> None:
        """Note that a runner took the job up."""
        job.status, job.started_at = "in_progress", self._ground.now()
        job.runner, job.runner_name = runner, runner.name
        self.waiting.pop(job.id, None)
        self.tell("in_progress", job)

    def complete(self, job: Job, conclusion: str) -> None:
        """End a job."""
        if job.status == "completed":
            return
        job.status, job.conclusion, job.completed_at = "completed", conclusion, self._ground.now()
        self.waiting.pop(job.id, None)
        self.tell("completed", job)
        self.ended(job)

    def cancel(self, job: Job) -> None:
        """Cancel a job: one that runs is asked to stop, and its runner says when it did."""
        if job.status != "in_progress":
            self.complete(job, "cancelled")
            return
        job.cancelled = True
        self.cancelling(job)
        self._ground.after(CANCEL_LIMIT, lambda: self.complete(job, "cancelled"))

    def fail_to_start(self, run: Run) -> None:
        """End a run as *startup_failure*: its queued jobs stay queued, and nothing is ever sent about them."""
        run.verdict, run.updated_at = "startup_failure", self._ground.now()
        for job in run.jobs:
            self.waiting.pop(job.id, None)

    def rerun(self, run: Run, *, failed_only: bool = False) -> Run:
        """Run again: new ids under the same run. Jobs that are kept repeat their *completed*."""
        if run.status != "completed":
            raise ApiError(403, "This workflow run is already running")
        run.attempt, run.verdict = run.attempt + 1, None
        before, run.jobs = run.jobs, []
        for job in before:
            if failed_only and job.conclusion == "success":
                run.jobs.append(job)
                self.tell("completed", job)
                continue
            run.earlier.append(job)
            again = replace(
                job,
                id=self._ground.number("job"),
                attempt=run.attempt,
                status="queued",
                conclusion=None,
                created_at=self._ground.now(),
                started_at=None,
                completed_at=None,
                assigned_at=None,
                runner=None,
                runner_name=None,
                misses=0,
                cancelled=False,
                log="",
            )
            run.jobs.append(again)
            self._enter(again, gated=False)
        self.opened()
        return run

    def stray_check(self, repository: str) -> None:
        """Send the *completed* of a check run that is no job at all."""
        job = self.skip(repository, "some check")
        job.conclusion = "success"
        self.tell("completed", job)

    def tell(self, action: str, job: Job) -> None:
        """Send a ``workflow_job`` event to all who hear it."""
        job.run.updated_at = self._ground.now()
        payload = self._shapes.job_delivery(action, job)
        self._hooks.emit(
            self._audience(job.run.repository, payload),
            event="workflow_job",
            repository_id=job.run.repository.id,
        )

    def _audience(self, repository: Repository, payload: Json) -> list[tuple[Hook, Json, int | None]]:
        found: list[tuple[Hook, Json, int | None]] = []
        for hook in self._hooks.hooks.values():
            if hook.target_type == "integration":
                for installation in self._accounts.listeners(repository):
                    mark: dict[str, Any] = {
                        "id": installation.id,
                        "node_id": node_id("Installation", installation.id),
                    }
                    found.append((hook, payload | {"installation": mark}, installation.id))
            elif hook.owner.casefold() in {
                repository.full_name.casefold(),
                repository.owner.login.casefold(),
            }:
                found.append((hook, payload, None))
        return found
