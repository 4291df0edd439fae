"""Pools, the names we make, and which pool a job belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache

SYSTEMS = {
    "darwin": "macOS",
    "linux": "Linux",
}  # as GitHub's own labels say it, and adds none to a JIT runner
ARCHITECTURES = {"arm64": "ARM64", "amd64": "X64"}
MAX_NAME = 63  # tart has no rule of its own; docs/contracts/tart.md §7.4
MAX_POOL_NAME = MAX_NAME - 20 - 1 - 1 - 8  # host name, two dashes, random part
BASE = "base"  # where the pool stands, in the names of VMs that are no pool's
GOLDEN = "golden"
RESERVED_POOL_NAMES = frozenset({BASE, GOLDEN})
TOKEN_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"  # noqa: S105  # base32, lower case
TOKEN_LENGTH = 8
MACOS_VM = "macos-vm"  # what a running macOS guest takes of its host's room: Apple allows two on a Mac


class Scope(StrEnum):
    """Where a pool's runners register."""

    AUTO = "auto"
    REPOSITORY = "repository"
    ORGANIZATION = "organization"


class Forks(StrEnum):
    """Whether pull requests from forks may run."""

    ALLOW = "allow"
    DENY = "deny"


class Start(StrEnum):
    """How the VMs of a pool come up."""

    COLD = "cold"  # a clone of a base is booted
    SNAPSHOT = "snapshot"  # a clone of a suspended VM, a *golden*, is resumed


@dataclass(frozen=True, slots=True)
class Script:
    """A script of the operator's, with the SHA-256 of what it said when the configuration was read."""

    path: str
    digest: str

    def __str__(self) -> str:
        """Return the path, and enough of the digest to see that it changed."""
        return f"{self.path} ({self.digest[:12]})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a pool's guests are, and what they want of the host that gets them."""

    os: str = "darwin"
    arch: str = "arm64"
    runtime: str = "tart"
    resources: tuple[tuple[str, int], ...] = ()  # taken of its room, beside a macOS guest's place
    labels: tuple[tuple[str, str], ...] = ()  # which it must carry


@dataclass(frozen=True, kw_only=True)  # without slots, so that what every pass asks for is worked out once
class Pool:
    """One pool's configuration in force; frozen into every runner launched from it."""

    name: str
    labels: tuple[str, ...]
    image: str
    repositories: tuple[str, ...]
    scope: Scope = Scope.AUTO
    runner_group: str | None = None
    forks: Forks = Forks.ALLOW
    default_labels: bool = True
    cpu: int | None = None
    memory_mib: int | None = None
    disk_gb: int | None = None
    max_runners: int | None = None
    max_per_repository: int | None = None
    priority: int = 0
    min_ready: int = field(default=0, compare=False)  # how many there are says nothing about each of them
    start: Start = Start.COLD
    network: str = "softnet"
    network_allow: tuple[str, ...] = ()
    network_block: tuple[str, ...] = ()
    disk_options: str = "sync=none,caching=cached"
    runner_dir: str = "~/actions-runner"
    prepare: bool = True
    prepare_script: Script | None = None
    boot_timeout: timedelta = timedelta(minutes=5)
    idle_timeout: timedelta = timedelta(minutes=5)
    job_timeout: timedelta = timedelta(hours=6, minutes=15)
    kind: Kind = Kind()

    @property
    def runner_labels(self) -> tuple[str, ...]:
        """Every label its runners carry, in the order configured, none twice."""
        usual = ("self-hosted", SYSTEMS[self.kind.os], ARCHITECTURES[self.kind.arch])
        labels = (*usual, *self.labels) if self.default_labels else self.labels
        return tuple({label.casefold(): label for label in reversed(labels)}.values())[::-1]

    @cached_property
    def takes(self) -> Mapping[str, int]:
        """What each of its VMs takes of a host's room."""
        place = {MACOS_VM: 1} if self.kind.os == "darwin" else {}
        return place | dict(self.kind.resources)

    @cached_property
    def wants(self) -> Mapping[str, str]:
        """What a host must be to get its VMs."""
        labels = {f"label:{name}": value for name, value in self.kind.labels}
        return {"arch": self.kind.arch, "runtime": self.kind.runtime} | labels

    @property
    def shape(self) -> str:
        """All of it that a suspended VM must have been made with: its hardware and disk, and where its runner lies."""
        hardware = f"{self.cpu} {self.memory_mib} {self.disk_gb}"
        network = f"{self.network} {','.join(self.network_allow)} {','.join(self.network_block)}"
        return f"{hardware} {network} {self.disk_options} {self.runner_dir}"

    @property
    def effective_scope(self) -> Scope:
        """The scope with ``auto`` narrowed where a cap per repository needs us, not GitHub, to pick the job."""
        if self.scope is Scope.AUTO and self.max_per_repository is not None:
            return Scope.REPOSITORY
        return self.scope

    def serves(self, repository: str) -> bool:
        """Whether *repository* (``owner/name``) is on the allow-list; case does not matter, as on GitHub."""
        name = repository.casefold()
        return any(fnmatchcase(name, pattern.casefold()) for pattern in self.repositories)

    def suits(self, labels: Iterable[str]) -> bool:
        """Whether its runners carry every one of *labels*, and there is at least one."""
        wanted = frozenset(label.casefold() for label in labels)
        return bool(wanted) and wanted <= self.folded_labels

    @cached_property
    def folded_labels(self) -> frozenset[str]:
        """Its runners' labels, whose case does not matter."""
        return frozenset(label.casefold() for label in self.runner_labels)


