"""Runners of the sandbox's GitHub: registered, connected, given a job, gone.

GitHub binds no job to a runner: whenever a job waits and an idle runner listens, one pair is drawn at random
from all that fit, so that a runner booted for one job now and then runs another (docs/contracts/github.md §5).
An ephemeral runner's registration ends with its job; *busy* begins when the job is assigned, because from then
on GitHub refuses to remove the runner.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.domain.pools import Target
from app.sandbox import github_jit
from app.sandbox.github_accounts import Accounts
from app.sandbox.github_ground import Ground
from app.sandbox.github_values import AccountKind, ApiError, Group, Job, Registration, Session
from app.sandbox.github_workflows import Workflows

PICK_UP = timedelta(seconds=60)  # an assigned job not started by then goes back to the queue
MISSES = 3  # so often; then it is cancelled
OFFLINE_LIFE = timedelta(days=1)
LOCK = timedelta(minutes=10)  # a job whose runner is gone fails after this
SILENCE = timedelta(seconds=60)  # a session that sends heartbeats is gone after this
DEFAULT_GROUP = 1


class SessionRefused(Exception):
    """A listener may not connect, or not go on; ``code`` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def registration_deleted() -> SessionRefused:
    """Say that the registration is gone."""
    return SessionRefused("registration_deleted", "The runner registration has been deleted from the server.")


@dataclass(slots=True)
class Expected:
    """Which runners GitHub expects, and which it still takes."""

    version: str = "2.336.0"
    published_at: datetime = datetime(2026, 7, 20, 12, tzinfo=UTC)
    oldest: str = "2.329.0"


