"""The World: everything one pass of the reconciler knows, frozen.

*Unknown is not absent.* A look that failed, or was never made, is ``None`` or a missing key, never an empty
list; nothing is destroyed and no slot counts as free because of it. Every look carries ``at``, the time it was
*begun*: it proves nothing about what happened later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property

from app.domain.jobs import Job
from app.domain.pools import MACOS_VM, Names, Pool, Target, slot_name
from app.domain.runners import Runner


class VMState(StrEnum):
    """What the host says of a VM."""

    RUNNING = "running"
    STOPPED = "stopped"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True, kw_only=True)
class VM:
    """One VM the host lists, ours or a stranger's."""

    name: str
    state: VMState
    host: str = ""  # the name of the one it is on; empty where there is but one, or it has none yet
    takes: Mapping[str, int] = field(default_factory=dict)  # of its host's room, now
    ending: str | None = None  # how it ended, read from its log, where it has


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was done to a base that we prepared."""

    at: datetime
    runner_version: str
    runner_dir: str
    script: str | None  # the digest of the operator's script; None: there was none


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A local VM made from an image; launches clone the newest prepared one of their image, else the newest as it is."""

    name: str
    image: str  # as pools name it; empty: no image is known to be it
    digest: str  # of the image: 64 hex digits, or as many as are known
    age: int  # 0: the newest of its kind, as far as we asked; 1: the one before that; …
    asked_at: datetime  # when the registry was last asked what the image is; when a prepared one was made
    size_gb: float = 0.0  # shared with its clones
    made: Made | None = None  # None: as the image is