def pool_for(labels: Sequence[str], repository: str, pools: Iterable[Pool]) -> Pool | None:
    """Return the one pool a job is demand of: the fewest labels that suffice, then priority, then name."""
    fitting = [pool for pool in pools if pool.suits(labels) and pool.serves(repository)]
    return min(fitting, key=lambda p: (len(p.folded_labels), -p.priority, p.name), default=None)


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """Where a runner registers: a repository, or a whole organization."""

    owner: str
    repository: str | None = None

    def __str__(self) -> str:
        """Return ``owner/name`` or ``owner``."""
        return f"{self.owner}/{self.repository}" if self.repository else self.owner

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read what :meth:`__str__` wrote."""
        owner, _, repository = text.partition("/")
        return cls(owner, repository or None)


def slot_name(host: str, number: int) -> str:
    """Return the name of a host's slot: ``2``, or ``mini2/1`` where there are several hosts."""
    return f"{host}/{number}" if host else str(number)


def host_of(slot: str) -> str:
    """Return the name of the host that a slot is on."""
    return slot.rpartition("/")[0]


def runner_name(host: str, pool: str, token: str) -> str:
    """Return the one name that runner, VM and registration share."""
    return f"{host}-{pool}-{token}"


@dataclass(frozen=True, slots=True)
class Names:
    """The anchored pattern of the names this host makes; what it does not match we never touch."""

    host: str

    def is_runner(self, name: str) -> bool:
        """Whether *name* is a runner's (or its VM's, or its registration's) of this host.

        So is that of a VM in which a base is prepared or a golden is made; these themselves have others.
        """
        return _pattern(self.host).fullmatch(name) is not None

    def base(self, digest: str) -> str:
        """Return the name of the local base made from the image with *digest* (12 hex digits of it)."""
        return f"{self.host}-{BASE}-{digest}"

    def prepared(self, digest: str, mark: str) -> str:
        """Return the name of a base prepared from the image with *digest*; *mark* tells it from all others (12 hex digits)."""
        return f"{self.base(digest)}-{mark}"

    def golden(self, mark: str) -> str:
        """Return the name of the golden that *mark* tells from all others (12 hex digits)."""
        return f"{self.host}-{GOLDEN}-{mark}"

    def is_golden(self, name: str) -> bool:
        """Whether *name* is that of a golden of this host."""
        return re.fullmatch(rf"{re.escape(self.host)}-{GOLDEN}-[0-9a-f]{{12}}", name) is not None

    def is_base(self, name: str) -> bool:
        """Whether *name* is that of a local base of this host, prepared or as the image is."""
        return re.fullmatch(rf"{re.escape(self.host)}-{BASE}(-[0-9a-f]{{12}}){{1,2}}", name) is not None


@lru_cache(maxsize=8)
def _pattern(host: str) -> re.Pattern[str]:
    return re.compile(
        rf"{re.escape(host)}-(?P<pool>[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)-[{TOKEN_ALPHABET}]{{{TOKEN_LENGTH}}}"
    )