class Runners:
    """Every registration and session, and the drawing of jobs."""

    def __init__(self, ground: Ground, accounts: Accounts, workflows: Workflows) -> None:
        self._ground = ground
        self._accounts = accounts
        self._workflows = workflows
        workflows.opened, workflows.ended = self.match, self._job_ended
        workflows.cancelling = self._tell_cancelled
        self.registrations: dict[int, Registration] = {}
        self.sessions: dict[str, Session] = {}
        self.service_url = "https://pipelines.actions.example"  # ServerUrl of the blobs
        self.watchers: list[Callable[[Session], None]] = []  # told of a job, its cancellation, the end
        self.refusals: list[SessionRefused] = []  # each is met by one connect
        self.expected = Expected()
        self.idle_life: timedelta | None = (
            None  # so long after connecting, GitHub drops a runner without a job
        )
        self.ghosts = 0  # so many of the next connections become ghosts

    # -- registrations ---------------------------------------------------------------------------

    def mint(
        self, target: Target, *, name: str, labels: tuple[str, ...], group_id: int, work_folder: str = "_work"
    ) -> tuple[Registration, str]:
        """Register a runner and return it with its JIT configuration."""
        group = self._group(target, group_id)
        _check_arguments(name, labels)
        listed = self.at(target)
        if any(runner.name.casefold() == name.casefold() for runner in listed):
            raise ApiError(409, f"Already exists - A runner with the name {name} already exists.")
        if sum(runner.group is group for runner in listed) >= group.limit:
            message = f"Runner group {group.id} has reached max limit of {group.limit} runners."
            raise ApiError(422, message)
        now = self._ground.now()
        secret = github_jit.number_text(int(self._ground.hex(512), 16))
        runner = Registration(
            id=self._ground.number("runner"),
            name=name,
            target=target,
            group=group,
            labels=labels,
            created_at=now,
            client_id=self._ground.guid(),
            secret=self._ground.keep(secret),
            offline_since=now,
        )
        self.registrations[runner.id] = runner
        self._reap_later(runner)
        return runner, self._ground.keep(self._blob(runner, work_folder))

    def _group(self, target: Target, group_id: int) -> Group:
        if target.repository is None:
            if self._accounts.account(target.owner).kind is AccountKind.USER:
                raise ApiError(404, "Not Found")
            return self._accounts.group(target.owner, group_id)
        repository = self._accounts.repository(str(target))
        if not repository.owner.repository_runners:
            raise ApiError(403, "Repository level self-hosted runners are disabled by your organization.")
        if group_id != DEFAULT_GROUP:
            raise ApiError(422, f"Runner group {group_id} does not exist: a repository has only group 1.")
        return Group(id=DEFAULT_GROUP, name="Default", default=True, allows_public=True)

    def _blob(self, runner: Registration, work_folder: str) -> str:
        agent = {
            "AgentId": str(runner.id),
            "AgentName": runner.name,
            "PoolId": str(runner.group.id),
            "PoolName": runner.group.name,
            "ServerUrl": self.service_url,
            "ServerUrlV2": self.service_url,
            "UseV2Flow": "True",
            "Ephemeral": "True",
            "DisableUpdate": "False",
            "SkipSessionRecover": "True",
            "WorkFolder": work_folder,
            "GitHubUrl": "",
        }
        credentials = github_jit.Credentials(runner.client_id, runner.secret)
        return github_jit.encode(agent=agent, credentials=credentials, auth_url=self.service_url)

    def at(self, target: Target, name: str | None = None) -> list[Registration]:
        """Return the runners listed at a target, or the one called *name*."""
        key = str(target).casefold()
        return [
            runner
            for runner in self.registrations.values()
            if str(runner.target).casefold() == key
            and (name is None or runner.name.casefold() == name.casefold())
        ]

    def get(self, target: Target, runner_id: int) -> Registration:
        """Return one listed runner, or answer 404."""
        runner = self.registrations.get(runner_id)
        if runner is None or str(runner.target).casefold() != str(target).casefold():
            raise ApiError(404, "Not Found")
        return runner

    def deregister(self, target: Target, runner_id: int) -> None:
        """Remove a runner that has no job; answer 422 for one that has, 404 where there is none."""
        runner = self.get(target, runner_id)
        if runner.busy:
            message = (
                f'Runner "{runner.name}" is still running a job "{runner.job.name if runner.job else ""}"'
            )
            raise ApiError(422, message)
        self._remove(runner)

    def _remove(self, runner: Registration) -> None:
        runner.removed, runner.online = True, False
        self.registrations.pop(runner.id, None)
        if runner.session is not None:
            self._notify(runner.session)  # its listener waits, and now learns that it is over

    def _reap_later(self, runner: Registration) -> None:
        since = runner.offline_since

        def reap() -> None:
            if not runner.online and runner.offline_since == since and not runner.removed:
                self._remove(runner)

        self._ground.at(since + OFFLINE_LIFE, reap)

    # -- sessions --------------------------------------------------------------------------------

    def connect(self, blob: str, *, version: str = "2.336.0", heartbeats: bool = False) -> Session:
        """Open a session with a JIT configuration; the runner is online then. Raises SessionRefused."""
        return self.connect_with(github_jit.decode(blob), version=version, heartbeats=heartbeats)

    def connect_with(
        self, credentials: github_jit.Credentials, *, version: str = "2.336.0", heartbeats: bool = False
    ) -> Session:
        """Open a session with the credentials out of a JIT configuration."""
        if self.refusals:
            raise self.refusals.pop(0)
        runner = next((r for r in self.registrations.values() if r.client_id == credentials.client_id), None)
        if runner is None or runner.secret != credentials.secret:
            raise registration_deleted()
        if runner.session is not None and runner.session.open:
            raise SessionRefused("session_conflict", "A session for this runner already exists.")
        if not _new_enough(version, self.expected.oldest):
            raise SessionRefused("version_deprecated", f"Runner version v{version} is deprecated.")
        session = Session(id=self._ground.guid(), registration=runner)
        session.seen_at = self._ground.now() if heartbeats else None
        self.sessions[session.id] = session
        runner.session, runner.online, runner.os, runner.version = session, True, "macOS", version
        if heartbeats:
            self._expect_heartbeat(session)
        if self.idle_life is not None:
            self._ground.after(self.idle_life, lambda: self._drop_idle(session))
        if self.ghosts:
            self.ghosts -= 1
            session.ghost = True
            self._remove(runner)
        self.match()
        return session

    def _drop_idle(self, session: Session) -> None:
        if session.open and not session.registration.busy:
            self._remove(session.registration)

    def _expect_heartbeat(self, session: Session) -> None:
        seen = session.seen_at
        if seen is None or not session.open:
            return

        def check() -> None:
            if session.seen_at is not None and session.seen_at + SILENCE <= self._ground.now():
                self.disconnect(session)
            else:
                self._expect_heartbeat(session)

        self._ground.at(seen + SILENCE, check)

    def beat(self, session: Session) -> None:
        """Note that a session lives."""
        session.seen_at = self._ground.now()

    def next_job(self, session: Session) -> Job | None:
        """Return the job assigned to a session. Raises SessionRefused once the registration is gone."""
        if session.ghost:
            return None
        if not session.open or session.registration.removed:
            raise registration_deleted()
        return session.registration.job

    def start(self, session: Session) -> Job:
        """Take up the assigned job. Raises SessionRefused if it went elsewhere meanwhile."""
        job = session.registration.job
        if job is None or job.status == "completed":
            raise SessionRefused("job_gone", "The job was given to another runner, or cancelled.")
        self._workflows.start(job, session.registration)
        return job

    def finish(self, session: Session, conclusion: str | None = None, *, log: str = "") -> None:
        """End the job, and with it the ephemeral runner."""
        runner = session.registration
        job = runner.job
        session.open = False
        self.sessions.pop(session.id, None)
        if job is not None:
            job.log += log
            self._workflows.complete(job, "cancelled" if job.cancelled else conclusion or job.outcome)
        runner.job = None
        self._remove(runner)

    def disconnect(self, session: Session) -> None:
        """Lose a session: its runner is offline; a job it ran fails when its lock has expired."""
        runner = session.registration
        if not session.open:
            return
        session.open = False
        self.sessions.pop(session.id, None)
        runner.session, runner.online, runner.offline_since = None, False, self._ground.now()
        if runner.removed:
            return
        if runner.job is not None and runner.job.status == "in_progress":
            self._ground.after(LOCK, lambda: self._lock_expired(runner))
        self._reap_later(runner)

    def _lock_expired(self, runner: Registration) -> None:
        if runner.session is None and runner.job is not None:
            self._workflows.complete(runner.job, "cancelled" if runner.job.cancelled else "failure")
            runner.job = None
            self._remove(runner)

    # -- matching --------------------------------------------------------------------------------

    def match(self) -> None:
        """Give waiting jobs to idle runners, drawing one fitting pair after the other."""
        while True:
            idle = [r for r in self.registrations.values() if r.online and r.job is None and r.session]
            if not idle or not self._workflows.waiting:
                return
            pairs = [
                (job, runner)
                for job in self._workflows.waiting.values()
                if job.runner is None
                for runner in idle
                if self.fits(job, runner)
            ]
            if not pairs:
                return
            self._assign(*self._ground.rng.choice(pairs))

    def fits(self, job: Job, runner: Registration) -> bool:
        """Whether GitHub may give *job* to *runner*."""
        repository, target = job.run.repository, runner.target
        if target.repository is None:
            near = target.owner.casefold() == repository.owner.login.casefold()
        else:
            near = str(target).casefold() == repository.full_name.casefold()
        if not near or not runner.group.admits(repository):
            return False
        if job.group is not None and job.group.casefold() != runner.group.name.casefold():
            return False
        wanted = {label.casefold() for label in job.labels}
        return bool(wanted or job.group) and wanted <= {label.casefold() for label in runner.labels}

    def _assign(self, job: Job, runner: Registration) -> None:
        now = self._ground.now()
        job.runner, job.assigned_at, runner.job = runner, now, job
        self._ground.after(PICK_UP, lambda: self._missed(job, runner))
        if runner.session is not None:
            self._notify(runner.session)

    def _missed(self, job: Job, runner: Registration) -> None:
        if job.runner is not runner or job.status != "queued":
            return
        job.runner, job.assigned_at, job.misses = None, None, job.misses + 1
        runner.job = None
        if job.misses >= MISSES:
            self._workflows.complete(job, "cancelled")
        self.match()

    def _notify(self, session: Session) -> None:
        for watcher in self.watchers:
            watcher(session)

    def _tell_cancelled(self, job: Job) -> None:
        if job.runner is not None and job.runner.session is not None:
            self._notify(job.runner.session)

    def _job_ended(self, job: Job) -> None:
        """Free the runner of a job that ended before it was taken up."""
        runner = job.runner
        if runner is not None and runner.job is job and job.runner_name is None:
            job.runner = runner.job = None
            self.match()


def _check_arguments(name: str, labels: tuple[str, ...]) -> None:
    if not name or len(name) > 64 or re.search(r"[\s/\\]", name):
        raise ApiError(422, "Invalid Argument - name must be 1 to 64 characters without spaces or slashes")
    if not 1 <= len(labels) <= 100:
        raise ApiError(422, "Invalid Argument - labels must hold 1 to 100 items")
    if any(not label or len(label) > 256 for label in labels):
        raise ApiError(422, "Invalid Argument - each label must be 1 to 256 characters")


def _new_enough(version: str, oldest: str) -> bool:
    return _numbers(version) >= _numbers(oldest)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
