"""Orphans: VMs and registrations with our prefix that no runner of ours owns.

One is removed only when two looks running have found it, since once may be a race between a look and a launch.
What does not match our names is never touched.
"""

from __future__ import annotations

from collections.abc import Iterator

from app.domain.actions import Action, SweepRegistration, SweepVM
from app.domain.world import World


def sweep(world: World) -> list[Action]:
    """Return the removal of every orphan that an earlier look saw too."""
    return [action for action in _orphans(world) if action.key in world.seen_before]


def orphan_keys(world: World) -> frozenset[str]:
    """Return the keys of all orphans in sight, for the next look to compare with."""
    return frozenset(action.key for action in _orphans(world))


def _orphans(world: World) -> Iterator[SweepVM | SweepRegistration]:
    ours = {runner.name for runner in world.runners}
    for vm in world.host.vms if world.host else ():
        if vm.name not in ours and world.names.is_runner(vm.name):
            yield SweepVM(vm.name)
    for target, look in world.registrations.items():
        for listed in look.registrations:
            if listed.name not in ours and world.names.is_runner(listed.name):
                yield SweepRegistration(target, listed.name, listed.id)
