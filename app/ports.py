"""The two ports to the outside, and the errors callers may see.

Adapters translate and nothing else: their types in, the frozen values of :mod:`app.domain` out. An error is
named for what the caller can do about it; its ``code`` is the label it has in logs, metrics and history.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar, Protocol

from app.domain.hearing import LogEntry
from app.domain.jobs import WorkflowJobEvent
from app.domain.pools import Pool, Start, Target
from app.domain.world import GuestLook, HostLook, Registration, RunnerGroup


class OutsideError(Exception):
    """The outside world did not do as asked. The text is for people and never holds a secret."""

    code: ClassVar[str] = "outside_error"


class GitHubUnavailable(OutsideError):
    """GitHub could not answer now (5xx, time-out, rate limit): wait, at least ``retry_after`` where it said so.

    ``maybe_done`` is False only where GitHub certainly did nothing of what was asked: it was not reached, or refused
    for a limit, or we did not even ask.
    """

    code = "github_unavailable"

    def __init__(
        self, message: str, *, retry_after: timedelta | None = None, maybe_done: bool = True
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.maybe_done = maybe_done


class GitHubRefused(OutsideError):
    """GitHub understood and said no: our set-up is wrong; the text names the mend."""

    code = "github_refused"


class NotFound(OutsideError):
    """GitHub knows no such job, run, repository or installation (or does not show it to us)."""

    code = "github_not_found"


class NameTaken(OutsideError):
    """A registration of that name exists (409), usually from an attempt whose answer was lost."""

    code = "name_taken"


class DownloadFailed(OutsideError):
    """The actions runner could not be brought to this host, or is not what GitHub says that it is."""

    code = "download_failed"


class RunnerBusy(OutsideError):
    """GitHub will not remove the registration, since it runs a job (422): an answer, not a failure."""

    code = "runner_busy"


class VMError(OutsideError):
    """A VM could not be cloned, started, reached or removed.

    ``reason`` is a short code of what went wrong; ``host_wide`` says that any other VM would have met the same.
    """

    code = "vm_error"

    def __init__(self, message: str, *, reason: str = "vm_error", host_wide: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.host_wide = host_wide


class UnknownHost(VMError):
    """There is no host of that name to pause; the text says which there are."""

    code = "unknown_host"


class VMTimeout(VMError):
    """It did not happen in the time allowed."""

    code = "vm_timeout"


@dataclass(frozen=True, slots=True)
class JitConfig:
    """A runner's single-use credentials. Neither ``repr`` nor ``str`` shows them."""

    encoded: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """A registration that GitHub just made."""

    registration_id: int
    jit: JitConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A workflow run, as far as its jobs' fate depends on it."""

    status: str
    conclusion: str | None
    event: str
    fork: bool  # its head is in another repository, or in one that is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A version of the actions runner, and when it was published, where GitHub tells."""

    version: str
    published_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """The actions runner that GitHub expects of a Mac, on this host, its checksum compared with what GitHub says."""

    version: str
    archive: Path
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFacts:
    """What was learnt of a guest when it answered."""

    image: str  # what it was cloned from: a digest where there is one
    runner_version: str | None
    host: str = ""  # the name of the one it is on; empty where there is but one
    cloned_at: datetime | None = None  # when the clone was there, where that was seen
    # What tells whether launches clone something else by now, as HostLook.digests and bases do; None: it is not known.
    source: str | None = None
    start: Start = Start.COLD  # how it came up
    trouble: VMError | None = None  # why it booted, although a clone of a golden was to be resumed


class GitHub(Protocol):
    """GitHub, at the scope of one App or token.

    Every method raises :class:`GitHubUnavailable` when asking again later may help and :class:`GitHubRefused`
    when it will not. None sleeps longer than a few seconds.
    """

    async def mint(self, target: Target, *, name: str, labels: tuple[str, ...], group_id: int) -> Minted:
        """Register *name* at *target* and return its JIT config.

        Never repeated by itself: a call whose answer was lost may have registered. Raises NameTaken (409).
        """

    async def registrations(self, target: Target) -> tuple[Registration, ...]:
        """Return every runner listed at *target*, all pages, strangers' too."""

    async def deregister(self, target: Target, *, name: str, registration_id: int | None) -> bool:
        """Remove a registration; look it up by *name* when its id is not known.

        True: GitHub removed it now (204), so it ran nothing. False: there was none (404): it may have ended by
        itself, or never been. Raises RunnerBusy (422).
        """

    async def job(self, repository: str, job_id: int) -> WorkflowJobEvent:
        """Return what GitHub says of a job now. Raises NotFound."""

    async def run(self, repository: str, run_id: int) -> Run:
        """Return a job's run. Raises NotFound."""

    async def delivery_log(self, since: datetime) -> tuple[LogEntry, ...]:
        """Return every attempt to deliver a webhook since then; empty with a token, which has no such log."""

    async def logged_delivery(self, delivery_id: int) -> WorkflowJobEvent | None:
        """Return what a delivery of the log tells of a job; None: nothing that is for us. Raises NotFound."""

    async def repositories(self) -> tuple[str, ...]:
        """Return every repository that the App may see; empty with a token, which may see far too many."""

    async def queued_jobs(self, repository: str) -> tuple[WorkflowJobEvent, ...]:
        """Return the jobs that wait or run in a repository, of the newest hundred queued and running runs."""

    async def latest_runner(self, target: Target) -> Release:
        """Return the version of the actions runner that GitHub expects of a Mac."""

    async def runner_package(self, target: Target) -> Package:
        """Bring the actions runner that GitHub expects of a Mac to this host, unless it is here.

        May take a quarter of an hour. Raises DownloadFailed, and then nothing unverified is kept.
        """

    def headroom(self, target: Target) -> float:
        """Return the share of GitHub's quota that is left for *target*, from 0 to 1; 1 when it is not known."""

    async def whoami(self) -> str:
        """Prove the credentials and return whose they are; GitHubRefused names what they lack."""

    def quota(self) -> dict[str, dict[str, int | str]]:
        """Return what is left of GitHub's limits, by installation and resource, as last told."""

    async def runner_group(self, organization: str, name: str | None) -> RunnerGroup:
        """Return the group called *name*, or the default group. Raises NotFound when there is none such."""


