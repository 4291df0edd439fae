"""What the sandbox's GitHub remembers: plain mutable records, one class a thing, and the error its answers raise.

They are GitHub's side of the truth, so they never appear outside :mod:`app.sandbox`; the product sees them only
as JSON, or as the values of :mod:`app.ports`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from app.domain.pools import Target


class ApiError(Exception):
    """GitHub answers with an error: its status, its message, and the headers that explain it."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


class AccountKind(StrEnum):
    """Who may own repositories."""

    USER = "User"
    ORGANIZATION = "Organization"


@dataclass(slots=True, kw_only=True)
class Account:
    """A user or an organization."""

    id: int
    login: str
    kind: AccountKind
    repository_runners: bool = True  # organization policy: runners may register at single repositories


@dataclass(slots=True, kw_only=True)
class Repository:
    """A repository, reduced to what decides which runners may serve it."""

    id: int
    name: str
    owner: Account
    visibility: str = "private"  # private | internal | public

    @property
    def full_name(self) -> str:
        """Return ``owner/name``."""
        return f"{self.owner.login}/{self.name}"

    @property
    def private(self) -> bool:
        """Whether it is not public."""
        return self.visibility != "public"


@dataclass(slots=True, kw_only=True)
class Group:
    """A runner group of an organization; of a repository's runners there is only the nameless default one."""

    id: int
    name: str
    default: bool = False
    visibility: str = "all"  # all | private | selected
    allows_public: bool = False
    repositories: set[int] = field(default_factory=set)  # repository ids, where selected
    limit: int = 10_000

    def admits(self, repository: Repository) -> bool:
        """Whether jobs of *repository* may run on the group's runners (docs/contracts/github.md §5.5)."""
        if not repository.private and not self.allows_public:
            return False
        if self.visibility == "selected":
            return repository.id in self.repositories
        return self.visibility == "all" or repository.private


@dataclass(slots=True, kw_only=True)
class Installation:
    """The App on an account."""

    id: int
    account: Account
    permissions: dict[str, str]
    events: tuple[str, ...] = ("workflow_job",)
    repositories: set[int] | None = None  # None: all of the account's
    created_at: datetime
    suspended_at: datetime | None = None

    def covers(self, repository: Repository) -> bool:
        """Whether the App sees *repository* through this installation."""
        if repository.owner is not self.account:
            return False
        return self.repositories is None or repository.id in self.repositories


@dataclass(slots=True, kw_only=True)
class Token:
    """An installation's token, or a person's (then without installation)."""

    text: str = field(repr=False)
    account: Account
    permissions: dict[str, str]
    installation: Installation | None = None
    repositories: set[int] | None = None
    expires_at: datetime | None = None


@dataclass(slots=True, kw_only=True)
class Registration:
    """A runner as GitHub lists it."""

    id: int
    name: str
    target: Target
    group: Group
    labels: tuple[str, ...]
    created_at: datetime
    client_id: str
    secret: str = field(repr=False)
    os: str = "unknown"
    online: bool = False
    version: str | None = None
    offline_since: datetime
    job: Job | None = None  # assigned or running
    session: Session | None = None
    removed: bool = False  # GitHub no longer lists it

    @property
    def busy(self) -> bool:
        """Whether it holds a job."""
        return self.job is not None


@dataclass(slots=True, kw_only=True)
class Session:
    """One connection of a runner's listener; a ghost's is open and never gets a job."""

    id: str
    registration: Registration
    open: bool = True
    ghost: bool = False
    seen_at: datetime | None = None  # last heartbeat; None: it sends none


@dataclass(slots=True, kw_only=True)
class Run:
    """A workflow run."""

    id: int
    number: int
    repository: Repository
    workflow: str
    event: str = "push"
    head_repository: Repository | None = None  # None: the fork is gone
    head_branch: str = "main"
    head_sha: str
    created_at: datetime
    updated_at: datetime
    attempt: int = 1
    jobs: list[Job] = field(default_factory=list)  # of the latest attempt
    earlier: list[Job] = field(default_factory=list)
    verdict: str | None = None  # a conclusion given from outside, such as startup_failure

    @property
    def fork(self) -> bool:
        """Whether its head is in another repository."""
        return self.head_repository is None or self.head_repository.id != self.repository.id

    @property
    def status(self) -> str:
        """Derive the status as GitHub does: one running job makes the run *in_progress* while others wait."""
        if self.verdict is not None:
            return "completed"
        found = {job.status for job in self.jobs}
        if found <= {"completed"}:
            return "completed"
        if found & {"in_progress", "completed"}:
            return "in_progress"
        return next((status for status in ("queued", "waiting", "pending") if status in found), "queued")

    @property
    def conclusion(self) -> str | None:
        """Return the worst of its jobs' conclusions, once all are over."""
        if self.verdict is not None or self.status != "completed":
            return self.verdict
        found = {job.conclusion for job in self.jobs}
        ranked = ("failure", "timed_out", "cancelled", "success", "skipped", "neutral")
        return next((conclusion for conclusion in ranked if conclusion in found), "success")


@dataclass(slots=True, kw_only=True)
class Job:
    """One job of a run."""

    id: int
    run: Run = field(repr=False)
    attempt: int
    name: str
    key: str  # its key in the workflow file, GITHUB_JOB
    labels: tuple[str, ...]
    group: str | None = None  # the runner group that runs-on names
    seconds: float = 0.0
    script: str | None = None  # shell text, its only step
    always: str | None = None  # the same, of a step with `if: always()`
    outcome: str = "success"  # how it ends if nothing interferes
    status: str = "queued"
    conclusion: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    assigned_at: datetime | None = None
    runner: Registration | None = field(default=None, repr=False)  # holds, or held, it
    runner_name: str | None = None  # set when it started
    misses: int = 0  # runners that were offered it and did not start it
    cancelled: bool = False  # asked to stop while it ran
    log: str = ""

    @property
    def open(self) -> bool:
        """Whether a runner may be given it."""
        return self.status == "queued" and self.runner is None and self.run.verdict is None
