"""The witness: sees every call that reaches the outside, knows the truth there, and writes down what must not be.

It looks at each call as it is made and after every write, which is closer than after every pass.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from app.db.rows import HISTORY, JOB
from app.domain.jobs import JobStatus
from app.domain.pools import pool_for
from app.domain.runners import TRANSITIONS, RunnerState
from app.domain.world import VMState
from app.ports import JitConfig
from app.sandbox.github_values import Job
from tests.simulation.layers import Call

if TYPE_CHECKING:
    from tests.simulation.site import Site

ENDS_A_HOLD = frozenset({"forced_by_operator", "job_timeout"})
SLACK = timedelta(minutes=1)  # small jumps of our clock are not noticed
# How a runner may end when nothing goes wrong outside.
GOOD_ENDS = frozenset(
    {
        "job_completed",
        "runner_ended",
        "guest_powered_off",
        "worked",  # a short job whose webhooks are not here yet
        "idle_timeout",
        "surplus",
        "no_longer_needed",
        "golden_made",
        "yielded",
        "image_changed",
        "aged",
    }
)


class Witness:
    """Judges one site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.wrong: list[str] = []
        self._reasons: dict[str, str] = {}  # by runner: why it is stopping
        self._delivered: set[str] = set()

    def note(self, what: str) -> None:
        self.wrong.append(f"{self._site.elapsed():.1f} s: {what}")

    def store(self, verb: str, call: Call) -> Call:
        async def passed(*args: Any, **kwargs: Any) -> Any:
            if verb == "advance":
                self._moves(args[0], args[1], kwargs["reason"])
            answer = await call(*args, **kwargs)
            if verb in {"advance", "claim"}:
                self._look()
            return answer

        return passed

    def github(self, verb: str, call: Call) -> Call:
        async def passed(*args: Any, **kwargs: Any) -> Any:
            if verb == "mint":
                self._mints(kwargs["name"])
            return await call(*args, **kwargs)

        return passed

    def host(self, verb: str, call: Call) -> Call:
        async def passed(*args: Any, **kwargs: Any) -> Any:
            match verb:
                case "start" | "make_base" | "make_golden":
                    self._starts(args[0])
                case "deliver":
                    self._delivers(args[0], args[2])
                case "delete":
                    self._deletes(args[0])
            return await call(*args, **kwargs)

        return passed

    def _moves(self, name: str, to: RunnerState, reason: str) -> None:
        if to is RunnerState.STOPPING:
            self._reasons[name] = reason
            if reason not in ENDS_A_HOLD and self._is_held(name):
                self.note(f"{name} is stopped for {reason} while an operator holds it")
        if to is RunnerState.GONE and name in self._site.host.vms:
            self.note(f"{name} gives up its slot while its VM exists")

    def _look(self) -> None:
        slots = Counter(runner.slot for runner in self._site.runners())
        for slot, count in slots.items():
            if count > 1:
                self.note(f"{count} live runners in slot {slot}")
        running = self._ours_running()
        if len(running) > self._site.slots:
            self.note(f"{len(running)} VMs run in {self._site.slots} slots: {running}")
        for golden, count in Counter(self._site.host.cloned.values()).items():
            if count > 1:
                self.note(f"{count} VMs are clones of {golden}, with one MAC address")

    def _ours_running(self) -> list[str]:
        return [vm.name for vm in self._site.host.running if self._site.names.is_runner(vm.name)]

    def _mints(self, name: str) -> None:
        if any(r.name == name for r in self._site.model.runners.registrations.values()):
            self.note(f"{name} is registered while it has a registration")

    def _starts(self, name: str) -> None:
        # A stranger may have come since the last look; our own VMs we know.
        if name not in self._site.host.vms and len(self._ours_running()) >= self._site.slots:
            self.note(f"{name} is started beside {self._ours_running()}")

    def _delivers(self, name: str, jit: JitConfig) -> None:
        if jit.encoded in self._delivered:
            self.note(f"a JIT config is delivered twice, to {name}")
        self._delivered.add(jit.encoded)

    def _deletes(self, name: str) -> None:
        vm = self._site.host.vms.get(name)
        job = self.job_in(name)
        if vm is None or vm.state is not VMState.RUNNING or job is None:
            return
        reason = self._reasons.get(name, "no reason at all")
        if reason == "forced_by_operator" or (reason == "job_timeout" and self._is_overdue(name, job)):
            return
        self.note(f"{name} is deleted for {reason} while job {job.id} is {job.status} on it")

    def _is_held(self, name: str) -> bool:
        """Whether an operator holds a VM that runs, and its guest knows."""
        vm, now = self._site.host.vms.get(name), self._site.our_clock()
        if (
            vm is None
            or vm.state is not VMState.RUNNING
            or vm.held_until <= asyncio.get_running_loop().time()
        ):
            return False
        return any(runner.name == name and runner.is_held(now) for runner in self._site.runners())

    def job_in(self, name: str) -> Job | None:
        """Return the job that GitHub has given the runner called *name*, and that is not over."""
        for registration in self._site.model.runners.registrations.values():
            job = registration.job
            if registration.name == name and job is not None and job.status != "completed":
                return job
        return None

    def _is_overdue(self, name: str, job: Job) -> bool:
        limit = next(runner.spec.job_timeout for runner in self._site.runners() if runner.name == name)
        since = job.started_at or job.created_at
        return self._site.clock() - since >= limit - SLACK

    def check_history(self) -> None:
        """Note every life that the table of transitions does not allow, and every one that did not end."""
        lives: dict[str, list[tuple[str | None, str]]] = {}
        with self._site.database.engine.begin() as connection:
            for row in connection.execute(select(HISTORY).order_by(HISTORY.c.id)):
                lives.setdefault(row.runner, []).append((row.from_state, row.to_state))
        for name, steps in lives.items():
            states = [RunnerState(to) for _, to in steps]
            legal = all(after in TRANSITIONS[before] for before, after in pairwise(states))
            joined = [before for before, _ in steps[1:]] == [state.value for state in states[:-1]]
            if steps[0] != (None, "claimed") or not legal or not joined or states[-1] is not RunnerState.GONE:
                self.note(f"{name} lived {steps}")

    def check_nothing_left(self) -> None:
        """Note everything of ours that is still there, and every job that may run and did not end."""
        for left in self.left():
            self.note(f"left behind: {left}")

    def left(self) -> list[str]:
        """Return what is not over yet: rows, VMs, registrations, and jobs that one of our pools serves."""
        site, warm = self._site, self._kept_warm()
        left = [
            f"runner {r.name} ({r.state}, {r.reason})" for r in site.runners(owed=True) if r.name not in warm
        ]
        left += [f"VM {name}" for name in site.host.vms if site.names.is_runner(name) and name not in warm]
        left += [f"registration {name}" for name in self._registered()]
        known = self._known_jobs()
        for job in site.model.workflows.jobs.values():
            if not self.is_served(job):
                continue
            if _is_open(job):
                left.append(f"job {job.id} is {job.status} at GitHub, {known.get(job.id, 'unknown')} to us")
            elif known.get(job.id, JobStatus.COMPLETED) is not JobStatus.COMPLETED:  # or nobody ever told us
                left.append(f"job {job.id} is over at GitHub, {known[job.id]} to us")
        return left

    def github_is_done(self) -> bool:
        """Whether GitHub has nothing left for us: seen without the database, since it is asked at every step."""
        jobs = self._site.model.workflows.jobs.values()
        return not self._registered() and not any(_is_open(job) and self.is_served(job) for job in jobs)

    def _registered(self) -> list[str]:
        site = self._site
        registered = (registration.name for registration in site.model.runners.registrations.values())
        return [name for name in registered if site.names.is_runner(name)]

    def is_served(self, job: Job) -> bool:
        """Whether one of our pools serves the job, and we can know of it."""
        repository = job.run.repository
        heard = bool(self._site.model.accounts.listeners(repository))
        return heard and pool_for(job.labels, repository.full_name, self._site.pools) is not None

    def check_all_served(self) -> None:
        """Note what is no fault-free day: a served job that no runner of ours completed, a runner that ended badly."""
        site = self._site
        for job in site.model.workflows.jobs.values():
            ours = job.runner_name is not None and site.names.is_runner(job.runner_name)
            if self.is_served(job) and not (ours and job.conclusion == "success"):
                self.note(f"job {job.id} ended {job.conclusion} on {job.runner_name}")
            if not self.is_served(job) and job.status != "queued" and not ours:
                self.note(f"job {job.id}, which nobody serves, is {job.status}")
        for name, reason in self._reasons.items():
            if reason not in GOOD_ENDS:
                self.note(f"{name} ended for {reason} on a day without faults")

    def _kept_warm(self) -> set[str]:
        """Return the VMs that rest as their pools ask for; what is beyond that, or still moves, is not over."""
        if not any(pool.min_ready for pool in self._site.pools):
            return set()
        ready = [runner for runner in self._site.runners() if runner.state is RunnerState.READY]
        return {
            runner.name
            for pool in self._site.pools
            for runner in [r for r in ready if r.pool == pool.name][: pool.min_ready]
        }

    def _known_jobs(self) -> dict[int, JobStatus]:
        with self._site.database.engine.begin() as connection:
            return {
                row.id: JobStatus(row.status) for row in connection.execute(select(JOB.c.id, JOB.c.status))
            }


def _is_open(job: Job) -> bool:
    return job.status != "completed" and job.run.verdict is None
