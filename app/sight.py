"""What the reconciler remembers between passes: the last looks, and what is in hand.

All of it can be lost at any moment: after a restart every look is simply due again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from app.domain.drift import Launches
from app.domain.pools import Target
from app.domain.sweep import orphan_keys
from app.domain.world import (
    GroupLook,
    GuestLook,
    HostLook,
    Poll,
    RegistrationsLook,
    RunnerRelease,
    World,
)


@dataclass(slots=True)
class Sight:
    """The last looks. Only the reconciler's own task changes it."""

    host: HostLook | None = None
    host_changed_at: datetime | None = None
    ended: dict[str, str] = field(default_factory=dict)  # VMs whose end the host told of, and how
    host_trouble: str | None = None  # why the last look at the host failed
    github_trouble: str | None = None  # why the last question to GitHub had no answer
    registrations: dict[Target, RegistrationsLook] = field(default_factory=dict)
    known_targets: set[Target] = field(default_factory=set)
    guests: dict[str, GuestLook] = field(default_factory=dict)
    silent_since: dict[str, datetime] = field(
        default_factory=dict
    )  # guests that were asked, and do not answer
    groups: dict[tuple[str, str | None], GroupLook] = field(default_factory=dict)
    seen_before: frozenset[str] = frozenset()
    log_read_at: datetime | None = None  # the App's delivery log, to its end
    listed_at: datetime | None = None  # the repositories the App may see
    polls: dict[str, Poll] = field(default_factory=dict)  # by repository
    repositories: set[str] = field(default_factory=set)  # heard of, or listed by GitHub
    missed_at: datetime | None = None  # when a webhook was last found that had not arrived
    release: RunnerRelease | None = None  # the actions runner that GitHub expects
    released_at: datetime | None = None  # when GitHub was last asked for it
    versions: dict[str, str] = field(default_factory=dict)  # by pool: the runner in its image
    images_at: dict[tuple[str, str], datetime] = field(
        default_factory=dict
    )  # by host and image: last fetched
    launches: Launches = field(default_factory=Launches)  # what is usual on this host
    to_refresh: dict[str, datetime] = field(
        default_factory=dict
    )  # images that an operator wants asked about, and since when
    to_drop: set[str] = field(default_factory=set)  # bases that an operator wants removed
    to_prepare: set[str] = field(default_factory=set)  # images whose base an operator wants prepared

    def saw_host(self, look: HostLook, world: World) -> None:
        """Take a new look at the host; orphans in the one before have now been seen."""
        self._note_orphans("vm:", world)
        self.host, self.host_trouble = look, None

    def saw_registrations(self, target: Target, look: RegistrationsLook, world: World) -> None:
        """Take a new look at a target's runners; orphans in the one before have now been seen."""
        self._note_orphans(f"registration:{target}:", world)
        self.registrations[target] = look
        self.known_targets.add(target)

    def _note_orphans(self, kind: str, world: World) -> None:
        # Of this kind alone: a look elsewhere shows nothing of the others a second time.
        others = {key for key in self.seen_before if not key.startswith(kind)}
        self.seen_before = frozenset(others | {key for key in orphan_keys(world) if key.startswith(kind)})

    def forget_looks(self) -> None:
        """Take every look for outdated: the clock that their times were read from is no more."""
        self.host = self.host_changed_at = None
        self.registrations.clear()
        self.guests.clear()
        self.silent_since.clear()
        self.groups.clear()

    def confirmed_absent(self, name: str) -> None:
        """Forget a VM that the host confirmed to be gone, without waiting for the next look."""
        self.guests.pop(name, None)
        self.silent_since.pop(name, None)
        self.ended.pop(name, None)
        if self.host is not None:
            kept = tuple(vm for vm in self.host.vms if vm.name != name)
            self.host = replace(self.host, vms=kept)

    def confirmed_unlisted(self, target: Target, name: str) -> None:
        """Forget a registration that GitHub confirmed to be gone."""
        look = self.registrations.get(target)
        if look is not None:
            kept = tuple(r for r in look.registrations if r.name != name)
            self.registrations[target] = replace(look, registrations=kept)