class HostState(StrEnum):
    """Whether a host takes new VMs."""

    OPEN = "open"
    PAUSED = "paused"  # an operator wants none there
    SILENT = "silent"  # it was not heard of lately
    WAITING = "waiting"  # what drives the hosts has just come back, and is not to be asked yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A suspended VM, made for one pool; each of its launches resumes a clone of one that no other VM is a clone of."""

    name: str
    pool: str  # empty: one that nobody knows, whatever it was made for
    at: datetime  # when it was suspended
    source: str  # the local VM that it was cloned from
    digest: str  # of the image behind that; see HostLook.digests
    shape: str  # of its pool
    system: str  # what it was made by and on; see HostLook.system
    size_gb: float = (
        0.0  # with what its guest had in memory; disk that its source and its clones have too counts in full
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One machine that runs VMs."""

    room: Mapping[str, int]  # how much of what there is, whoever takes it; see Pool.takes
    name: str = ""  # empty where there is but one
    most: int | None = None  # VMs of ours at a time; None: only the room limits them
    traits: Mapping[str, str] = field(
        default_factory=lambda: {"arch": "arm64", "runtime": "tart"}
    )  # see Pool.wants
    state: HostState = HostState.OPEN
    closed: str = ""  # why nothing new starts there, where it is not open
    seen_at: datetime | None = None  # when it was last heard of; None: never, or it is the one we are on
    can_be_chosen: bool = True  # a VM can be put there on purpose

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of its slots, were all of it ours."""
        count = self.room.get(MACOS_VM, 0)
        count = count if self.most is None else min(count, self.most)
        return tuple(slot_name(self.name, n + 1) for n in range(count))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLook:
    """One look at the hosts: the Mac we run on, or all that another program drives for us."""

    at: datetime
    vms: tuple[VM, ...]
    hosts: tuple[Host, ...]  # in the order in which they are filled
    free_disk_gb: float | None  # None: it is not ours to watch
    images: frozenset[str] | None = (
        frozenset()
    )  # those that can be cloned at once; None: hosts fetch their own
    bases: tuple[Base, ...] = ()  # one for each image that has it
    goldens: tuple[Golden, ...] = ()
    system: str = ""  # what goldens are made by and on: only there they can be resumed
    # By image that can be cloned: its digest, or what is another whenever a local VM was rebuilt, or ran.
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One runner GitHub lists."""

    id: int
    name: str
    online: bool
    busy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationsLook:
    """One look at a target's runners."""

    at: datetime
    registrations: tuple[Registration, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestLook:
    """What the guest itself says of the runner inside it."""

    at: datetime
    delivered: bool  # it took a JIT config
    runner_alive: bool  # the supervisor or the listener lives
    worker_alive: bool  # a Runner.Worker, that is a job, lives
    exit_code: int | None = None  # run.sh ended with it


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerGroup:
    """An organization's runner group, as far as it decides where a pool may register."""

    id: int
    name: str
    visibility: str  # all | private | selected
    allows_public: bool
    repositories: tuple[str, ...] = ()  # "owner/name", where visibility is selected


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLook:
    """One look for an organization's runner group; ``group`` is None when GitHub would not show it."""

    at: datetime
    group: RunnerGroup | None
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A job at the head of its queue: the ones that a slot may be spent on next."""

    id: int
    queued_at: datetime
    received_at: datetime
    checked_at: datetime | None
    fork: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The queued jobs of one pool and repository: how many, since when, and the oldest few."""

    pool: str
    repository: str
    organization: bool
    private: bool
    count: int
    heads: tuple[Head, ...]

    @property
    def oldest(self) -> datetime:
        """Since when the first of them waits."""
        return self.heads[0].queued_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooldown:
    """Failures of one kind in one scope, and when the next try may be made."""

    scope: str  # "host", "pool:NAME", "class:POOL:TARGET", "image:IMAGE", "refresh:IMAGE", "prepare:IMAGE",
    # "golden:POOL"
    reason: str  # a short code
    detail: str  # one sentence for people
    failures: int
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """One look at a repository's queued jobs; ``refusal`` says why GitHub would not show them."""

    at: datetime
    refusal: str = ""
    jobs: frozenset[int] = frozenset()  # that wait or run, by GitHub's word

    def misses(self, job_id: int, *, since: datetime) -> bool:
        """Whether it was begun after *since* and did not show the job, which may be over, or in an older run."""
        return not self.refusal and self.at > since and job_id not in self.jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """How jobs are heard of beside webhooks, and when GitHub was last asked; None: not since the start."""

    poll_interval: timedelta
    log_read_at: datetime | None = None  # the App's delivery log, to its end
    listed_at: datetime | None = None  # the repositories the App may see
    polls: Mapping[str, Poll] = field(default_factory=dict)  # by repository
    repositories: frozenset[str] = frozenset()  # heard of, or listed by GitHub; whether served or not
    headroom: Mapping[str, float] = field(
        default_factory=dict
    )  # by owner: the share of the quota that is left


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerRelease:
    """The version of the actions runner that GitHub expects, and since when."""

    version: str
    since: datetime  # published, or where that is not known, first seen by us


@dataclass(frozen=True, kw_only=True)  # without slots, so that what many rules ask for is worked out once
class World:
    """One look at all of it."""

    names: Names
    pools: tuple[Pool, ...]
    min_free_disk_gb: float = 0.0
    image_refresh: timedelta = timedelta(0)  # how often registries are asked what a tag is; nothing: never
    image_pulls: int = 1  # hosts of a fleet that fetch images at a time
    image_keep: int = 1  # digests kept of an image beside the present one
    to_refresh: Mapping[str, datetime] = field(
        default_factory=dict
    )  # images that an operator wants asked about, and since when
    to_drop: frozenset[str] = frozenset()  # bases that an operator wants removed
    to_prepare: frozenset[str] = frozenset()  # images whose base an operator wants prepared now
    images_at: Mapping[tuple[str, str], datetime] = field(
        default_factory=dict
    )  # by host and image, of hosts that fetch their own: when the host last fetched it, as far as is known
    spread: bool = False  # the emptiest host is filled first, and not the first in order
    draining: bool = False
    demand: tuple[Demand, ...] = ()
    runners: tuple[Runner, ...] = ()  # every live one, and those gone whose registration is still owed
    work: Mapping[str, Job] = field(default_factory=dict)  # by runner: the job GitHub says it took
    unsettled: tuple[Job, ...] = ()  # in progress, on a runner of ours that is gone
    cooldowns: tuple[Cooldown, ...] = ()
    host: HostLook | None = None
    ended: Mapping[str, str] = field(default_factory=dict)  # VMs whose end was told since, and how
    host_changed_at: datetime | None = None  # something happened there after the last look began
    registrations: Mapping[Target, RegistrationsLook] = field(default_factory=dict)
    known_targets: frozenset[Target] = frozenset()  # where we ever registered: the sweep looks there
    guests: Mapping[str, GuestLook] = field(default_factory=dict)
    groups: Mapping[tuple[str, str | None], GroupLook] = field(default_factory=dict)
    hearing: Hearing | None = None  # None: webhooks only
    release: RunnerRelease | None = None  # None: not known
    released_at: datetime | None = None  # when GitHub was last asked for it
    versions: Mapping[str, str] = field(
        default_factory=dict
    )  # by pool: the runner in its image, last seen there
    in_hand: frozenset[str] = frozenset()  # keys of actions under way, or resting after a failure
    seen_before: frozenset[str] = frozenset()  # orphans that an earlier look saw too

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """Every slot there is, free or not; none before the first look."""
        hosts = self.host.hosts if self.host else ()
        return tuple(slot for host in hosts for slot in host.slots)

    @property
    def open_slots(self) -> tuple[str, ...]:
        """Return the slots that nothing holds, on hosts that take new VMs."""
        held = {runner.slot for runner in self.live}
        hosts = self.host.hosts if self.host else ()
        return tuple(slot for host in hosts if not host.closed for slot in host.slots if slot not in held)

    @cached_property
    def live(self) -> tuple[Runner, ...]:
        """The runners that hold a slot."""
        return tuple(runner for runner in self.runners if runner.is_live)

    def pool(self, name: str) -> Pool | None:
        """Return the pool configured under *name* today."""
        for pool in self.pools:
            if pool.name == name:
                return pool
        return None

    def registration(self, runner: Runner) -> Registration | None:
        """Return what GitHub listed under the runner's name; None says nothing (see :meth:`is_unlisted`)."""
        look = self.registrations.get(runner.target) if runner.target else None
        return next((r for r in look.registrations if r.name == runner.name), None) if look else None

    def is_unlisted(self, runner: Runner) -> bool:
        """Whether a look begun after the runner's last transition did not find its registration."""
        look = self.registrations.get(runner.target) if runner.target else None
        return look is not None and look.at > runner.since and self.registration(runner) is None
