"""What goes wrong outside, each kind by a rate of its own; with all rates at nothing it is a calm day.

Latencies belong here too, so that calls overlap as they do in life.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from app.ports import GitHubUnavailable, VMError
from app.sandbox import github_faults as faults
from app.sandbox.github_faults import Fault
from app.sandbox.host import ModelHost
from tests.simulation.layers import Call

NEVER = 1e6  # seconds
BOOTS = ("start", "make_base", "make_golden")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How often things go wrong: shares of calls or webhooks, or times an hour where it says so."""

    look: float = 0.0  # the host's list fails
    boot_fails: float = 0.0
    boot_hangs: float = 0.0
    boot_dies: float = 0.0
    resume_fails: float = 0.0  # of a clone of a golden, which boots then
    silent: float = 0.0  # guests that never answer a question
    deliver_fails: float = 0.0
    deliver_lost: float = 0.0  # it arrived, its answer did not
    probe: float = 0.0
    delete: float = 0.0
    vm_crashes: float = 0.0  # an hour
    host_sick: float = 0.0  # an hour: every boot fails for a while, as with a locked keychain
    strangers: float = 0.0  # an hour: a stranger's VM takes a place for a while
    disk_full: float = 0.0  # an hour: too little room for a while
    published: float = 0.0  # an hour: GitHub expects a newer runner, by days or by weeks
    rebuilt: float = 0.0  # an hour: the image is built anew, with or without a runner
    image_lost: float = 0.0  # an hour: an image can no longer be cloned and must be prepared anew
    github_fails: float = 0.0
    github_lost: float = 0.0  # done, and its answer lost
    github_limits: float = 0.0
    github_out: float = 0.0  # an hour: no call is answered for a while
    suspended: float = 0.0  # an hour: the App is suspended on an account for a while
    ghosts: float = 0.0  # an hour: the next runner's registration vanishes as it connects
    idle_reaped: float = 0.0  # an hour: GitHub drops idle runners for a while
    outdated: float = 0.0  # an hour: GitHub turns the runner's version away for a while
    hook_unreachable: float = 0.0
    hook_late: float = 0.0
    hook_twice: float = 0.0
    hook_vanishes: float = 0.0  # it never comes, and GitHub's log says that it did
    hook_out: float = 0.0  # an hour: nothing arrives for a while
    process_crashes: float = 0.0  # an hour
    clock_jumps: float = 0.0  # an hour
    operator: float = 0.0  # an hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """From and to, in seconds."""

    boot: tuple[float, float] = (10.0, 10.0)
    verb: tuple[float, float] = (0.1, 0.1)


CALM = Rates()


@dataclass(slots=True)
class Trouble:
    """Makes it happen, and counts it."""

    host_model: ModelHost
    add_fault: Callable[[str, Fault], None]
    rng: random.Random
    rates: Rates = CALM
    latency: Latency = field(default_factory=Latency)
    silent: set[str] = field(default_factory=set)
    injected: Counter[str] = field(default_factory=Counter)
    host_sick: bool = False
    github_out: bool = False

    def strikes(self, kind: str) -> bool:
        """Whether trouble of a kind, a field of Rates, comes now."""
        rate: float = getattr(self.rates, kind)
        struck = rate > 0 and self.rng.random() < rate
        self.injected[kind] += struck
        return struck

    def host(self, verb: str, call: Call) -> Call:
        async def passed(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(self.rng.uniform(*self.latency.verb))
            self._fail_before(verb, args)
            if verb in BOOTS:
                self._prepare_boot(args[0])
            answer = await call(*args, **kwargs)
            if verb == "deliver" and self.strikes("deliver_lost"):
                raise VMError("the delivery's answer was lost", reason="deliver_lost")
            return answer

        return passed

    def github(self, verb: str, call: Call) -> Call:
        async def passed(*args: Any, **kwargs: Any) -> Any:
            if self.github_out:
                await asyncio.sleep(self.github_latency())
                raise GitHubUnavailable("GitHub is out")
            if self.strikes("github_fails"):
                self.add_fault(verb, faults.answer(502))
            elif self.strikes("github_lost"):
                self.add_fault(verb, faults.hang(10, effect=True))
            elif self.strikes("github_limits"):
                self.add_fault(verb, faults.primary_limit(seconds=60))
            return await call(*args, **kwargs)

        return passed

    def github_latency(self) -> float:
        return self.rng.uniform(*self.latency.verb)

    def _fail_before(self, verb: str, args: tuple[Any, ...]) -> None:
        if verb in BOOTS and self.host_sick:
            raise VMError("the keychain is locked", reason="host_locked", host_wide=True)
        if verb == "probe" and args[0] in self.silent:
            raise VMError(f"{args[0]} does not answer", reason="guest_silent")
        kinds = dict.fromkeys(BOOTS, "boot_fails") | {"deliver": "deliver_fails"}
        kinds |= {v: v for v in ("look", "probe", "delete")}
        if verb in kinds and self.strikes(kinds[verb]):
            raise VMError(f"{verb} fails, by the rates", reason=f"{verb}_failed")

    def _prepare_boot(self, name: str) -> None:
        seconds = self.rng.uniform(*self.latency.boot)
        if self.host_model.goldens and self.strikes("resume_fails"):
            self.host_model.faults.resume = [VMError(f"{name} is not restored", reason="restore_failed")]
        if self.strikes("boot_dies"):
            asyncio.get_running_loop().call_later(seconds / 2, self.crash, name)
        if self.strikes("silent"):
            self.silent.add(name)
        # The host reads it when the call behind this one begins, before anything else can happen.
        self.host_model.boot_seconds = NEVER if self.strikes("boot_hangs") else seconds

    def crash(self, name: str) -> None:
        """Let a VM that still runs end as if its guest had panicked."""
        if any(vm.name == name for vm in self.host_model.running):
            self.host_model.end(name, "guest_panicked")