class VMBackend(Protocol):
    """A host that runs VMs. Every method is idempotent, bounded in time, and raises VMError."""

    async def look(self) -> HostLook:
        """Return all VMs, strangers' too, and what room the host has. Raises rather than leave something out."""

    async def prepare(self, image: str) -> str:
        """Make *image* as it is now clonable (pull it, make its local base), and return its name with the digest.

        What was clonable before stays so until then, and is kept after. May take an hour; never part of a launch.
        """

    async def make_base(self, name: str, spec: Pool, package: Package) -> None:
        """Prepare the base of a pool's image in a VM called *name*, and have launches clone it once it is whole.

        The image is cloned and booted, gets the runner in ``spec.runner_dir``, runs ``spec.prepare_script``, and is
        shut down. What was cloned before stays so until then. May take over an hour; each step has a limit of its
        own. Leaves clean-up of a VM that became no base to :meth:`delete`; half a base is never cloned.
        """

    async def fetch(self, name: str, spec: Pool, *, host: str) -> GuestFacts:
        """Have one of several hosts fetch the pool's image as the registry has it now, in a VM called *name*.

        Returns once that is known to be whole there; the VM is of no further use. May take an hour. Leaves clean-up
        to :meth:`delete`.
        """

    async def drop_base(self, name: str, in_use: frozenset[str]) -> None:
        """Remove a local base with what was pulled for it; absent is success. Raises where an image in use has it."""

    async def make_golden(self, name: str, spec: Pool) -> None:
        """Make a golden of a pool in a VM called *name*, and have launches resume clones of it once one was.

        What launches clone is booted, comes to rest, is suspended and renamed; a clone of it, called *name* again, is
        resumed to see that it can be. Takes some minutes; each step has a limit of its own. Leaves clean-up of VM
        *name* to :meth:`delete`; half a golden is never cloned.
        """

    async def drop_golden(self, name: str) -> None:
        """Remove a golden; absent is success. What runs as a clone of it goes on."""

    async def start(self, name: str, spec: Pool, *, host: str = "") -> GuestFacts:
        """Clone, configure and start a VM, or go on waiting for one of that name that already runs.

        It goes to *host* where a host can be chosen and takes it, and otherwise to whichever takes it.
        Returns when the guest answers, its clock is right and its job-started guard is installed. The guest has
        no GitHub identity then. Raises VMTimeout after ``spec.boot_timeout``. Leaves clean-up to :meth:`delete`.

        Where the pool has a golden of which no VM is a clone, a clone of it is resumed instead. What goes wrong with
        that is told in the answer, and costs the launch a minute or two: it boots then, with the whole of that limit.
        """

    async def deliver(self, name: str, spec: Pool, jit: JitConfig) -> None:
        """Hand the guest its JIT config and start the runner, detached; returns when the guest confirmed.

        A second delivery to one guest is refused by the guest itself. Output of the runner is followed from then on.
        """

    async def probe(self, name: str) -> GuestLook:
        """Ask the guest about its runner. A guest that does not answer raises: it is unknown, not idle."""

    async def hold(self, name: str, until: datetime | None) -> None:
        """Have the guest stay up after its runner has ended: until then, or (None) no longer than usual."""

    async def follow(self, name: str, spec: Pool) -> None:
        """Go on (or begin again) copying the runner's output to this host; returns at once. For adopted VMs."""

    def listening(self, name: str) -> datetime | None:
        """Return when the runner's output first said that it waits for a job; None: nobody heard it say so."""

    async def pause(self, host: str, *, paused: bool) -> None:
        """Have one of several hosts take nothing new, or again. Raises UnknownHost where there is none of that name."""

    async def delete(self, name: str) -> None:
        """Stop and delete a VM; returns only when the host confirms that it is absent. Absent is success."""

    def logs(self, name: str) -> tuple[Path, ...]:
        """Return the files on this host that hold the kept output of a VM and its runner; may be empty."""

    def forget(self, before: datetime) -> None:
        """Remove the kept output of VMs that said nothing since *before*."""

    def on_end(self, callback: Callable[[str, str], None]) -> None:
        """Have *callback* called, on the event loop, with the name of a VM that ended and how it did."""

    async def close(self) -> None:
        """Let go of everything, leaving VMs running."""
