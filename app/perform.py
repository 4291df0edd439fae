"""How each action is carried out: write the intent, act, write the outcome. What belongs together is in :mod:`app.acts`.

Every action is idempotent, and "already gone" is success. A crash between any two lines leaves a state that the
next pass understands: the rows say what was meant, the looks say what came of it.
"""

from __future__ import annotations

from typing import assert_never

import structlog

from app.acts.bases import Bases
from app.acts.ending import Ending
from app.acts.goldens import Goldens
from app.acts.images import Images
from app.acts.intake import Intake
from app.acts.launching import Launching
from app.acts.looking import Looking
from app.acts.means import Means
from app.acts.pulls import Pulls
from app.domain import actions as do
from app.domain.runners import Purpose, RunnerState
from app.domain.world import World

log = structlog.get_logger(__name__)


class Performer:
    """Carries out the actions of a plan."""

    def __init__(self, means: Means) -> None:
        self._means, self._store, self._vms = means, means.store, means.vms
        self._intake, self._images = Intake(means), Images(means)
        self._pulls, self._bases, self._goldens = Pulls(means), Bases(means), Goldens(means)
        self._launching = Launching(means, self._goldens)
        self._ending, self._looking = Ending(means), Looking(means)

    async def perform(self, action: do.Action, world: World) -> None:
        """Carry *action* out. Raises OutsideError where trying again later may help."""
        match action:
            case do.Claim():
                await self._launching.claim(action, world)
            case do.Reseat(slots):
                await self._store.reseat(dict(slots))
                log.info("reseated", slots=dict(slots))
            case do.Boot(runner):
                await self._launching.boot(runner)
            case do.FetchImage(runner):
                await self._pulls.make(runner)
            case do.MakeBase(runner, target):
                await self._bases.make(runner, target)
            case do.MakeGolden(runner):
                await self._goldens.make(runner)
            case do.Mint():
                await self._launching.mint(action)
            case do.Note():
                await self._launching.note(action, world)
            case do.Hold(runner):
                await self._vms.hold(runner.name, runner.held_until)
                await self._store.amend(runner.name, guest_held_until=runner.held_until)
            case do.Stop(runner=runner, reason=reason):
                await self._means.move(runner.name, RunnerState.STOPPING, reason)
                await self._stopped(action)
            case do.Retire():
                await self._ending.retire(action, world)
            case do.Destroy(runner):
                await self._ending.destroy(runner)
            case do.SettleDebt(runner):
                await self._ending.settle(runner)
            case do.SweepVM(name):
                await self._ending.sweep_vm(name)
            case do.SweepRegistration():
                await self._ending.sweep_registration(action)
            case do.PrepareImage(image):
                await self._images.prepare(image)
            case do.RefreshImage(image):
                await self._images.refresh(image, world)
            case do.DropBase(name, in_use):
                await self._images.drop_base(name, in_use)
            case do.DropGolden(name):
                await self._goldens.drop(name)
            case do.LookAtHost():
                await self._looking.host(world)
            case do.LookAtRegistrations(target):
                await self._looking.registrations(target, world)
            case do.LookAtGroup():
                await self._looking.group(action)
            case do.LookAtGuest(runner):
                await self._looking.guest(runner.name)
            case do.CheckJob(job_id):
                await self._looking.job(job_id, world)
            case do.ReadDeliveryLog():
                await self._intake.read_log()
            case do.ListRepositories():
                await self._intake.list_repositories()
            case do.PollJobs(repository):
                await self._intake.poll(repository)
            case do.LookAtRelease(target):
                await self._looking.release(target)
            case _:
                assert_never(action)

    async def _stopped(self, action: do.Stop) -> None:
        match action.runner.purpose:
            case Purpose.JOBS:
                await self._ending.count_barren(action)
            case Purpose.BASE:
                await self._bases.stopped(action.runner, action.reason)
            case Purpose.PULL:
                await self._pulls.stopped(action.runner, action.reason)
            case Purpose.GOLDEN:
                await self._goldens.stopped(action.runner, action.reason)
